//! Who the server names for a job, asked over the wire.

use parking_lot::Mutex;

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

/// A task tracker that writes down which tasks were reported to it, and how.
async fn tracker() -> (String, Arc<Mutex<Vec<Value>>>) {
    let reports: Arc<Mutex<Vec<Value>>> = Arc::default();
    let book = reports.clone();
    let report = move |body: String| {
        let book = book.clone();
        async move {
            book.lock().push(serde_json::from_str(&body).expect("JSON"));
            axum::Json(json!({"success": true}))
        }
    };
    let routes = axum::Router::new()
        .route("/taskTracker/reportTaskStatus", axum::routing::post(report))
        .route("/taskTracker/reportProcessorTrackerStatus", axum::routing::post(|| async {}));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound").to_string();
    tokio::spawn(async move { axum::serve(socket, routes).await });
    (address, reports)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_task_of_an_unknown_worker_makes_the_server_be_asked_once_and_is_reported_to_that_worker() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    worker.peers.strange_loopback.store(true, std::sync::atomic::Ordering::Relaxed);
    let (address, reports) = tracker().await;
    let start = |job: i64, id: &str| {
        json!({"taskTrackerAddress": address, "taskId": id, "taskName": "SHARD", "taskCurrentRetryNums": 0,
            "subInstanceId": 5, "instanceInfo": {"jobId": job, "instanceId": 5, "executeType": "MAP",
                "processorType": "BUILT_IN", "processorInfo": "rerun", "timeExpressionType": 1,
                "instanceTimeoutMS": 2_147_483_647, "jobParams": "{}", "threadConcurrency": 5, "taskRetryNum": 1}})
    };
    let path = "/processorTracker/startTask";
    rig.fake.book.lock().clusters.insert(11, vec![address.clone()]);
    let (status, text) = rig.post(&worker, path, &start(12, "0.0")).await;
    assert_eq!(status, 403, "the server names nobody for a job of another app: {text}");
    for id in ["0.1", "0.2", "0.3"] {
        assert_eq!(rig.post(&worker, path, &start(11, id)).await, (200, String::new()));
    }
    let ended = || reports.lock().iter().filter(|report| report["status"] == json!(6)).count();
    until("all three are reported", || ended() == 3).await;
    assert_eq!(rig.fake.book.lock().questions, [12, 11], "one question for each job");
    assert_eq!(rig.post(&worker, "/worker/runJob", &request(&worker, 6, "rerun", json!({}))).await.0, 403);
    assert_eq!(worker.status().counters.refused_peers, 2);
    worker.shutdown(Shutdown::Detach).await;
}
