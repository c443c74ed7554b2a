//! Ports and networks.

use std::time::Instant;

use testrig_host::docker::{Network, PortPublish};
use testrig_host::health;

use crate::rig::{LONG, TEN_MS, rig, skipped, until_running};

#[tokio::test]
async fn a_published_port_is_a_free_one_that_answers() {
    let Some(rig) = rig("a_published_port_is_a_free_one_that_answers") else {
        return;
    };
    if std::env::var("DOCKER_BRIDGE").as_deref() == Ok("no") {
        skipped("a_published_port_is_a_free_one_that_answers", "the engine has no bridge network");
        return;
    }
    let mut spec = rig.shell("mkdir /w; echo fine > /w/healthz; echo up; exec httpd -f -p 8000 -h /w");
    spec.publish = vec![PortPublish { container: 8000, host: 0, bind: None }];
    let id = rig.start(&spec).await;
    until_running(&rig.docker, &id, "up").await;
    let info = rig.docker.inspect(&id).await.expect("there");
    let port = info.host_port(8000).expect("published");
    assert_ne!(port, 0);
    assert_eq!(info.ports[0].bind, "0.0.0.0");

    // An error means that another test was faster.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("client");
    let deadline = Instant::now() + LONG;
    loop {
        let probe = health::http(&client, &format!("http://127.0.0.1:{port}/healthz"), LONG).await;
        if probe.healthy {
            break;
        }
        assert!(Instant::now() < deadline, "{probe:?}");
        tokio::time::sleep(TEN_MS).await;
    }
    assert!(!health::http(&client, &format!("http://127.0.0.1:{port}/none"), LONG).await.healthy);

    // The same port a second time: the start fails and says why.
    let mut second = rig.shell("sleep 60");
    second.publish = vec![PortPublish { container: 8000, host: port, bind: None }];
    let second_id = rig.create(&second).await;
    let error = rig.docker.start(&second_id).await.expect_err("in use");
    assert!(!error.is_unavailable() && error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_container_on_the_hosts_network_publishes_nothing_and_is_reachable() {
    let Some(rig) = rig("a_container_on_the_hosts_network_publishes_nothing_and_is_reachable") else {
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("free").port();
    let mut spec = rig.shell(&format!("echo up; exec httpd -f -p 127.0.0.1:{port} -h /"));
    spec.network = Network::Host;
    spec.publish = vec![PortPublish { container: port, host: 0, bind: None }];
    let id = rig.start(&spec).await;
    until_running(&rig.docker, &id, "up").await;
    let deadline = Instant::now() + LONG;
    while !health::tcp(([127, 0, 0, 1], port).into(), LONG).await.healthy {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(TEN_MS).await;
    }
    let info = rig.docker.inspect(&id).await.expect("there");
    assert_eq!((info.network_mode.as_str(), info.ports.len()), ("host", 0));
}
