//! Under which address a worker is known, from its choice to heartbeats, dispatches and reports.

use std::net::Ipv4Addr;

use super::*;
use crate::worker::interfaces::Candidate;

const ID: i64 = 1_004_402_621_408_084_032;

fn candidate(interface: &str, ip: [u8; 4]) -> Candidate {
    Candidate { interface: interface.to_owned(), ip: Ipv4Addr::from(ip) }
}

/// A host whose first choice is an address that nobody reaches (192.0.2.0/24 is for documentation), and whose way to the server is
/// loopback.
fn behind_nat(rig: &mut Rig) -> Vec<Candidate> {
    rig.config.listen = "0.0.0.0:0".to_owned();
    rig.config.prefer_interfaces = vec!["eth*".to_owned()];
    rig.fake.book.lock().unreached = vec!["192.0.2.7".to_owned(), "192.0.2.8".to_owned()];
    vec![candidate("eth0", [192, 0, 2, 7]), candidate("eth1", [192, 0, 2, 8]), candidate("lo", [127, 0, 0, 1])]
}

/// Runs an instance at this address and expects every message of it to name the address.
async fn runs_at(rig: &Rig, worker: &WorkerHandle, address: &str) {
    until("a heartbeat", || !rig.fake.heartbeats().is_empty()).await;
    assert!(rig.fake.heartbeats().iter().all(|beat| beat.worker_address == address), "{:?}", rig.fake.heartbeats());
    let body = request(worker, ID, "fail", json!({"lines": 1})).to_string();
    let answer = rig.http.post(format!("http://{address}/worker/runJob")).body(body).send().await.expect("reached");
    assert_eq!(answer.status().as_u16(), 200);
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    let reports = rig.fake.reports(ID);
    assert!(reports.iter().all(|report| report.source_address == address), "{reports:?}");
    let lines = rig.fake.log_sources();
    assert!(!lines.is_empty() && lines.iter().all(|source| source == address), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_the_server_cannot_reach_is_passed_over_for_one_that_it_reaches() {
    let mut rig = Rig::new().await;
    let host = behind_nat(&mut rig);
    let worker = rig.builder().interfaces(host).start().await.expect("it starts");
    let (ip, port) = worker.address().split_once(':').expect("host:port");
    assert_eq!(ip, "127.0.0.1");
    let asked = [("192.0.2.7", false), ("192.0.2.8", false), ("127.0.0.1", true)];
    let asked = asked.map(|(ip, reached)| (format!("{ip}:{port}"), reached));
    assert_eq!(rig.fake.book.lock().pings, asked, "in the order of preference, on the port that it has");
    runs_at(&rig, &worker, worker.address()).await;
    assert_eq!(worker.listing().await.problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_the_server_reaches_at_none_of_its_addresses_starts_with_the_first_and_says_so() {
    let mut rig = Rig::new().await;
    let host = behind_nat(&mut rig);
    rig.fake.book.lock().unreached.push("127.0.0.1".to_owned());
    let worker = rig.builder().interfaces(host).start().await.expect("it starts");
    assert!(worker.address().starts_with("192.0.2.7:"), "{}", worker.address());
    until("a heartbeat", || worker.status().listed).await;
    let problems = worker.listing().await.problems.join("\n");
    assert!(problems.contains(&format!("cannot connect to {}", worker.address())) && problems.contains("`advertise`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advertised_address_stands_in_heartbeats_and_reports_and_is_where_dispatches_come() {
    let mut rig = Rig::new().await;
    let host = behind_nat(&mut rig);
    // A port that is free now, unless somebody else takes it before the worker does. All of 127.0.0.0/8 leads here.
    let (worker, port) = loop {
        let free = tokio::net::TcpListener::bind("0.0.0.0:0").await.and_then(|l| l.local_addr()).expect("a port");
        rig.config.listen = free.to_string();
        rig.config.advertise = Some(format!("127.0.0.5:{}", free.port()));
        match rig.builder().interfaces(host.clone()).start().await {
            Ok(worker) => break (worker, free.port()),
            Err(WorkerError::Bind(_)) => {}
            Err(why) => panic!("{why}"),
        }
    };
    assert_eq!(worker.address(), format!("127.0.0.5:{port}"));
    assert!(rig.fake.book.lock().pings.is_empty(), "what is configured is not asked about");
    runs_at(&rig, &worker, worker.address()).await;
}
