//! What of its limits a container sees, and many starts at once.

use std::collections::HashSet;
use std::time::Instant;

use testrig_host::docker::{Docker, Network, PortPublish, Ulimit};
use testrig_host::health;

use crate::rig::{LONG, TEN_MS, lines_until_end, none, rig, skipped};

async fn output(docker: &Docker, id: &str) -> Vec<String> {
    let lines = lines_until_end(docker, id, 0).await;
    lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
}

#[tokio::test]
async fn cpus_memory_and_ulimits_stand_in_the_cgroup_and_the_process_of_the_container() {
    let Some(rig) = rig("limits::cpus_memory_and_ulimits_stand_in_the_cgroup_and_the_process_of_the_container") else {
        return;
    };
    // cgroup v2, else v1.
    let mut spec = rig.shell(
        "cd /sys/fs/cgroup
         if [ -e cpu.max ]; then cat cpu.max; else echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us); fi
         if [ -e memory.max ]; then cat memory.max; else cat memory/memory.limit_in_bytes; fi
         ulimit -Sn; ulimit -Hn; ulimit -Sc",
    );
    spec.cpus = Some(1.5);
    spec.memory = Some(64 << 20);
    let limit = |name: &str, soft, hard| Ulimit { name: name.into(), soft, hard };
    spec.ulimits = vec![limit("nofile", 321, 654), limit("core", 0, 0)];
    spec.network = Network::None;
    let id = rig.start(&spec).await;
    assert!(rig.docker.wait(&id, none).await.expect("ended").success());
    let said = output(&rig.docker, &id).await;
    let [cpu, rest @ ..] = said.as_slice() else { panic!("{said:?}") };
    let share: Vec<f64> = cpu.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    assert!((share[0] / share[1] - 1.5).abs() < 0.01, "{cpu}");
    assert_eq!(rest, ["67108864", "321", "654", "0"]);
}

#[tokio::test]
async fn twenty_containers_that_start_at_once_get_twenty_ports_and_each_answers_on_its_own() {
    let name = "limits::twenty_containers_that_start_at_once_get_twenty_ports_and_each_answers_on_its_own";
    let Some(rig) = rig(name) else { return };
    if std::env::var("DOCKER_BRIDGE").as_deref() == Ok("no") {
        skipped(name, "the engine has no bridge network");
        return;
    }
    let start = async |number: usize| {
        let mut spec = rig.shell(&format!("mkdir /w; echo {number} > /w/who; exec httpd -f -p 8000 -h /w"));
        spec.publish = vec![PortPublish { container: 8000, host: 0, bind: None }];
        let id = rig.start(&spec).await;
        let info = rig.docker.inspect(&id).await.expect("there");
        (number, info.host_port(8000).expect("published"))
    };
    let started = futures_util::future::join_all((0..20).map(start)).await;
    let ports: HashSet<u16> = started.iter().map(|(_, port)| *port).collect();
    assert_eq!(ports.len(), 20, "{started:?}");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("client");
    for (number, port) in started {
        let deadline = Instant::now() + LONG;
        while !health::tcp(([127, 0, 0, 1], port).into(), LONG).await.healthy {
            assert!(Instant::now() < deadline, "{number} at {port}");
            tokio::time::sleep(TEN_MS).await;
        }
        // A connection to the engine's proxy says nothing of the container yet.
        let who = loop {
            match client.get(format!("http://127.0.0.1:{port}/who")).send().await {
                Ok(answer) => break answer.text().await.expect("a text"),
                Err(error) => assert!(Instant::now() < deadline, "{number} at {port}: {error}"),
            }
            tokio::time::sleep(TEN_MS).await;
        };
        assert_eq!(who.trim(), number.to_string(), "{port}");
    }
}

#[tokio::test]
async fn a_privileged_container_has_every_capability_and_another_has_not() {
    let name = "limits::a_privileged_container_has_every_capability_and_another_has_not";
    let Some(rig) = rig(name) else { return };
    let capabilities = async |privileged| {
        let mut spec = rig.shell("sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status");
        spec.network = Network::None;
        spec.privileged = privileged;
        let id = rig.create(&spec).await;
        rig.docker.start(&id).await.map_err(|error| error.to_string())?;
        rig.docker.wait(&id, none).await.expect("ended");
        let said = output(&rig.docker, &id).await;
        Ok::<_, String>(u64::from_str_radix(said[0].trim(), 16).expect("a mask"))
    };
    let plain = capabilities(false).await.expect("it starts");
    match capabilities(true).await {
        Ok(all) => assert!(all.count_ones() > plain.count_ones(), "{all:x} {plain:x}"),
        // The engine took the word: it is the kernel that refuses what this machine's root has not got itself.
        Err(error) if error.contains("unable to apply caps") => {
            skipped(name, "root on this machine lacks a capability, so that no privileged container can start");
        }
        Err(error) => panic!("{error}"),
    }
}
