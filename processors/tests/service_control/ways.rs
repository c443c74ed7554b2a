//! What a service is given, how its health is asked, and the ways to start one that are not the agent's own: compose and systemd.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::{
    common::HELPER,
    rig::{Rig, free_port},
};

#[tokio::test]
async fn a_service_is_given_its_parameters_and_its_log_stands_where_log_dir_says() {
    let rig = Rig::new();
    let port = free_port();
    let logs = rig.place.dir.path().join("own-logs");
    let script = format!(
        "echo $MODEL_NAME from $MODEL_PATH at $SERVICE_PORT in $ENV for $TRACE_ID; exec {HELPER} stub --port $1"
    );
    let job = json!({"modelName": "stub", "modelPath": "/models/stub", "port": port, "env": "test", "traceId": "t7", "logDir": logs,
        "command": ["sh", "-c", script, "{modelName}", "{port}"],
        "healthCheck": {"path": "/healthz", "intervalMillis": 50, "maxRetry": 400}});
    let result = rig.run("ServiceControl", &job).await;
    assert!(result.success, "{}\n{}", result.message, rig.log());
    let files: Vec<_> =
        std::fs::read_dir(&logs).expect("made").filter_map(Result::ok).map(|file| file.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let name = files[0].file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(name.starts_with("stub-") && name.ends_with(".log"), "{name}");
    let log = std::fs::read_to_string(&files[0]).expect("readable");
    assert!(log.contains(&format!("stub from /models/stub at {port} in test for t7\n")), "{log}");
    let stopped = rig.run("ServiceControl", &json!({"modelName": "stub", "action": "stop"})).await;
    assert!(stopped.success, "{}", stopped.message);
}

#[tokio::test]
async fn health_is_asked_as_the_parameters_say() {
    // What is asked, whether the service counts as up, and what is said.
    let cases = [
        (json!({"path": "/no-such-page", "maxRetry": 2}), false, "/no-such-page"),
        (json!({"type": "CMD", "command": ["sh", "-c", "exit 3"], "maxRetry": 1}), false, "exit code 3"),
        (json!({"type": "CMD", "command": ["sleep", "600"], "maxRetry": 1, "timeoutMillis": 300}), false, "300 ms"),
        (
            json!({"type": "CMD", "command": ["true"], "successThreshold": 3, "timeoutMillis": 60_000}),
            true,
            "health check 3 passed",
        ),
        (json!({"type": "NONE"}), true, "is up"),
    ];
    for (mut check, up, said) in cases {
        let rig = Rig::new();
        let port = free_port();
        check["intervalMillis"] = json!(10);
        // Ready as soon as it listens: a check that fails does so for what it asks.
        let script = format!("exec {HELPER} stub --port {port}");
        let job = json!({"modelName": "stub", "modelPath": "/none", "port": port, "command": ["sh", "-c", script],
            "healthCheck": check});
        let result = rig.run("ServiceControl", &job).await;
        assert_eq!(result.success, up, "{check}: {}\n{}", result.message, rig.log());
        assert!(result.message.contains(said), "{check}: `{said}` is not in {}", result.message);
        rig.run("ServiceControl", &json!({"modelName": "stub", "action": "stop"})).await;
        assert!(rig.processes(&format!("--port\0{port}")).is_empty(), "{check}");
    }
}

/// Puts programs before those of the system, for everything that the rig starts: each is a shell script in the directory
/// `tools`, and its arguments are kept in `tools/said`.
fn with_tools(rig: &mut Rig, tools: &[(&str, &str)]) {
    let dir = rig.place.dir.path().join("tools");
    std::fs::create_dir(&dir).expect("made");
    let shim = dir.join("shim");
    let scripts = tools.iter().map(|(name, text)| {
        let said = dir.join("said");
        (dir.join(name), format!("#!/bin/sh\ncd {}\necho \"{name} $*\" >> {}\n{text}\n", dir.display(), said.display()))
    });
    let start = format!("#!/bin/sh\nPATH={}:$PATH exec {HELPER} \"$@\"\n", dir.display());
    for (path, text) in scripts.chain([(shim.clone(), start)]) {
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    }
    rig.env.shim = shim;
}

/// What the tools were told, without what only asks.
fn said(rig: &Rig) -> Vec<String> {
    let text = std::fs::read_to_string(rig.place.dir.path().join("tools/said")).expect("something was said");
    let asks = |line: &&str| line.ends_with(" version") || line.contains(" ps ") || line.contains(" is-active ");
    text.lines().filter(|line| !asks(line)).map(str::to_owned).collect()
}

const DOCKER: &str = r#"case "$*" in
    *" up "*) touch up ;;
    *" down") rm -f up ;;
    *" ps "*) [ ! -e up ] || echo 0123456789ab ;;
esac"#;

#[tokio::test]
async fn a_compose_file_is_started_looked_at_and_ended_under_its_project() {
    let mut rig = Rig::new();
    with_tools(&mut rig, &[("docker", DOCKER)]);
    let file = rig.file("compose.yml", "services: {}\n").canonicalize().expect("there");
    let named = json!({"modelName": "Stub", "compose": {"file": file}, "healthCheck": {"type": "NONE"}});
    let mut own = named.clone();
    own["compose"]["project"] = json!("Own");
    let control = |action: &str| json!({"modelName": "Stub", "action": action});
    for (job, project) in [(named, "stub"), (own, "own")] {
        let started = rig.run("ServiceControl", &job).await;
        assert!(started.success && started.message.contains("1 containers"), "{}\n{}", started.message, rig.log());
        let status = rig.run("ServiceControl", &control("status")).await;
        assert!(status.success && status.message.contains(&format!("project {project}")), "{}", status.message);
        let stopped = rig.run("ServiceControl", &control("stop")).await;
        assert!(stopped.success, "{}", stopped.message);
        let all = said(&rig);
        let common = format!("docker compose --file {} --project-name {project}", file.display());
        assert_eq!(all[all.len() - 2..], [format!("{common} up --detach"), format!("{common} down")], "{all:?}");
    }
}

const SYSTEMCTL: &str = r#"case "$1" in
    start) touch "$2" ;;
    stop) rm -f "$2" ;;
    is-active) if [ -e "$2" ]; then echo active; else echo inactive; exit 3; fi ;;
esac"#;

#[tokio::test]
async fn a_unit_is_started_looked_at_and_ended() {
    let mut rig = Rig::new();
    with_tools(&mut rig, &[("systemctl", SYSTEMCTL)]);
    let job = json!({"modelName": "stub", "unit": "llm-stub.service", "healthCheck": {"type": "NONE"}});
    let started = rig.run("ServiceControl", &job).await;
    assert!(started.success && started.message.contains("unit llm-stub.service"), "{}\n{}", started.message, rig.log());
    let control = |action: &str| -> Value { json!({"modelName": "stub", "action": action}) };
    let status = rig.run("ServiceControl", &control("status")).await;
    assert!(status.success && status.message.contains("active"), "{}", status.message);
    let stopped = rig.run("ServiceControl", &control("stop")).await;
    assert!(stopped.success, "{}", stopped.message);
    assert_eq!(said(&rig), ["systemctl start llm-stub.service", "systemctl stop llm-stub.service"]);
    // One that somebody else ends is no longer up.
    assert!(rig.run("ServiceControl", &job).await.success);
    std::fs::remove_file(rig.place.dir.path().join("tools/llm-stub.service")).expect("it was started");
    let status = rig.run("ServiceControl", &control("status")).await;
    assert!(!status.success && status.message.contains("does not run"), "{}", status.message);
}
