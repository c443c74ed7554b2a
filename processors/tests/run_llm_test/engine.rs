//! Networks, ports, names and neighbours on a real container engine.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    time::Duration,
};

use powerjob_worker::StopReason;
use serde_json::json;
use testrig_host::docker::ContainerPhase;

use crate::{
    containers::engine,
    rig::{Rig, skipped},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_with_the_same_instance_id_do_not_touch_each_others_containers() {
    let Some(engine) = engine("engine::two_agents_with_the_same_instance_id_do_not_touch_each_others_containers")
    else {
        return;
    };
    let (one, two) = (engine.rig(100), engine.rig(100));
    let mut run_one = engine.run(&one);
    run_one["runSeconds"] = json!(600);
    let mut run_two = engine.run(&two);
    run_two["platformTaskId"] = json!(format!("U-{}", two.instance));
    let ctx = one.context(&engine.stub_job(&one, ""), &run_one);
    let second = async {
        one.logged("stage load: begins").await;
        let result = two.process(&two.context(&engine.stub_job(&two, ""), &run_two)).await;
        assert!(result.success, "{}\n{}", result.message, two.log_text());
        assert_eq!(engine.containers(&one).await.len(), 1, "the first agent's container is still there");
        // The same name is no leftover either: it is the other agent's.
        let result = two.process(&two.context(&engine.stub_job(&two, ""), &run_one)).await;
        assert!(result.message.contains("belongs to another agent on this engine"), "{}", result.message);
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(one.process(&ctx), second);
    assert!(result.message.starts_with("stage load was stopped"), "{}\n{}", result.message, one.log_text());
    assert_eq!(engine.containers(&one).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_hosts_network_nothing_is_published_and_the_service_port_is_the_address() {
    let Some(engine) = engine("engine::on_the_hosts_network_nothing_is_published_and_the_service_port_is_the_address")
    else {
        return;
    };
    let rig = engine.rig(110);
    let mut run = engine.run(&rig);
    run["networkModeOverride"] = json!("host");
    let result = rig.process(&rig.context(&engine.stub_job(&rig, ""), &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.result()["service"]["address"], format!("127.0.0.1:{}", rig.port));
    assert_eq!(rig.result()["service"]["hostPort"], rig.port);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_not_there_and_a_port_that_is_taken_are_named() {
    let Some(engine) = engine("engine::a_network_that_is_not_there_and_a_port_that_is_taken_are_named") else { return };
    let rig = engine.rig(120);
    let mut run = engine.run(&rig);
    run["networkModeOverride"] = json!("no-such-network");
    let result = rig.process(&rig.context(&engine.stub_job(&rig, ""), &run)).await;
    assert!(
        result.message.contains("no-such-network") && result.message.contains("(instanceParams.networkModeOverride)"),
        "{}",
        result.message
    );
    assert!(!result.retryable, "it would go the same way again");
    assert_eq!(engine.containers(&rig).await.len(), 0);

    if std::env::var("DOCKER_BRIDGE").as_deref() == Ok("no") {
        return;
    }
    let rig = engine.rig(121);
    let taken = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let mut run = engine.run(&rig);
    run["hostPort"] = json!(port);
    let result = rig.process(&rig.context(&engine.stub_job(&rig, ""), &run)).await;
    let first = result.message.lines().next().expect("one more");
    assert!(
        first.contains(&port.to_string()) && first.contains("hostPort") && first.contains("in use"),
        "{}",
        result.message
    );
    assert_eq!(engine.containers(&rig).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_or_the_end_of_the_time_cuts_a_pull_from_a_registry_that_never_answers() {
    let Some(engine) = engine("engine::a_stop_or_the_end_of_the_time_cuts_a_pull_from_a_registry_that_never_answers")
    else {
        return;
    };
    // Connections are made and nobody ever answers.
    let registry = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let image = format!("127.0.0.1:{}/llm/stalled:1", registry.local_addr().expect("bound").port());
    for (number, stopped) in [(130, true), (131, false)] {
        let rig = engine.rig(number);
        let mut job = engine.job(&rig, &image, "exit 0");
        job["docker.pullPolicy"] = json!("Always");
        let mut run = engine.run(&rig);
        if !stopped {
            run["monitorOverrides.maxRunSeconds"] = json!(2);
        }
        let ctx = rig.context(&job, &run);
        let stop = async {
            rig.logged("stage pull: begins").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            if stopped {
                ctx.stop.raise(StopReason::Stopped);
            }
        };
        let (result, ()) = tokio::join!(rig.process(&ctx), stop);
        let wanted = if stopped { "stage pull was stopped" } else { "stage pull failed: the run lasted longer" };
        assert!(result.message.starts_with(wanted), "{}", result.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_the_engine_makes_or_starts_the_container_leaves_none_running() {
    let Some(engine) = engine("engine::a_stop_while_the_engine_makes_or_starts_the_container_leaves_none_running")
    else {
        return;
    };
    for (number, stage, wait) in [(140, "create", 0), (141, "create", 20), (142, "start", 0), (143, "start", 60)] {
        let rig = engine.rig(number);
        let mut job = engine.stub_job(&rig, "");
        job["monitor"]["cleanupPolicy"] = json!("NEVER");
        let ctx = rig.context(&job, &engine.run(&rig));
        let stop = async {
            rig.logged(&format!("stage {stage}: begins")).await;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            ctx.stop.raise(StopReason::Stopped);
        };
        let (result, ()) = tokio::join!(rig.process(&ctx), stop);
        assert!(!result.success, "{stage}");
        let seen = engine.containers(&rig).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let later = engine.containers(&rig).await;
        assert_eq!(seen.len(), later.len(), "{stage} {wait}: one appeared behind the run's back");
        for container in later {
            assert_ne!(container.phase, ContainerPhase::Running, "{stage} {wait}\n{}", rig.log_text());
            engine.docker.remove(&container.id).await.expect("it works");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_output_of_a_container_is_whole_and_a_kill_under_load_is_told() {
    let Some(engine) = engine("engine::much_output_of_a_container_is_whole_and_a_kill_under_load_is_told") else {
        return;
    };
    let rig = engine.rig(150);
    let script = format!(
        "yes 'a line of the service' | head -n 20000; head -c 3000000 /dev/zero | tr '\\0' x; echo; head -c 5000 /dev/urandom; echo; echo the last line\n\
         exec /usr/bin/testrig llm-stub --listen 0.0.0.0:{} --tokens 4",
        rig.port
    );
    let job = engine.job(&rig, &engine.stub, &script);
    let mut run = engine.run(&rig);
    run["runSeconds"] = json!(600);
    let kill = async {
        rig.logged("stage load: begins").await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let id = engine.containers(&rig).await[0].id.clone();
        engine.docker.kill(&id, testrig_host::Signal::KILL).await.expect("it works");
    };
    let ctx = rig.context(&job, &run);
    let (result, ()) = tokio::join!(rig.process(&ctx), kill);
    assert!(result.message.starts_with("stage load failed: the service ended by itself: "), "{}", result.message);
    assert!(result.message.contains("137") || result.message.contains("SIGKILL"), "{}", result.message);
    let lines = rig.service_lines();
    assert_eq!(lines.iter().filter(|line| *line == "a line of the service").count(), 20_000);
    assert!(lines.iter().any(|line| line == "the last line"));
    let file = std::fs::metadata(rig.log_dir().join(format!("svc-m-{}.log", rig.port))).expect("the file system works");
    assert!(file.len() > 20_000 * 22 + 3_000_000 + 5000, "{}", file.len());
}

/// A request to the engine as it is.
fn ask(engine: &str, request: &str) -> String {
    let socket = engine.strip_prefix("unix://").expect("the tests' engine has a socket");
    let mut stream = UnixStream::connect(socket).expect("it is there");
    stream.write_all(request.as_bytes()).expect("it is there");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// A network of the engine's for one test.
struct OwnNetwork {
    name: String,
    engine: String,
}

impl OwnNetwork {
    fn make(name: String) -> Option<Self> {
        let network = Self { name, engine: std::env::var("DOCKER_HOST").ok()? };
        let body = json!({"Name": network.name}).to_string();
        let answer = ask(
            &network.engine,
            &format!(
                "POST /networks/create HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        answer.contains(" 201 ").then_some(network)
    }
}

impl Drop for OwnNetwork {
    fn drop(&mut self) {
        ask(&self.engine, &format!("DELETE /networks/{} HTTP/1.0\r\nHost: d\r\n\r\n", self.name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_named_network_the_service_port_is_published() {
    let Some(engine) = engine("engine::on_a_named_network_the_service_port_is_published") else { return };
    let rig = engine.rig(160);
    let Some(network) = OwnNetwork::make(format!("testrig-{}", rig.instance)) else {
        skipped("engine::on_a_named_network_the_service_port_is_published", "the engine makes no networks here");
        return;
    };
    let mut run = engine.run(&rig);
    run["networkModeOverride"] = json!(network.name);
    let result = rig.process(&rig.context(&engine.stub_job(&rig, ""), &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let port = rig.result()["service"]["hostPort"].as_u64().expect("a number");
    assert_eq!(rig.result()["service"]["address"], format!("127.0.0.1:{port}"));
    assert_eq!(engine.containers(&rig).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_through_a_link_is_the_directory_that_it_leads_to_and_one_that_leads_out_is_refused() {
    let name = "engine::a_volume_through_a_link_is_the_directory_that_it_leads_to_and_one_that_leads_out_is_refused";
    let Some(engine) = engine(name) else { return };
    let rig = engine.rig(180);
    let data = rig.place.dir.path().join("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::write(data.join("file"), "behind the link\n").expect("written");
    let (link, out) = (rig.place.dir.path().join("link"), rig.place.dir.path().join("out"));
    std::os::unix::fs::symlink(&data, &link).expect("made");
    std::os::unix::fs::symlink("/etc", &out).expect("made");
    // The link leads elsewhere once the run has begun: what was looked at is what is mounted.
    let mut job = engine.job(&rig, &engine.busybox, "cat /data/file; while :; do sleep 1; done");
    job["healthCheck"] = json!({"type": "NONE"});
    job["monitor"]["stopTimeoutSeconds"] = json!(0);
    let turn = rig.place.dir.path().join("turn.sh");
    std::fs::write(&turn, format!("#!/bin/sh\nln -sfn /etc '{}'\n", link.display())).expect("written");
    std::fs::set_permissions(&turn, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("written");
    job["env.setupScript"] = json!(turn);
    let mut run = engine.run(&rig);
    run["test"] = json!({"driver": "container", "command": ["test", "-f", "/data/file"]});
    run["volumes"] = json!([{"hostPath": link, "containerPath": "/data", "mode": "ro"}]);
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(std::fs::read_link(&link).expect("a link"), std::path::Path::new("/etc"), "it was turned");
    assert_eq!(rig.service_lines(), ["behind the link"]);

    let rig_out = engine.rig(181);
    run["volumes"] = json!([{"hostPath": out, "containerPath": "/data", "mode": "ro"}]);
    let result = rig_out.process(&rig_out.context(&engine.job(&rig_out, &engine.busybox, "exit 0"), &run)).await;
    assert!(
        result.message.contains("volumes[0].hostPath") && result.message.contains("allowed_roots"),
        "{}",
        result.message
    );
    assert_eq!(engine.containers(&rig_out).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_privileged_container_is_made_only_where_the_configuration_allows_it() {
    let name = "engine::a_privileged_container_is_made_only_where_the_configuration_allows_it";
    let Some(engine) = engine(name) else { return };
    for (number, allowed) in [(190, false), (191, true)] {
        let endpoint = engine.endpoint.clone();
        let rig = Rig::with(i64::from(std::process::id()) * 1000 + number, move |env| {
            env.docker_endpoint = Some(endpoint);
            env.allow_privileged = allowed;
        });
        let mut job = engine.job(&rig, &engine.busybox, "while :; do sleep 1; done");
        job["healthCheck"] = json!({"type": "NONE"});
        job["docker"]["privileged"] = json!(true);
        job["monitor"] = json!({"stopTimeoutSeconds": 0, "cleanupPolicy": "NEVER"});
        let mut run = engine.run(&rig);
        run["test"] = json!({"driver": "container", "command": ["true"]});
        let result = rig.process(&rig.context(&job, &run)).await;
        let made = engine.containers(&rig).await;
        if !allowed {
            assert!(result.message.contains("docker.privileged: is not allowed here"), "{}", result.message);
            assert!(made.is_empty(), "{made:?}");
            continue;
        }
        // Whether it also starts depends on what the root of this machine may do; the engine was asked for it in any case.
        let id = &made.first().unwrap_or_else(|| panic!("{}", result.message)).id;
        let seen = ask(&engine.endpoint, &format!("GET /containers/{id}/json HTTP/1.0\r\nHost: d\r\n\r\n"));
        engine.docker.remove(id).await.expect("removed");
        assert!(seen.contains("\"Privileged\":true"), "{seen}");
        assert!(result.success || result.message.contains("unable to apply caps"), "{}", result.message);
    }
}
