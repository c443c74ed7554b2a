//! What a container gets of its parameters, as the engine and the container itself see it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use serde_json::{Value, json};

use crate::{
    containers::{Engine, engine},
    rig::free_port,
};

/// The engine's own words about a container.
fn inspect(engine: &Engine, id: &str) -> Value {
    let socket = engine.endpoint.strip_prefix("unix://").expect("the tests' engine has a socket");
    let mut stream = UnixStream::connect(socket).expect("it is there");
    write!(stream, "GET /containers/{id}/json HTTP/1.0\r\nHost: d\r\n\r\n").expect("it is there");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_gets_everything_that_its_parameters_say() {
    let Some(engine) = engine("given::a_container_gets_everything_that_its_parameters_say") else { return };
    let bridge = std::env::var("DOCKER_BRIDGE").as_deref() != Ok("no");
    let rig = engine.rig(170);
    let data = rig.place.dir.path().join("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::write(data.join("file"), "of the host\n").expect("written");
    let script = format!(
        "echo in $(pwd) with $OWN; cat /data/file; touch /data/new 2>/dev/null || echo not writable; touch /both/new\n\
         echo limit $(ulimit -n); echo kept > /own-logs/kept\n\
         exec /usr/bin/testrig llm-stub --listen 0.0.0.0:{} --tokens 4 --ttft-ms 5",
        rig.port
    );
    let mut job = engine.job(&rig, "registry.invalid/none:1", &script);
    job["containerLogBaseDir"] = json!("/own-logs");
    job["containerWorkDir"] = json!("/tmp");
    job["containerEntryScript"] = json!("/tmp/scripts/entry.sh");
    job["docker"]["runtime"] = json!("runc");
    job["docker"]["pullPolicy"] = json!("Never");
    job["docker"]["defaultCpuLimit"] = json!("1.5");
    job["docker"]["defaultMemoryLimit"] = json!("64m");
    job["docker"]["shmSize"] = json!("32m");
    job["docker"]["ulimits"] = json!([{"name": "nofile", "soft": 1000, "hard": 2000}]);
    job["monitor"]["cleanupPolicy"] = json!("NEVER");
    let name = format!("own-name-{}", rig.instance);
    let host_port = free_port();
    let mut run = engine.run(&rig);
    run["image"] = json!(engine.stub);
    run["containerName"] = json!(name);
    run["envVars"] = json!({"OWN": "value"});
    run["resources"] = json!({"memory": "512m"});
    run["volumes"] = json!([
        {"hostPath": data, "containerPath": "/data", "mode": "ro"},
        {"hostPath": data, "containerPath": "/both"},
    ]);
    run["runSeconds"] = json!(0.3);
    if bridge {
        run["hostPort"] = json!(host_port);
    }
    let result = rig.process(&rig.context(&job, &run)).await;
    let left = engine.containers(&rig).await;
    let seen = left.first().map(|container| inspect(&engine, &container.id));
    // Before anything is compared, so that nothing is left.
    for container in &left {
        engine.docker.remove(&container.id).await.expect("removed");
    }
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let seen = seen.expect("monitor.cleanupPolicy NEVER keeps it");
    let lines = rig.service_lines();
    for line in ["in /tmp with value", "of the host", "not writable", "limit 1000"] {
        assert!(lines.iter().any(|found| found == line), "`{line}` is not in {lines:?}");
    }
    assert_eq!(rig.read("kept"), "kept\n", "the run's directory is where containerLogBaseDir says");
    assert!(data.join("new").exists(), "a volume without mode is writable");
    let host = &seen["HostConfig"];
    let limits = (host["NanoCpus"].as_i64(), host["Memory"].as_i64(), host["ShmSize"].as_i64());
    assert_eq!(limits, (Some(1_500_000_000), Some(512 << 20), Some(32 << 20)), "{host}");
    assert_eq!(host["Runtime"], "runc", "{host}");
    assert_eq!(host["Ulimits"], json!([{"Name": "nofile", "Soft": 1000, "Hard": 2000}]), "{host}");
    assert_eq!(seen["Name"], format!("/{name}"));
    assert_eq!(seen["Config"]["Entrypoint"], json!(["/tmp/scripts/entry.sh"]), "{}", seen["Config"]);
    assert_eq!(seen["Config"]["Labels"]["bizLine"], "tests", "{}", seen["Config"]);
    if bridge {
        assert_eq!(rig.result()["service"]["hostPort"], host_port, "{}", rig.result()["service"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_the_engine_has_not_is_named_with_those_that_it_has() {
    let Some(engine) = engine("given::a_runtime_that_the_engine_has_not_is_named_with_those_that_it_has") else {
        return;
    };
    let rig = engine.rig(171);
    let mut job = engine.stub_job(&rig, "");
    job["docker"]["runtime"] = json!("no-such-runtime");
    let result = rig.process(&rig.context(&job, &engine.run(&rig))).await;
    let first = result.message.lines().next().unwrap_or_default();
    assert!(first.starts_with("stage create failed: ") && !result.retryable, "{}", result.message);
    assert!(first.contains("no runtime `no-such-runtime` (jobParams.docker.runtime)"), "{}", result.message);
    assert!(first.contains("runc"), "{}", result.message);
    assert_eq!(engine.containers(&rig).await.len(), 0);
}
