//! Test scripts on the host: `test.driver` script.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use powerjob_worker::{Processor, StopReason, TaskContext, WorkflowContext};
use serde_json::{Value, json};
use testrig_processors::{AggregateMetrics, Database};

use crate::rig::Rig;

/// A script of this text in the rig's directory.
fn script(rig: &Rig, name: &str, text: &str) -> PathBuf {
    let path = rig.place.dir.path().join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn run_with(rig: &Rig, script: &std::path::Path) -> Value {
    let mut run = rig.run();
    run["test"] = json!({"driver": "script", "script": script});
    run
}

fn test_lines(rig: &Rig) -> Vec<String> {
    rig.lines().into_iter().filter(|line| line.source == "test").map(|line| line.text).collect()
}

/// The platform's own scripts read their arguments strictly: one that they do not know ends them.
const STRICT: &str = r#"
import argparse, json, os, sys, urllib.request

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-name", required=True)
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--callback-url", default=None)
    args = parser.parse_args()
    print(f"[INFO] testing {args.model_name} from {args.model_path}", flush=True)
    body = json.dumps({"model": args.model_name, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{args.port}/v1/chat/completions", body, {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=30))
    assert answer["choices"], answer
    print("qps", os.environ["QPS"], "runs", os.environ["RUN_SECONDS"], "for", os.environ["PLATFORM_TASK_ID"])
    with open(os.environ["METRICS_JSON"], "w") as out:
        json.dump({"accuracy": 0.75, "bleu": {"avg": 31.5}, "message": "3 of 4", "failures": {"wrong": 1}}, out)

if __name__ == "__main__":
    main()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_script_with_the_specifications_arguments_works_and_its_figures_reach_every_place() {
    let rig = Rig::with(6001, |env| {
        let url = format!("sqlite://{}", env.state_dir.join("results.db").display());
        env.databases.insert("default".into(), Database { url, ..Default::default() });
    });
    let path = script(&rig, "bench.py", STRICT);
    let mut job = rig.job(&[]);
    job["hostScriptDir"] = json!(rig.place.dir.path());
    let mut run = run_with(&rig, &path);
    run["test"]["script"] = json!("bench.py");
    run["test"]["interpreter"] = json!("python3");
    run["scenario"] = json!("smoke");
    run["qps"] = json!(2.5);
    run["envVars"] = json!({"MODEL_PATH": "/data/models/m"});
    let mut ctx = rig.context(&job, &run);
    ctx.workflow = WorkflowContext::new(HashMap::new());
    let result = rig.process(&ctx).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(result.message, "test script succeeded, 3 of 4, accuracy 0.75, bleu_avg 31.5");
    assert_eq!(test_lines(&rig), ["[INFO] testing m from /data/models/m", "qps 2.5 runs 1 for T1"]);
    assert_eq!(rig.read("client-req-smoke.log").lines().collect::<Vec<_>>(), test_lines(&rig));

    let found = rig.result();
    assert_eq!(
        (found["metrics"]["accuracy"].as_f64(), found["metrics"]["bleu_avg"].as_f64()),
        (Some(0.75), Some(31.5))
    );
    assert_eq!(found["failures"], json!({"wrong": 1}));
    assert_eq!(found["load"]["driver"], "script");
    assert_eq!(found["load"]["exit"]["code"], 0);
    let stages: Vec<&str> = found["stages"]
        .as_array()
        .expect("as it should")
        .iter()
        .map(|s| s["name"].as_str().expect("as it should"))
        .collect();
    assert_eq!(stages, ["plan", "lease", "pull", "create", "start", "health", "load", "teardown", "result"]);

    let left = ctx.workflow.appended();
    let summary: Value = serde_json::from_str(&left["metricsSummary"]).expect("as it should");
    assert_eq!(summary, json!({"accuracy": 0.75, "bleu_avg": 31.5}), "what the notification is told");

    // The next node writes them into the database, as it does with those of the load generator.
    let next = rig.context(
        &json!({"jobType": "AGGREGATE_METRICS", "metricsSource": "file", "resultDbKey": "default", "outputTable": "summary"}),
        &json!({"platformTaskId": "T1", "env": "dev", "modelKey": "m", "datasetId": left["datasetId"], "upstreamInstanceId": "6001",
            "metricsFilePath": left["metricsFilePath"], "timeRange": serde_json::from_str::<Value>(&left["timeRange"]).expect("as it should")}),
    );
    let written = AggregateMetrics::new(Arc::clone(&rig.env)).process(next).await;
    assert!(written.success, "{}", written.message);
    let conn = testrig_store::rusqlite::Connection::open(rig.env.state_dir.join("results.db")).expect("as it should");
    let row: (f64, f64, String) = conn
        .query_row("SELECT accuracy, bleu_avg, failures_json FROM summary", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("as it should");
    assert_eq!(row, (0.75, 31.5, r#"{"wrong":1}"#.to_owned()));
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_of_the_job_replace_the_flags_and_have_their_placeholders_filled() {
    let rig = Rig::new(6002);
    let path = script(&rig, "args.sh", "#!/bin/sh\n# knows --port\necho \"$@\"\n");
    let mut run = run_with(&rig, &path);
    run["test"]["args"] = json!(["--url={baseUrl}", "{modelKey}", "{unknown}"]);
    let result = rig.process(&rig.context(&rig.job(&[]), &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(test_lines(&rig), [format!("--url=http://127.0.0.1:{} m {{unknown}}", rig.port)]);
    assert_eq!(result.message, "test script succeeded", "without figures there is nothing more to say");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_a_script_writes_are_added_up_as_those_of_the_load_generator() {
    let rig = Rig::new(6003);
    let record = |id: u32, ok: bool| {
        json!({"v": 1, "id": id.to_string(), "phase": "load", "start_unix_ms": 1, "sent_us": 1000, "first_token_us": 11_000,
            "last_token_us": 31_000, "end_us": 31_000, "ok": ok, "error_class": (!ok).then_some("timeout"), "completion_tokens": 3})
    };
    let path = script(
        &rig,
        "records.sh",
        &format!(
            "cat >> $RECORDS_FILE <<'X'\n{}\n{}\nX\necho '{{\"qps\": 9}}' > metrics.json\n",
            record(1, true),
            record(2, false)
        ),
    );
    let result = rig.process(&rig.context(&rig.job(&[]), &run_with(&rig, &path))).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let metrics = &rig.result()["metrics"];
    assert_eq!((metrics["requests"].as_u64(), metrics["ttft_p50"].as_f64()), (Some(2), Some(10.0)));
    assert_eq!(metrics["qps"], 9, "what the script says itself is the truer word");
    assert_eq!(rig.result()["failures"], json!({"timeout": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_fails_or_says_so_fails_the_run_with_its_own_words() {
    let cases = [
        (
            "echo wrong answer; echo '{\"accuracy\": 0.1}' > metrics.json; exit 3",
            "failed: exit code 3; its last lines:\n  | wrong answer",
        ),
        ("kill -9 $$", "failed: killed by signal 9 (SIGKILL)"),
        (
            "echo '{\"success\": false, \"message\": \"2 of 9 cases\"}' > metrics.json",
            "says in metrics.json that it did not succeed: 2 of 9 cases",
        ),
        ("echo '{\"success\": true}' > metrics.json; exit 4", "failed: exit code 4"),
        ("echo accuracy=1 > metrics.json", "`"),
        ("mkdir metrics.json", "is no file"),
    ];
    for (index, (text, expected)) in (0..).zip(cases) {
        let rig = Rig::new(6010 + index);
        let path = script(&rig, "test.sh", text);
        let result = rig.process(&rig.context(&rig.job(&[]), &run_with(&rig, &path))).await;
        assert!(
            !result.success && result.message.starts_with("stage load failed: the test script `"),
            "{}",
            result.message
        );
        assert!(result.message.contains(expected), "`{expected}` is not in {}", result.message);
        assert_eq!(rig.result()["status"], "FAILED");
        if index == 0 {
            assert_eq!(rig.result()["metrics"]["accuracy"], 0.1, "figures of a failed test are kept");
        }
        assert_eq!(rig.survivors(), [] as [String; 0]);
    }
}

/// Leaves a child that is in no group of the script's and hears no signal.
const STUBBORN: &str = "(setsid sh -c 'trap \"\" TERM; while :; do sleep 5; done' &)\necho at work\nsleep 600\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_and_the_time_limit_end_a_script_with_all_that_it_started() {
    let rig = Rig::new(6020);
    let path = script(&rig, "long.sh", STUBBORN);
    let ctx = rig.context(&rig.job(&[]), &run_with(&rig, &path));
    let stop = async {
        rig.logged("test at work").await;
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), stop);
    assert!(result.message.starts_with("stage load was stopped: the instance was stopped"), "{}", result.message);
    assert_eq!(rig.survivors(), [] as [String; 0]);

    let rig = Rig::new(6021);
    let path = script(&rig, "long.sh", STUBBORN);
    let ctx = rig.context(&rig.job(&[]), &run_with(&rig, &path));
    let limit = async {
        rig.logged("test at work").await;
        ctx.stop.raise(StopReason::TimedOut);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), limit);
    assert!(result.message.contains("instanceTimeoutMS"), "{}", result.message);
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_under_a_script_ends_it_and_is_what_is_told() {
    let rig = Rig::new(6022);
    let path = script(&rig, "long.sh", "echo at work\nkill -9 $(cat service.pid)\nsleep 600\n");
    let mut job = rig.job(&[]);
    let command = format!("echo $$ > $LOG_DIR/service.pid; exec {} stub --port {{servicePort}}", crate::common::HELPER);
    job["service.command"] = json!(["sh", "-c", command]);
    let result = rig.process(&rig.context(&job, &run_with(&rig, &path))).await;
    assert!(
        result.message.starts_with("stage load failed: the service ended by itself: killed by signal 9"),
        "{}\n{}",
        result.message,
        rig.log_text()
    );
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

fn resumed(ctx: &TaskContext) -> TaskContext {
    TaskContext { resumed: true, ..ctx.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_outlives_a_kill_of_the_agent_and_is_not_started_twice() {
    // At work while the agent is away, and ended while it is away.
    for (instance, waits_for_end) in [(6030, false), (6031, true)] {
        let rig = Rig::new(instance);
        let text = "echo start\nuntil [ -e go ]; do sleep 0.1; done\necho end\necho '{\"accuracy\": 1}' > metrics.json\ntouch ended\n";
        let path = script(&rig, "slow.sh", text);
        let ctx = rig.context(&rig.job(&[]), &run_with(&rig, &path));
        rig.cut_at(&ctx, "test start").await;
        let dir = rig.log_dir();
        if waits_for_end {
            std::fs::write(dir.join("go"), "").expect("as it should");
            while !dir.join("ended").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let again = resumed(&ctx);
        let go = async {
            rig.logged("the test script was taken over where it is").await;
            std::fs::write(dir.join("go"), "").expect("as it should");
        };
        let (result, ()) = tokio::join!(rig.process(&again), go);
        assert!(result.success, "{}\n{}", result.message, rig.log_text());
        assert_eq!(test_lines(&rig), ["start", "end"], "every line once");
        assert_eq!(rig.result()["metrics"]["accuracy"], 1);
        assert_eq!(rig.result()["restarts"], 1);
        assert_eq!(rig.survivors(), [] as [String; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_cannot_be_run_is_said_before_anything_starts() {
    let rig = Rig::with(6040, |env| env.allowed_programs = Some(vec![crate::common::HELPER.into(), "/bin/sh".into()]));
    let good = script(&rig, "good.sh", "true\n");
    let perl = script(&rig, "bad.pl", "#!/usr/bin/perl\n");
    let cases = [
        (json!({"driver": "script"}), "instanceParams.test.script: is missing; accepted: a script on the host"),
        (
            json!({"script": "good.sh"}),
            "instanceParams.test.script: found `good.sh`; accepted: an absolute path, or one below hostScriptDir",
        ),
        (json!({"script": "/etc/passwd"}), "instanceParams.test.script: `/etc/passwd` is outside of the allowed roots"),
        (
            json!({"script": rig.place.dir.path().join("none.sh")}),
            "is no file; accepted: a script inside the allowed roots",
        ),
        (json!({"script": perl}), "instanceParams.test.script: the program `/usr/bin/perl` is not allowed here"),
        (
            json!({"script": good, "interpreter": "/bin/bash"}),
            "instanceParams.test.interpreter: the program `/bin/bash` is not allowed here",
        ),
        (json!({"script": 5}), "instanceParams.test.script: found the number 5"),
        (json!({"script": good, "args": "--port"}), "instanceParams.test.args: found the text"),
        (json!({"driver": "container", "command": ["true"]}), "instanceParams.test.driver: needs a container"),
        (json!({"command": ["true"]}), "instanceParams.test.command: needs a container"),
    ];
    for (test, expected) in cases {
        let mut run = rig.run();
        run["test"] = test.clone();
        let result = rig.process(&rig.context(&rig.job(&[]), &run)).await;
        assert!(!result.success && result.message.contains("stage plan failed"), "{test}: {}", result.message);
        assert!(result.message.contains(expected), "{test}: `{expected}` is not in {}", result.message);
    }
    let files: Vec<_> =
        std::fs::read_dir(rig.log_dir()).expect("there").map(|file| file.expect("file").file_name()).collect();
    assert_eq!(files, ["result.json"], "nothing but the result of the first try");
}
