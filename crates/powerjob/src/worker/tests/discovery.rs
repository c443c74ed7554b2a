//! Finding the server, and what is said when that fails.

use std::{net::Ipv4Addr, time::Instant};

use super::*;
use crate::client::Discovery;

async fn find(servers: &[String], app: &str) -> Result<crate::client::Found, String> {
    let servers = servers.iter().map(|text| text.parse().expect("an address")).collect();
    Discovery::new(servers, app.to_owned(), crate::client::http_client().expect("a client")).run(None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_found_with_its_birth_and_the_app_name_is_percent_encoded() {
    let fake = Fake::start().await;
    let found = find(&[fake.server()], APP).await.expect("found");
    assert_eq!(found.owner.transport, fake.transport());
    assert_eq!((found.owner.app_id, found.owner.born_time), (fake::APP_ID, Some(1_700_000_000_000)));
    assert_eq!(found.owner.web, fake.server());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_up_while_it_is_asked_is_found_with_its_birth() {
    let fake = Fake::start().await;
    fake.book.lock().hellos_lost = 1;
    let found = find(&[fake.server()], APP).await.expect("found");
    assert_eq!(fake.book.lock().hellos_lost, 0);
    assert_eq!((found.owner.web, found.owner.born_time), (fake.server(), Some(1_700_000_000_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_05_acquire_names_the_protocol_http_in_upper_case_and_the_server_in_use() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    let first = rig.fake.book.lock().acquires[0].clone();
    assert_eq!((first["protocol"].as_str(), first["appId"].as_str()), ("HTTP", "7"));
    assert!(!first.contains_key("currentServer"));
    assert_eq!(rig.fake.heartbeats()[0].protocol, "HTTP");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_08_the_first_heartbeat_has_metrics_and_the_app_id() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    let beat = rig.fake.heartbeats()[0].clone();
    assert_eq!((beat.app_id, beat.app_name.as_str(), beat.overload), (fake::APP_ID, APP, false));
    assert!(beat.system_metrics.cpu_processors > 0 && beat.system_metrics.jvm_max_memory > 0.0);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_09_a_clock_that_differs_from_the_servers_is_measured_and_corrected_in_what_is_sent() {
    for offset in [90_000, -90_000] {
        let rig = Rig::new().await;
        rig.fake.book.lock().clock_offset_ms = offset;
        let worker = rig.listed().await;
        let skew = worker.status().clock_skew_ms.expect("measured");
        assert!((skew + offset).abs() < 20_000, "{skew}");
        let server_now = || crate::client::now_ms() + offset;
        let beat = rig.fake.heartbeats()[0].heartbeat_time;
        assert!((server_now() - beat).abs() < 30_000, "the server would take this worker for dead: {beat}");
        let id = 1_004_402_621_408_084_032;
        rig.dispatch(&worker, id, "fail", json!({"sleep": 50})).await;
        until("the end", || !rig.fake.finals(id).is_empty()).await;
        for report in rig.fake.reports(id) {
            let times = [report.report_time, report.start_time, report.end_time.unwrap_or(report.start_time)];
            assert!(times.iter().all(|time| (server_now() - time).abs() < 30_000), "{report:?}");
        }
        let times: Vec<i64> = rig.fake.reports(id).iter().map(|report| report.report_time).collect();
        assert!(times.is_sorted(), "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_tell_its_time_is_measured_by_the_date_of_its_answers() {
    let rig = Rig::new().await;
    rig.fake.book.lock().date_only = true;
    rig.fake.book.lock().clock_offset_ms = 90_000;
    let worker = rig.listed().await;
    let skew = worker.status().clock_skew_ms.expect("measured");
    assert!((skew + 90_000).abs() < 20_000, "{skew}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unregistered_app_is_named_with_the_server_and_what_to_do() {
    let fake = Fake::start().await;
    let why = find(&[fake.server()], "nobody").await.expect_err("not registered");
    for part in ["`nobody` is not registered", &fake.server(), "register it"] {
        assert!(why.contains(part), "{part} in {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_04_the_transport_port_given_as_web_port_is_recognised() {
    let fake = Fake::start().await;
    let why = find(&[fake.transport()], APP).await.expect_err("the wrong port");
    assert!(why.contains("transport port") && why.contains("7700"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_than_powerjob_is_recognised() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new()).await });
    let why = find(std::slice::from_ref(&address), APP).await.expect_err("not PowerJob");
    assert!(why.contains(&address) && why.contains("not the web port of a PowerJob server"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_500_is_not_taken_for_something_else() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let ill = axum::Router::new().fallback(|| async { (axum::http::StatusCode::BAD_GATEWAY, "no upstream") });
    tokio::spawn(async move { axum::serve(listener, ill).await });
    let why = find(std::slice::from_ref(&address), APP).await.expect_err("no answer");
    assert!(why.contains(&address) && why.contains("502") && why.contains("its own log says why"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_a_silent_address_do_not_keep_the_living_one_from_being_found() {
    let fake = Fake::start().await;
    let dead = {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    // Accepts into its backlog and never says a word.
    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let silent_address = silent.local_addr().expect("an address").to_string();
    let began = Instant::now();
    let found = find(&[silent_address, dead, fake.server()], APP).await.expect("found");
    assert_eq!(found.owner.transport, fake.transport());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_at_all_names_every_address() {
    let why = find(&["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()], APP).await.expect_err("nobody");
    assert!(why.contains("127.0.0.1:1") && why.contains("127.0.0.1:2") && why.contains("does not answer"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_listens_everywhere_takes_the_local_address_of_its_way_to_the_server() {
    let mut rig = Rig::new().await;
    rig.config.listen = "0.0.0.0:0".to_owned();
    rig.config.servers = vec![rig.fake.server().replace("127.0.0.1", "localhost")];
    let worker = rig.listed().await;
    assert!(worker.address().starts_with("127.0.0.1:"), "{}", worker.address());
    let address = worker.address().to_owned();
    rig.dispatch(&worker, 5, "fail", json!({"sleep": 60_000})).await;
    worker.crash().await;
    // Another address is kept off while an instance is open.
    rig.config.advertise = Some("10.9.8.7:27777".to_owned());
    let worker = rig.start().await;
    assert_eq!(worker.address(), address);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advertised_address_is_told_as_it_is() {
    let mut rig = Rig::new().await;
    rig.config.advertise = Some("gpu-7.example:27777".to_owned());
    let worker = rig.listed().await;
    assert_eq!(rig.fake.heartbeats()[0].worker_address, "gpu-7.example:27777");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_sends_without_end_is_given_up_with_bounded_memory() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while stream.write_all(&[b'x'; 64 << 10]).await.is_ok() {}
            });
        }
    });
    let why = find(std::slice::from_ref(&address), APP).await.expect_err("no PowerJob server");
    assert!(why.contains("longer than 16 MiB") && why.contains(&address), "{why}");
}
