//! Service control with real processes: they outlive the job, are found again, replaced, looked at and ended.

#[path = "../common/mod.rs"]
mod common;
mod rig;
mod ways;

use std::time::Duration;

use powerjob_worker::{StopReason, StopSignal};
use serde_json::{Value, json};

use common::HELPER;
use rig::{Rig, free_port};

/// A service as a command: the stand-in LLM service.
fn stub(port: u16, extra: &Value) -> Value {
    let mut job = json!({"modelName": "stub", "modelPath": "/none", "port": port,
        "command": [HELPER, "stub", "--port", port.to_string()],
        "healthCheck": {"path": "/healthz", "intervalMillis": 50, "maxRetry": 400}});
    job.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    job
}

fn action(name: &str) -> Value {
    json!({"modelName": "stub", "action": name})
}

#[tokio::test]
async fn a_service_outlives_its_job_is_found_again_and_ended() {
    let rig = Rig::new();
    let port = free_port();
    let job = stub(port, &json!({}));
    let started = rig.run("ServiceControl", &job).await;
    assert!(started.success, "{}\n{}", started.message, rig.log());
    assert!(started.message.contains(&format!("port {port}")), "{}", started.message);
    let mark = format!("--port\0{port}");
    let pids = rig.processes(&mark);
    assert!(!pids.is_empty(), "it lives on after the job");
    // A start of the same is no second start.
    let again = rig.run("ServiceControl", &job).await;
    assert!(again.success && again.message.contains("runs already"), "{}", again.message);
    assert_eq!(rig.processes(&mark), pids);
    let status = rig.run("ServiceControl", &action("status")).await;
    assert!(status.success && status.message.contains("is up"), "{}", status.message);
    let restarted = rig.run("ServiceControl", &stub(port, &json!({"action": "restart"}))).await;
    assert!(restarted.success, "{}", restarted.message);
    let after = rig.processes(&mark);
    assert!(!after.is_empty() && after.iter().all(|pid| !pids.contains(pid)), "{pids:?} {after:?}");
    let stopped = rig.run("ServiceControl", &action("stop")).await;
    assert!(stopped.success && stopped.message.contains("nothing of it is left"), "{}", stopped.message);
    assert!(rig.processes(&mark).is_empty());
    let status = rig.run("ServiceControl", &action("status")).await;
    assert!(!status.success && status.message.contains("is not there"), "{}", status.message);
    let twice = rig.run("ServiceControl", &action("stop")).await;
    assert!(twice.success, "{}", twice.message);
}

#[tokio::test]
async fn one_of_the_same_name_with_other_values_is_replaced() {
    let rig = Rig::new();
    let (first, second) = (free_port(), free_port());
    assert!(rig.run("ServiceControl", &stub(first, &json!({}))).await.success);
    let other = rig.run("ServiceControl", &stub(second, &json!({}))).await;
    assert!(other.success, "{}", other.message);
    assert!(rig.processes(&format!("--port\0{first}")).is_empty());
    assert!(!rig.processes(&format!("--port\0{second}")).is_empty());
    rig.run("ServiceControl", &action("stop")).await;
}

#[tokio::test]
async fn a_service_that_dies_or_never_answers_is_a_failure_and_leaves_nothing() {
    let rig = Rig::new();
    let port = free_port();
    let dies = stub(port, &json!({"command": ["sh", "-c", "echo no model; exit 7"]}));
    let result = rig.run("ServiceControl", &dies).await;
    assert!(!result.success, "{}", result.message);
    assert!(result.message.contains("ended before it was up") && result.message.contains('7'), "{}", result.message);
    assert!(result.message.contains("no model"), "the end of its log: {}", result.message);
    let mute = stub(
        port,
        &json!({"command": ["sleep", "61234"],
        // At another interval than this one it would not be over in time.
        "healthCheck": {"type": "TCP", "intervalMillis": 10, "maxRetry": 50}}),
    );
    let result = rig.run("ServiceControl", &mute).await;
    assert!(!result.success && result.message.contains("not up after 50 health checks"), "{}", result.message);
    assert!(rig.processes("61234").is_empty());
    let missing = stub(port, &json!({"command": ["/no/such/program"]}));
    let result = rig.run("ServiceControl", &missing).await;
    assert!(!result.success && result.message.contains("/no/such/program"), "{}", result.message);
}

#[tokio::test]
async fn a_port_in_use_is_told_before_anything_starts() {
    let rig = Rig::new();
    let holder = std::net::TcpListener::bind("0.0.0.0:0").expect("bound");
    let port = holder.local_addr().expect("address").port();
    let result = rig.run("ServiceControl", &stub(port, &json!({}))).await;
    assert!(!result.success && result.message.contains(&format!("port {port} cannot be used")), "{}", result.message);
}

