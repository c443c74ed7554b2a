//! Two workers talk over real HTTP.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::task::TaskTracker;

use super::{TaskRoutes, routes::Reading};
use crate::{
    client::Transport,
    core::Owner,
    tasks::{
        HttpPeers, ServerCluster,
        api::{
            ClusterQuery, InstanceInfo, MapTask, PeerError, ReportTask, ReportWorker, ResultSource, StartTask, SubTask,
            TrackerPeer, WorkerPeer,
        },
    },
    worker::Counters,
};

/// Both roles of the other worker: says yes to instance 1, no to instance 2, and knows no other.
#[derive(Default)]
struct Other {
    got: Mutex<Vec<String>>,
    go_on: Notify,
}

impl Other {
    fn answer(&self, instance_id: i64, what: String) -> Result<(), PeerError> {
        self.got.lock().push(what);
        match instance_id {
            1 => Ok(()),
            2 => Err(PeerError::Refused("no".to_owned())),
            _ => Err(PeerError::Unreachable("not tracked here".to_owned())),
        }
    }
}

#[async_trait]
impl WorkerPeer for Other {
    async fn start_task(
        &self,
        _: &str,
        task: StartTask,
        results: Option<Arc<dyn ResultSource>>,
    ) -> Result<(), PeerError> {
        assert!(results.is_none());
        self.answer(task.instance.instance_id, format!("start {}", task.task_id))
    }

    async fn stop_instance(&self, _: &str, instance_id: i64) -> Result<(), PeerError> {
        self.go_on.notified().await;
        self.answer(instance_id, "stop".to_owned())
    }
}

#[async_trait]
impl TrackerPeer for Other {
    async fn report_task(&self, _: &str, report: ReportTask) -> Result<(), PeerError> {
        self.answer(report.instance_id, format!("report {}", report.status))
    }

    async fn report_worker(&self, _: &str, report: ReportWorker) -> Result<(), PeerError> {
        self.answer(report.instance_id, format!("load {}", report.remain_task_num))
    }

    async fn map_task(&self, _: &str, map: MapTask) -> Result<(), PeerError> {
        self.answer(map.instance_id, format!("map {}", map.sub_tasks.len()))
    }
}

struct Pair {
    other: Arc<Other>,
    counters: Arc<Counters>,
    stops: TaskTracker,
    http: HttpPeers,
    address: String,
}

async fn pair() -> Pair {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound").to_string();
    let (other, counters, stops) = (Arc::new(Other::default()), Arc::new(Counters::default()), TaskTracker::new());
    let routes = TaskRoutes {
        address: address.clone(),
        processors: other.clone(),
        trackers: other.clone(),
        tasks: stops.clone(),
        reading: Reading { counters: counters.clone() },
    };
    tokio::spawn(async move { axum::serve(socket, routes.router()).await });
    let http = HttpPeers::new(Transport::new());
    Pair { other, counters, stops, http, address }
}

fn start(instance_id: i64) -> StartTask {
    StartTask {
        task_tracker_address: "10.0.0.1:1".to_owned(),
        instance: Arc::new(InstanceInfo { instance_id, ..InstanceInfo::default() }),
        task_id: "0.1".to_owned(),
        ..StartTask::default()
    }
}

fn report(instance_id: i64, status: i32) -> ReportTask {
    ReportTask { instance_id, task_id: "0.1".to_owned(), status, ..ReportTask::default() }
}

