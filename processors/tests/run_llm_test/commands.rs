//! Test commands in the service's container: `test.driver` container. On a real engine.

use std::time::Duration;

use powerjob_worker::{StopReason, TaskContext};
use serde_json::{Value, json};

use crate::{
    containers::{Engine, engine},
    rig::Rig,
};

fn run_with(engine: &Engine, rig: &Rig, script: &str) -> Value {
    let mut run = engine.run(rig);
    run["test"] = json!({"driver": "container", "command": ["sh", "-c", script, "test", "{modelKey}", "{baseUrl}"]});
    run
}

/// A container that only waits: what is tested here is the command.
fn job(engine: &Engine, rig: &Rig) -> Value {
    let mut job = engine.job(rig, &engine.busybox, "echo ready; while :; do sleep 1; done");
    job["healthCheck"] = json!({"type": "NONE"});
    job["monitor"]["stopTimeoutSeconds"] = json!(0);
    job
}

fn test_lines(rig: &Rig) -> Vec<String> {
    rig.lines().into_iter().filter(|line| line.source == "test").map(|line| line.text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_in_the_container_and_its_exit_code_and_figures_are_the_result() {
    let Some(engine) = engine("commands::a_command_runs_in_the_container_and_its_exit_code_and_figures_are_the_result")
    else {
        return;
    };
    let rig = engine.rig(200);
    let script = "echo \"$1 at $2 for $PLATFORM_TASK_ID with $MODEL_KEY\"; [ -f /.dockerenv ] && echo inside >&2
        echo '{\"accuracy\": 0.5}' > $METRICS_JSON; ls $LOG_DIR/metrics.json";
    let result = rig.process(&rig.context(&job(&engine, &rig), &run_with(&engine, &rig, script))).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(result.message, "test container succeeded, accuracy 0.5");
    let mut lines = test_lines(&rig);
    lines.sort();
    let first = format!("m at http://127.0.0.1:{} for T-{} with qwen", rig.port, rig.instance);
    assert_eq!(lines, ["/app/logs/metrics.json".to_owned(), "inside".to_owned(), first]);
    assert_eq!(rig.result()["metrics"]["accuracy"], 0.5);
    assert_eq!(rig.result()["load"]["driver"], "container");
    assert_eq!(engine.containers(&rig).await.len(), 0);

    let rig = engine.rig(201);
    let result = rig.process(&rig.context(&job(&engine, &rig), &run_with(&engine, &rig, "echo bad; exit 3"))).await;
    assert!(
        !result.success && result.message.contains("failed: exit code 3; its last lines:\n  | bad"),
        "{}",
        result.message
    );
    assert_eq!(engine.containers(&rig).await.len(), 0);

    let rig = engine.rig(202);
    let mut run = engine.run(&rig);
    run["test"] = json!({"command": ["/no/such/program"]});
    let result = rig.process(&rig.context(&job(&engine, &rig), &run)).await;
    assert!(!result.success && result.message.contains("/no/such/program"), "{}", result.message);
    assert_eq!(engine.containers(&rig).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_a_command_also_where_the_service_is_left_running() {
    let Some(engine) = engine("commands::a_stop_ends_a_command_also_where_the_service_is_left_running") else { return };
    let rig = engine.rig(210);
    let ctx = rig.context(&job(&engine, &rig), &run_with(&engine, &rig, "echo at work; sleep 600"));
    let stop = async {
        rig.logged("test at work").await;
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), stop);
    assert!(result.message.starts_with("stage load was stopped"), "{}", result.message);
    assert_eq!(engine.containers(&rig).await.len(), 0);

    let rig = engine.rig(211);
    let mut job = job(&engine, &rig);
    job["monitor"]["killOnTimeout"] = json!(false);
    let ctx = rig.context(&job, &run_with(&engine, &rig, "echo at work; echo $$ > $LOG_DIR/pid; sleep 600"));
    let limit = async {
        rig.logged("test at work").await;
        ctx.stop.raise(StopReason::TimedOut);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), limit);
    assert!(!result.success && rig.result()["warnings"].to_string().contains("was left running"), "{}", result.message);
    let left = engine.containers(&rig).await;
    assert_eq!(left.len(), 1, "the service stays");
    let pid = rig.read("pid");
    let look = ["kill".to_owned(), "-0".to_owned(), pid.trim().to_owned()];
    let found = engine.docker.exec(&left[0].id, &look, Duration::from_secs(30), 200).await.expect("as it should");
    assert_eq!(found.code, Some(1), "the command does not stay: {}", found.output);
    engine.docker.remove(&left[0].id).await.expect("as it should");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_outlives_a_kill_of_the_agent_and_is_not_started_twice() {
    let Some(engine) = engine("commands::a_command_outlives_a_kill_of_the_agent_and_is_not_started_twice") else {
        return;
    };
    // At work while the agent is away, and ended while it is away.
    for (instance, waits_for_end) in [(220, false), (221, true)] {
        let rig = engine.rig(instance);
        let script = "echo start; echo start >> $LOG_DIR/starts; until [ -e $LOG_DIR/go ]; do sleep 0.1; done
            echo '{\"accuracy\": 1}' > $METRICS_JSON; touch $LOG_DIR/ended";
        let ctx = rig.context(&job(&engine, &rig), &run_with(&engine, &rig, script));
        rig.cut_at(&ctx, "test start").await;
        let dir = rig.log_dir();
        if waits_for_end {
            std::fs::write(dir.join("go"), "").expect("as it should");
            while !dir.join("ended").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let go = async {
            rig.logged("the test command was taken over where it is").await;
            std::fs::write(dir.join("go"), "").expect("as it should");
        };
        let again = TaskContext { resumed: true, ..ctx.clone() };
        let (result, ()) = tokio::join!(rig.process(&again), go);
        assert!(result.success, "{}\n{}", result.message, rig.log_text());
        assert_eq!(rig.read("starts"), "start\n");
        assert_eq!(rig.result()["metrics"]["accuracy"], 1);
        assert!(rig.result()["warnings"].to_string().contains("what it wrote meanwhile is not in the log"));
        assert_eq!(engine.containers(&rig).await.len(), 0);
    }
}
