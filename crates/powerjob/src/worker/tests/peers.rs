//! Who the server names for a job, asked over the wire.

use super::*;
use crate::{server::Cluster, worker::cluster::AskOwner};

fn owner_of(worker: &WorkerHandle) -> AskOwner {
    AskOwner::new(worker.shared.clone(), crate::client::http_client().expect("a client"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_names_the_workers_of_a_job_and_those_that_its_list_was_cut_by() {
    let rig = Rig::new().await;
    rig.fake.book.lock().clusters.insert(11, vec!["10.0.0.5:27777".to_owned()]);
    let worker = rig.listed().await;
    let named = owner_of(&worker).workers_of(11).await.expect("an answer");
    assert_eq!(named, ["10.0.0.5:27777".to_owned(), worker.address().to_owned()]);
    let why = owner_of(&worker).workers_of(12).await.expect_err("another app's job");
    assert!(why.contains("Permission Denied!"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_nobody_is_named() {
    let mut rig = Rig::new().await;
    rig.fake.kill();
    let worker = rig.start().await;
    let why = owner_of(&worker).workers_of(11).await.expect_err("nobody to ask");
    assert!(why.contains("no server is known"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_of_a_dispatch_are_known_before_its_answer() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    let mut body = request(&worker, 5, "fail", json!({}));
    body["executeType"] = json!("BROADCAST");
    body["allWorkerAddress"] = json!([worker.address(), "10.0.0.5:27777"]);
    assert_eq!(rig.post(&worker, "/worker/runJob", &body).await.0, 200);
    assert!(worker.peers.allows_worker("10.0.0.5".parse().expect("an address")));
    assert!(!worker.peers.allows("10.0.0.5".parse().expect("an address")), "but not for what servers send");
}