#[tokio::test]
async fn asks_are_accepted_refused_or_lost_and_tells_always_arrive() {
    let pair = pair().await;
    let (http, to) = (&pair.http, pair.address.as_str());
    let refused = |why: &str| Err(PeerError::Refused(why.to_owned()));
    for (id, taken) in [(1, Ok(())), (2, refused("no")), (3, refused("not tracked here"))] {
        assert_eq!(http.start_task(to, start(id), None).await, taken, "a task that is not taken goes elsewhere");
        assert_eq!(http.report_worker(to, load(id)).await, Ok(()));
    }
    assert_eq!(http.report_task(to, report(1, 6)).await, Ok(()));
    assert_eq!(http.report_task(to, report(2, 5)).await, Err(PeerError::Refused("no".to_owned())));
    let lost = http.report_task(to, report(3, 6)).await.expect_err("an empty answer");
    assert!(matches!(&lost, PeerError::Unreachable(why) if why.contains("body is empty")), "{lost:?}");
    assert_eq!(http.report_task(to, report(3, 4)).await, Ok(()), "told, not asked");
    assert_eq!(http.map_task(to, map(1)).await, Ok(()));
    assert!(matches!(http.map_task(to, map(2)).await, Err(PeerError::Refused(_))));
    assert!(matches!(http.map_task(to, map(3)).await, Err(PeerError::Unreachable(_))));
    let got = pair.other.got.lock();
    assert_eq!(got[..2], ["start 0.1", "load 4"]);
    assert!(got.contains(&"report 6".to_owned()) && got.contains(&"map 2".to_owned()));
    assert_eq!(pair.counters.bad_requests.get(), 0);
}

fn load(instance_id: i64) -> ReportWorker {
    ReportWorker { kind: 2, instance_id, time: 1, remain_task_num: 4, address: "10.0.0.2:1".to_owned() }
}

fn map(instance_id: i64) -> MapTask {
    let sub_task = |n| SubTask { task_id: format!("0.{n}"), content: vec![0] };
    MapTask {
        instance_id,
        sub_instance_id: instance_id,
        task_name: "A".to_owned(),
        sub_tasks: (0..2).map(sub_task).collect(),
    }
}

#[tokio::test]
async fn a_stop_is_answered_at_once_and_goes_on() {
    let pair = pair().await;
    pair.http.stop_instance(&pair.address, 1).await.expect("answered though the stop has not ended");
    assert!(pair.other.got.lock().is_empty());
    pair.other.go_on.notify_one();
    pair.stops.close();
    tokio::time::timeout(Duration::from_secs(10), pair.stops.wait()).await.expect("it ends");
    assert_eq!(*pair.other.got.lock(), ["stop"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_500_with_the_reason_and_counted() {
    let pair = pair().await;
    crate::client::install_tls();
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    for path in [
        "processorTracker/startTask",
        "processorTracker/stopInstance",
        "taskTracker/reportTaskStatus",
        "taskTracker/reportProcessorTrackerStatus",
        "taskTracker/mapTask",
    ] {
        let url = format!("http://{}/{path}", pair.address);
        let answer = http.post(url).body(r#"{"instanceId":{}}"#).send().await.expect("an answer");
        assert_eq!(answer.status(), 500, "{path}");
        let text = answer.text().await.expect("a text");
        assert!(text.starts_with("Internal Server Error: ") && text.contains("field `"), "{path}: {text}");
    }
    assert_eq!(pair.counters.bad_requests.get(), 5);
}

#[tokio::test]
async fn a_worker_that_is_not_there_is_unreachable() {
    let pair = pair().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound").to_string();
    let why = pair.http.start_task(&nobody, start(1), None).await.expect_err("nobody");
    assert!(matches!(&why, PeerError::Unreachable(why) if why.contains(&nobody)), "{why:?}");
}

#[tokio::test]
async fn the_server_is_asked_for_the_workers_of_a_job() {
    use axum::{Json, Router, routing::post};
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let transport = socket.local_addr().expect("bound").to_string();
    let answer = |Json(query): Json<serde_json::Value>| async move {
        assert_eq!(query, serde_json::json!({"appId": 5, "jobId": 12}));
        Json(serde_json::json!({"success": true, "data": "WyIxMC4wLjAuNToyNzc3NyIsIjEwLjAuMC42OjI3Nzc3Il0"}))
    };
    tokio::spawn(
        async move { axum::serve(socket, Router::new().route("/server/queryJobCluster", post(answer))).await },
    );
    let (sender, owner) = tokio::sync::watch::channel(None);
    let cluster = ServerCluster::new(Transport::new(), owner);
    assert_eq!(cluster.workers(12).await, Err("no server is known now".to_owned()));
    sender.send_replace(Some(Owner { transport, web: String::new(), born_time: None, app_id: 5 }));
    assert_eq!(cluster.workers(12).await, Ok(vec!["10.0.0.5:27777".to_owned(), "10.0.0.6:27777".to_owned()]));
}
