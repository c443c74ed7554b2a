//! Samples: in the file, in the result, at a Pushgateway; and what is watched in a container (`monitor.trackMode` BOTH).

use std::time::Duration;

use serde_json::{Value, json};
use testrig_host::docker::Docker;

use crate::{containers::engine, rig::Rig};

/// A run that goes on until the rest of the shell condition holds, however slow the machine is.
fn run_until(rig: &Rig, condition: &str) -> Value {
    let path = rig.place.dir.path().join("until.sh");
    let text = format!("until [ {condition} ]; do sleep 0.1; done\necho '{{\"accuracy\": 0.5}}' > metrics.json\n");
    std::fs::write(&path, text).expect("written");
    let mut run = rig.run();
    run["test.script"] = json!(path);
    run
}

fn samples(rig: &Rig) -> Vec<Value> {
    rig.read("system-monitor.log").lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_of_host_and_process_come_as_figures_into_the_result() {
    let rig = Rig::new(6101);
    // At another interval than this one it would not be over in time.
    let run = run_until(&rig, "$(wc -l < system-monitor.log) -ge 16");
    let mut job = rig.job(&[]);
    job["monitor"]["statsSampleIntervalSeconds"] = json!(0.1);
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let samples = samples(&rig);
    let last = samples.last().expect("a sample");
    for name in ["memory_bytes", "cpu_total_ns", "network_loopback_bytes", "block_write_bytes", "processes"] {
        assert!(last["service"]["sample"][name].is_u64(), "{name} is not in {last}");
    }
    let monitor = &rig.result()["monitor"];
    // One more may have been on its way when the result was written.
    let counted = monitor["samples"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a number");
    assert!((1..=samples.len()).contains(&counted), "{counted} of {}", samples.len());
    let samples = &samples[..counted];
    for name in ["cpu_percent", "load1", "memory_used_bytes", "disk_available_bytes"] {
        assert!(
            ["min", "mean", "max", "p95"].iter().all(|of| monitor["host"][name][of].is_number()),
            "{name}: {monitor}"
        );
    }
    let memory: Vec<f64> =
        samples.iter().filter_map(|sample| sample["service"]["sample"]["memory_bytes"].as_f64()).collect();
    let most = memory.iter().copied().fold(0.0, f64::max);
    assert_eq!(monitor["service"]["memory_bytes"]["max"].as_f64(), Some(most));
    assert!(
        samples.len() < 2 || monitor["service"]["network_loopback_bytes_per_second"]["max"].is_number(),
        "{monitor}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_collect_metrics_nothing_is_sampled_and_nothing_is_pushed() {
    let rig = Rig::new(6102);
    let mut job = rig.job(&[]);
    // Nobody listens there: a push would be a warning.
    job["metricsPushEndpoint"] = json!(format!("http://127.0.0.1:{}", rig.port));
    let mut run = rig.run();
    run["monitorOverrides.collectMetrics"] = json!(false);
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.read("system-monitor.log"), "");
    assert_eq!(rig.result()["monitor"], Value::Null);
    let warnings = rig.result()["warnings"].to_string();
    assert!(warnings.contains("metricsPushEndpoint is not used") && !warnings.contains("did not reach"), "{warnings}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_cannot_be_reached_is_a_warning_and_no_failure() {
    let rig = Rig::with(6103, |env| env.allowed_hosts = Some(vec!["127.0.0.1".into()]));
    let mut job = rig.job(&[]);
    job["metricsPushEndpoint"] = json!("http://127.0.0.1:1/gateway?token=s3cr3t");
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let warnings = rig.result()["warnings"].to_string();
    assert!(warnings.contains("the figures of the run did not reach metricsPushEndpoint"), "{warnings}");
    assert!(!rig.log_text().contains("s3cr3t"), "{}", rig.log_text());

    job["metricsPushEndpoint"] = json!("http://elsewhere:9091");
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert!(
        result.message.contains("jobParams.metricsPushEndpoint: the host `elsewhere` is not allowed here"),
        "{}",
        result.message
    );
}

/// What a Pushgateway has of a run: name of the figure and, in its labels, the value of one of them.
async fn pushed(rig: &Rig, url: &str) -> Vec<(String, Value)> {
    let answer = rig.env.http.get(format!("{url}/api/v1/metrics")).send().await.expect("it answers");
    let all: Value = serde_json::from_str(&answer.text().await.expect("text")).expect("JSON");
    let task = rig.instance.to_string();
    let groups = all["data"].as_array().expect("groups").clone();
    let own = groups.into_iter().filter(|group| group["labels"]["instance_id"] == task.as_str());
    own.flat_map(|group| group.as_object().expect("an object").clone())
        .filter(|(name, _)| name.starts_with("testrig_"))
        .map(|(name, metric)| (name, metric["metrics"][0].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_pushgateway_gets_samples_while_it_runs_and_the_result() {
    let Ok(url) = std::env::var("PUSHGATEWAY_URL") else {
        return crate::rig::skipped(
            "monitoring::a_real_pushgateway_gets_samples_while_it_runs_and_the_result",
            "PUSHGATEWAY_URL is not set",
        );
    };
    let rig = Rig::new(i64::from(std::process::id()) * 1000 + 300);
    let mut job = rig.job(&[]);
    job["metricsPushEndpoint"] = json!(url);
    let mut run = run_until(&rig, "-e go");
    // A value that has to be coded in the gateway's path.
    run["platformTaskId"] = json!("T 模型");
    let ctx = rig.context(&job, &run);
    // The samples are there while it runs, and nothing of the result.
    let seen = async {
        rig.logged("stage load: begins").await;
        loop {
            let found = pushed(&rig, &url).await;
            if found.iter().any(|(name, _)| name == "testrig_service_memory_bytes") {
                assert!(!found.iter().any(|(name, _)| name == "testrig_run_success"), "{found:?}");
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        std::fs::write(rig.log_dir().join("go"), "").expect("written");
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), seen);
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.result()["warnings"], json!([]));
    let found = pushed(&rig, &url).await;
    let value = |name: &str| found.iter().find(|(known, _)| known == name).map(|(_, metric)| metric.clone());
    assert_eq!(value("testrig_run_success").expect("pushed")["value"], "1");
    let accuracy = value("testrig_result_accuracy").expect("pushed");
    assert_eq!(accuracy["value"], "0.5");
    let labels = &accuracy["labels"];
    assert_eq!(
        (labels["job"].as_str(), labels["platform_task_id"].as_str()),
        (Some("testrig"), Some("T 模型")),
        "{labels}"
    );
    assert_eq!((labels["bizLine"].as_str(), labels["model_key"].as_str()), (Some("tests"), Some("m")), "{labels}");
    assert!(value("testrig_host_cpu_percent").is_some(), "samples stay beside the result");
}

/// A container whose service is a child of its main process and says its pid.
fn job_with_child(engine: &crate::containers::Engine, rig: &Rig) -> Value {
    let script = format!(
        "/usr/bin/testrig llm-stub --listen 0.0.0.0:{} --tokens 4 --ttft-ms 5 &\necho $! > /app/logs/pid\nwhile :; do sleep 1; done",
        rig.port
    );
    let mut job = engine.job(rig, &engine.stub, &script);
    job["healthCheck"]["failureThreshold"] = json!(1000);
    job["monitor"]["stopTimeoutSeconds"] = json!(0);
    job
}

async fn kill_service(docker: &Docker, id: &str) {
    let kill = ["sh", "-c", "kill -9 $(cat /app/logs/pid)"].map(str::to_owned);
    let done = docker.exec(id, &kill, Duration::from_secs(30), 200).await.expect("the container runs");
    assert_eq!(done.code, Some(0), "{}", done.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_process_in_a_container_is_sampled_and_its_end_noticed_with_track_mode_both() {
    let name = "monitoring::the_service_process_in_a_container_is_sampled_and_its_end_noticed_with_track_mode_both";
    let Some(engine) = engine(name) else { return };
    let rig = engine.rig(310);
    let mut job = job_with_child(&engine, &rig);
    job["monitor"]["trackMode"] = json!("BOTH");
    let mut run = engine.run(&rig);
    // A load would only take the machine's time.
    run["test.script"] = run_until(&rig, "-e never")["test.script"].clone();
    let ctx = rig.context(&job, &run);
    let end = async {
        rig.logged("stage load: begins").await;
        while !rig.read("system-monitor.log").contains("\"listens\":true") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        kill_service(&engine.docker, &engine.containers(&rig).await[0].id).await;
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), end);
    assert!(
        result.message.starts_with("stage load failed: the service process in the container (pid "),
        "{}\n{}",
        result.message,
        rig.log_text()
    );
    assert!(result.message.contains("its container goes on (monitor.trackMode BOTH)"), "{}", result.message);
    let process =
        samples(&rig).into_iter().map(|sample| sample["service"]["process"].clone()).find(|p| p["listens"] == true);
    let process = process.expect("sampled");
    assert!(process["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{process}");
    assert_eq!(process["name"], "testrig", "the service and not its shell: {process}");
    assert!(rig.result()["monitor"]["process"]["memory_bytes"]["max"].is_number(), "{}", rig.result()["monitor"]);
    assert_eq!(engine.containers(&rig).await.len(), 0);
}