#[tokio::test]
async fn a_stop_of_the_job_while_the_service_starts_ends_both() {
    let rig = Rig::new();
    let stop = StopSignal::new();
    let job =
        stub(free_port(), &json!({"command": ["sleep", "62345"], "healthCheck": {"type": "TCP", "maxRetry": 100_000}}));
    let raise = async {
        while rig.processes("62345").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(rig.run_with("ServiceControl", &job, stop.clone()), raise);
    assert!(!result.success && result.message.contains("nothing of it is left"), "{}", result.message);
    assert!(rig.processes("62345").is_empty());
}

#[tokio::test]
async fn the_callback_tells_model_port_pid_and_log_file() {
    use axum::{Json, Router, routing::post};
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel::<Value>();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/up", socket.local_addr().expect("address"));
    let app = Router::new().route("/up", post(move |Json(body): Json<Value>| async move { drop(said.send(body)) }));
    let server = tokio::spawn(async move { axum::serve(socket, app).await });
    let rig = Rig::new();
    let port = free_port();
    let result = rig.run("ServiceControl", &stub(port, &json!({"callbackUrl": url}))).await;
    assert!(result.success, "{}", result.message);
    let body = heard.recv().await.expect("called");
    assert_eq!((&body["model"], &body["port"]), (&json!("stub"), &json!(port)));
    let pid = body["pid"].as_i64().expect("pid");
    assert!(rig.processes(&format!("--port\0{port}")).contains(&i32::try_from(pid).expect("pid")));
    let log = body["log_file"].as_str().expect("log_file");
    assert!(log.contains("/logs/stub-") && std::path::Path::new(log).is_file(), "{log}");
    rig.run("ServiceControl", &action("stop")).await;
    server.abort();
}

/// The specification's script, with `sleep` in the place of the real service.
const START: &str = r#"import argparse, subprocess, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--model-name", required=True)
parser.add_argument("--model-path", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--callback-url", default=None)
args = parser.parse_args()
proc = subprocess.Popen(["nohup", "sleep", str(50000 + args.port)], stdout=open("/dev/null", "w"), stderr=subprocess.STDOUT)
time.sleep(0.2)
if proc.poll() is not None:
    sys.exit(1)
print(f"[INFO] start {args.model_name} on port {args.port}")
print(f"[INFO] service started, pid={proc.pid}")
sys.exit(0)
"#;

#[tokio::test]
async fn the_specifications_start_script_ends_with_0_and_its_service_stays() {
    let rig = Rig::new();
    let script = rig.file("start_llm.py", START);
    let port = free_port();
    let job = json!({"modelName": "qwen-7b", "modelPath": "/data/m", "port": port, "pythonBin": "python3", "scriptPath": script});
    let result = rig.run("llmPythonProcessor#pythonLauncher", &job).await;
    assert!(result.success, "{}\n{}", result.message, rig.log());
    assert!(result.message.starts_with(&format!("[INFO] start qwen-7b on port {port}\n")), "{}", result.message);
    assert!(rig.log().contains("service [INFO] service started"), "{}", rig.log());
    let mark = format!("sleep\0{}", 50_000 + u32::from(port));
    let service = rig.processes(&mark);
    assert_eq!(service.len(), 1, "it stays");
    let status = rig.run("ServiceControl", &json!({"modelName": "qwen-7b", "action": "status"})).await;
    assert!(status.success && status.message.contains("1 processes"), "{}", status.message);
    // The same name again replaces it.
    assert!(
        rig.run(
            "llmPythonProcessor#pythonLauncher",
            &json!({"modelName": "qwen-7b", "modelPath": "/other", "port": port,
        "pythonBin": "python3", "scriptPath": script})
        )
        .await
        .success
    );
    let replaced = rig.processes(&mark);
    assert!(replaced.len() == 1 && replaced != service, "{service:?} {replaced:?}");
    let stopped = rig.run("ServiceControl", &json!({"modelName": "qwen-7b", "action": "stop"})).await;
    assert!(stopped.success, "{}", stopped.message);
    assert!(rig.processes(&mark).is_empty());
}

#[tokio::test]
async fn the_two_names_give_the_specifications_results() {
    let mut rig = Rig::new();
    let script = rig.file("fails.py", "import sys\nprint('no card')\nsys.exit(3)\n");
    let job = json!({"modelName": "m", "modelPath": "/m", "port": 8001, "pythonBin": "python3", "scriptPath": script});
    let result = rig.run("llmPythonProcessor#pythonLauncher", &job).await;
    assert_eq!((result.success, result.message.as_str()), (false, "python exitCode=3, output:\nno card\n"));
    rig.env.service.python_bin = "python3".into();
    rig.env.service.script_path = script;
    let result = rig.run("llmPythonProcessor#pythonLauncherWithStreamingLog", &json!({})).await;
    assert_eq!((result.success, result.message.as_str()), (false, "exitCode=3"));
    assert!(rig.log().contains("no card"), "{}", rig.log());
    rig.env.service.script_path = rig.file("good.py", "print('up')\n");
    let result = rig.run("llmPythonProcessor#pythonLauncherWithStreamingLog", &json!({})).await;
    assert_eq!((result.success, result.message.as_str()), (true, "exitCode=0"));
}
