//! The worker's own port.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

const ID: i64 = 1_004_402_621_408_084_032;

#[tokio::test(flavor = "multi_thread")]
async fn trap_06_every_path_that_a_server_or_an_old_page_names_is_served() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    for (n, root) in ["/worker", "/taskTracker"].into_iter().enumerate() {
        let id = ID + i64::try_from(n).expect("small");
        let body = request(&worker, id, "fail", json!({"sleep": 60_000}));
        assert_eq!(rig.post(&worker, &format!("{root}/runJob"), &body).await, (200, String::new()));
        let (status, text) = rig
            .post(&worker, &format!("{root}/queryInstanceStatus"), &json!({"instanceId": id, "customQuery": "x"}))
            .await;
        let answer = crate::wire::AskResponse::parse(text.as_bytes()).expect("an answer");
        let detail = crate::wire::InstanceDetail::parse(&answer.data.expect("data")).expect("a detail");
        assert_eq!((status, answer.success, detail.status), (200, true, 3));
        assert_eq!(detail.task_tracker_address, worker.address());
        let stop = rig.post(&worker, &format!("{root}/stopInstance"), &json!({"instanceId": id})).await;
        assert_eq!(stop, (200, String::new()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_07_tells_are_answered_200_and_empty_and_no_content_type_is_asked_for() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    // `post_raw` sends no content type, as servers 4.3.0 do.
    for (path, body) in [
        ("/worker/stopInstance", json!({"instanceId": 5})),
        ("/worker/deployContainer", json!({"containerId": 3, "downloadURL": "http://10.0.0.1/x"})),
        ("/worker/destroyContainer", json!({"containerId": 3})),
    ] {
        assert_eq!(rig.post(&worker, path, &body).await, (200, String::new()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_paths_methods_and_bodies_are_answered_as_a_java_worker_does_with_a_useful_text() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    assert_eq!(rig.post(&worker, "/worker/nothing", &json!({})).await.0, 404);
    let url = format!("http://{}/worker/runJob", worker.address());
    let got = rig.http.get(url).send().await.expect("an answer");
    assert_eq!((got.status().as_u16(), got.headers().get("allow").map(|v| v.as_bytes())), (405, Some(&b"POST"[..])));
    for (body, part) in [
        ("", "body is empty"),
        ("[]", "one JSON object"),
        ("{} {}", "not valid JSON"),
        (r#"{"jobId":1}"#, "`instanceId` is missing"),
        (r#"{"jobId":1,"instanceId":2,"jobParams":{}}"#, "`jobParams` is {}"),
    ] {
        let (status, text) = rig.post_raw(&worker, "/worker/runJob", body.to_owned()).await;
        assert!(status == 500 && text.starts_with("Internal Server Error: ") && text.contains(part), "{status} {text}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(rig.post_raw(&worker, "/worker/runJob", deep).await.0, 500);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(9 << 20));
    let (status, text) = rig.post_raw(&worker, "/worker/runJob", long).await;
    assert!(status == 500 && text.contains("longer than 8388608 bytes"), "{status} {text}");
    assert_eq!(worker.status().counters.bad_requests, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_servers_may_call_and_everybody_else_is_refused_and_counted() {
    let mut rig = Rig::new().await;
    // A server elsewhere: this host's loopback is a stranger then.
    rig.config.servers = vec!["192.0.2.1:7700".to_owned()];
    let worker = rig.start().await;
    let (status, text) = rig.post(&worker, "/worker/runJob", &request(&worker, ID, "fail", json!({}))).await;
    assert!(status == 403 && text.contains("only to its PowerJob servers"), "{status} {text}");
    assert_eq!((worker.status().counters.refused_peers, worker.status().counters.dispatches), (1, 0));
    worker.crash().await;
    rig.config.extra_peers = vec!["127.0.0.0/8".to_owned()];
    let worker = rig.start().await;
    rig.dispatch(&worker, ID, "fail", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_port_is_named_with_the_way_to_find_its_owner() {
    let mut rig = Rig::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = taken.local_addr().expect("an address").port();
    rig.config.listen = format!("127.0.0.1:{port}");
    let why = rig.builder().start().await.err().expect("busy");
    assert!(matches!(why, WorkerError::Bind(_)));
    let text = why.to_string();
    assert!(text.contains(&format!("port {port} is in use")) && text.contains("ss -ltnp"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_on_a_state_directory_is_told_who_holds_it() {
    let rig = Rig::new().await;
    let worker = rig.start().await;
    let why = rig.builder().start().await.err().expect("held");
    assert!(matches!(why, WorkerError::Lock(_)));
    let text = why.to_string();
    assert!(text.contains(&format!("in use by process {} since 20", std::process::id())), "{text}");
    worker.crash().await;
    rig.start().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_configuration_come_all_at_once() {
    let mut rig = Rig::new().await;
    rig.config.app = String::new();
    rig.config.servers = vec!["https://a:7700".to_owned()];
    rig.config.state_dir = None;
    let text = Worker::builder(rig.config.clone()).start().await.err().expect("mistakes").to_string();
    for part in ["4 mistake(s)", "processors:", "state_dir:", "app:", "plain http"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// Time is paused, so it jumps to the next timer whenever nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn trap_24_an_idle_connection_lives_longer_than_the_servers_75_seconds() {
    let bound = crate::server::bind("127.0.0.1:0".parse().expect("an address")).await.expect("bound");
    let port = bound.port();
    let stop = tokio_util::sync::CancellationToken::new();
    let peers = crate::server::Peers::new(vec!["127.0.0.1".parse().expect("valid")]);
    let routes = axum::Router::new().route("/", axum::routing::post(|| async { "" }));
    let served = crate::server::Served::new(routes, Arc::new(peers), Arc::new(|_| None), Arc::default());
    let server = tokio::spawn(bound.serve(served, stop.clone()));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    let call = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let mut buffer = [0; 1024];
    stream.write_all(call).await.expect("sent");
    assert!(stream.read(&mut buffer).await.expect("an answer") > 0);
    tokio::time::advance(Duration::from_secs(200)).await;
    stream.write_all(call).await.expect("sent");
    assert!(stream.read(&mut buffer).await.expect("an answer") > 0, "still open after 200 s");
    // In the end it is closed.
    assert_eq!(stream.read(&mut buffer).await.expect("the end"), 0);
    stop.cancel();
    server.await.expect("ended");
}

/// Takes nothing: for requests that never get so far.
struct Nobody;

#[async_trait]
impl crate::server::Inbound for Nobody {
    async fn run_job(
        &self,
        _request: crate::wire::ServerScheduleJobReq,
        _raw: bytes::Bytes,
    ) -> Result<(), crate::server::StoreProblem> {
        unreachable!("the body never comes")
    }

    async fn stop_instance(&self, _instance_id: i64) {
        unreachable!("the body never comes")
    }

    async fn query(&self, _instance_id: i64, _custom_query: Option<&str>) -> Option<crate::wire::InstanceDetail> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up_with_a_text_and_the_connection_ends() {
    let bound = crate::server::bind("127.0.0.1:0".parse().expect("an address")).await.expect("bound");
    let port = bound.port();
    let stop = tokio_util::sync::CancellationToken::new();
    let peers = Arc::new(crate::server::Peers::new(vec!["127.0.0.1".parse().expect("valid")]));
    let counters: Arc<crate::worker::Counters> = Arc::default();
    let reading = crate::server::Reading { counters: counters.clone() };
    let routes = crate::server::Routes { inbound: Arc::new(Nobody), reading }.router();
    let served = crate::server::Served::new(routes, peers, Arc::new(|_| None), counters.clone());
    let server = tokio::spawn(bound.serve(served, stop.clone()));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    let head = b"POST /worker/runJob HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    let began = tokio::time::Instant::now();
    stream.write_all(head).await.expect("sent");
    let mut answer = String::new();
    // To the end: what is left of the body cannot be told from a next request.
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("did not arrive within 30 s"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(counters.bad_requests.get(), 1);
    stop.cancel();
    server.await.expect("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hold_only_so_many_connections() {
    let mut rig = Rig::new().await;
    rig.config.servers = vec!["192.0.2.1:7700".to_owned()];
    let worker = rig.start().await;
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(TcpStream::connect(worker.address()).await.expect("connected"));
    }
    // 32 of them wait for a request, for 5 s at most; the others are closed unread, and counted.
    until("the rest is refused", || worker.status().counters.refused_peers >= 8).await;
    until("the first ones are given up", || held.iter().all(|stream| matches!(stream.try_read(&mut [0; 1]), Ok(0))))
        .await;
}
