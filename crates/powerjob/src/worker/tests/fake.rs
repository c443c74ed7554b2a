//! A PowerJob server as far as a worker meets one: two ports, everything that comes in is kept.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Form, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
};

use crate::wire::{
    AskResponse, InstanceLogContent, QueryJobCluster, TaskTrackerReportInstanceStatusReq, WorkerHeartbeat,
    WorkerLogReportReq,
};

pub(super) const APP: &str = "it app&co";
pub(super) const APP_ID: i64 = 7;
pub(super) const HEARTBEAT: &str = "/server/workerHeartbeat";
pub(super) const REPORT: &str = "/server/reportInstanceStatus";
pub(super) const REPORT_LOG: &str = "/server/reportLog";

/// What came in, in order of arrival.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Heartbeat(Box<WorkerHeartbeat>),
    Report(Box<TaskTrackerReportInstanceStatusReq>),
    Line(InstanceLogContent),
}

/// What it does and has seen.
pub(super) struct Book {
    pub(super) seen: Vec<Seen>,
    pub(super) born_time: i64,
    pub(super) clock_offset_ms: i64,
    /// No `serverTimeTs`: only the `Date` of its answers tells the time.
    pub(super) date_only: bool,
    /// So many times it greets nobody, as one that is still starting.
    pub(super) hellos_lost: usize,
    /// Answers to final reports, used up one by one; afterwards they are accepted.
    pub(super) final_answers: Vec<(u16, Value)>,
    /// RUNNING reports are read and answered 500.
    pub(super) refuses_running: bool,
    /// What `/openApi/fetchInstanceInfo` says: status and address.
    pub(super) instances: HashMap<i64, (i32, String)>,
    pub(super) acquires: Vec<HashMap<String, String>>,
    /// What acquire answers.
    pub(super) transport: String,
    /// What queryJobCluster answers, by job; another job is another app's.
    pub(super) clusters: HashMap<i64, Vec<String>>,
    /// Jobs that it was asked about by queryJobCluster.
    pub(super) questions: Vec<i64>,
    /// Addresses that it says it does not reach, without trying.
    pub(super) unreached: Vec<String>,
    /// Who sent log lines.
    pub(super) log_sources: Vec<String>,
    /// Paths whose requests wait until they are taken out again, unseen.
    pub(super) held: Vec<&'static str>,
    /// The transport address that it tells of itself (`defaultAddress`), if it tells one.
    pub(super) tells: Option<String>,
    /// Addresses that it was asked to connect to, and what came of it.
    pub(super) pings: Vec<(String, bool)>,
}

/// The fake server. Its ports stay the same when it is killed and started again.
pub(super) struct Fake {
    pub(super) book: Arc<Mutex<Book>>,
    web: SocketAddr,
    transport: SocketAddr,
    runtime: Option<Runtime>,
}

type Shared = State<Arc<Mutex<Book>>>;

impl Fake {
    pub(super) async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (web, transport) = (bind(any).await, bind(any).await);
        let book = Book {
            seen: Vec::new(),
            born_time: 1_700_000_000_000,
            clock_offset_ms: 0,
            date_only: false,
            hellos_lost: 0,
            final_answers: Vec::new(),
            refuses_running: false,
            instances: HashMap::new(),
            acquires: Vec::new(),
            transport: transport.to_string(),
            clusters: HashMap::new(),
            questions: Vec::new(),
            unreached: Vec::new(),
            log_sources: Vec::new(),
            held: Vec::new(),
            tells: None,
            pings: Vec::new(),
        };
        let mut fake = Self { book: Arc::new(Mutex::new(book)), web, transport, runtime: None };
        fake.revive();
        fake
    }

    /// The address that a worker is configured with.
    pub(super) fn server(&self) -> String {
        self.web.to_string()
    }

    pub(super) fn transport(&self) -> String {
        self.transport.to_string()
    }

    /// Gone with all its connections, as with `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Up again on the same ports.
    pub(super) fn revive(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for the fake server");
        for (address, routes) in [(self.web, web_routes(self.book.clone())), (self.transport, transport_routes())] {
            let routes = routes.with_state(self.book.clone());
            runtime.spawn(async move {
                let listener = loop {
                    // Right after a kill the port may be held for a moment.
                    match TcpListener::bind(address).await {
                        Ok(listener) => break listener,
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                };
                axum::serve(listener, routes).await.expect("serving");
            });
        }
        self.runtime = Some(runtime);
    }

    pub(super) fn seen<T>(&self, pick: impl Fn(&Seen) -> Option<T>) -> Vec<T> {
        self.book.lock().seen.iter().filter_map(pick).collect()
    }

    pub(super) fn heartbeats(&self) -> Vec<WorkerHeartbeat> {
        self.seen(|seen| match seen {
            Seen::Heartbeat(beat) => Some((**beat).clone()),
            _ => None,
        })
    }

    pub(super) fn reports(&self, instance_id: i64) -> Vec<TaskTrackerReportInstanceStatusReq> {
        self.seen(|seen| match seen {
            Seen::Report(report) if report.instance_id == instance_id => Some((**report).clone()),
            _ => None,
        })
    }

    /// The final reports of an instance.
    pub(super) fn finals(&self, instance_id: i64) -> Vec<TaskTrackerReportInstanceStatusReq> {
        self.reports(instance_id).into_iter().filter(|report| report.instance_status != 3).collect()
    }

    pub(super) fn log_sources(&self) -> Vec<String> {
        self.book.lock().log_sources.clone()
    }

    pub(super) fn lines(&self, instance_id: i64) -> Vec<InstanceLogContent> {
        self.seen(|seen| match seen {
            Seen::Line(line) if line.instance_id == instance_id => Some(line.clone()),
            _ => None,
        })
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn bind(address: SocketAddr) -> SocketAddr {
    TcpListener::bind(address).await.and_then(|listener| listener.local_addr()).expect("a free port")
}

fn web_routes(book: Arc<Mutex<Book>>) -> Router<Arc<Mutex<Book>>> {
    Router::new()
        .route("/server/assert", get(assert))
        .route("/server/acquire", get(acquire))
        .route("/server/hello", get(hello))
        .route("/server/checkConnectivity", get(check_connectivity))
        .route("/openApi/fetchInstanceInfo", post(fetch_instance_info))
        .layer(axum::middleware::map_response_with_state(book, dated))
}

/// The `Date` of its own clock.
async fn dated(State(book): Shared, mut response: Response) -> Response {
    let offset = book.lock().clock_offset_ms;
    let now = u64::try_from(crate::client::now_ms() + offset).expect("after 1970");
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(now));
    response.headers_mut().insert("date", date.parse().expect("a header"));
    response
}

fn transport_routes() -> Router<Arc<Mutex<Book>>> {
    Router::new()
        .route(HEARTBEAT, post(heartbeat))
        .route(REPORT, post(report))
        .route(REPORT_LOG, post(report_log))
        .route("/server/queryJobCluster", post(query_job_cluster))
        .fallback(|| async { (StatusCode::NOT_FOUND, "<html><body><h1>Resource not found</h1></body></html>") })
}

async fn assert(Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let name = query.get("appName").map_or("", String::as_str);
    Json(if name == APP {
        json!({"success": true, "data": APP_ID, "message": null})
    } else {
        let text = format!("app({name}) is not registered! Please register the app in oms-console first.");
        json!({"success": false, "data": null, "message": text})
    })
}

async fn acquire(State(book): Shared, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let mut book = book.lock();
    let http = query.get("protocol").is_some_and(|protocol| protocol == "HTTP");
    book.acquires.push(query);
    Json(if http {
        json!({"success": true, "data": book.transport, "message": null})
    } else {
        json!({"success": false, "data": null, "message": "PowerJobException: server elect failed for app 7", "code": null})
    })
}

async fn hello(State(book): Shared, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let mut book = book.lock();
    if book.hellos_lost > 0 {
        book.hellos_lost -= 1;
        return Json(json!({"success": false, "message": "not yet"}));
    }
    let now = crate::client::now_ms() + book.clock_offset_ms;
    let mut data = json!({"serverInfo": {"id": 1, "bornTime": book.born_time}, "serverTimeTs": now});
    if book.date_only {
        data["serverTimeTs"] = Value::Null;
    }
    if let Some(address) = &book.tells {
        data["defaultAddress"] = json!({"protocol": "HTTP", "address": address, "externalAddress": address});
    }
    if query.get("debug").is_some_and(|debug| debug == "true") {
        let mut workers = serde_json::Map::new();
        for seen in &book.seen {
            if let Seen::Heartbeat(beat) = seen {
                let row = json!({"address": beat.worker_address, "lastActiveTime": beat.heartbeat_time, "overloading": beat.overload});
                workers.insert(beat.worker_address.clone(), row);
            }
        }
        data["appId2ClusterInfo"] = json!({APP_ID.to_string(): {"allWorkers": workers}});
    }
    Json(json!({"success": true, "data": data}))
}

/// As the real one: `ping` without a line feed, and a line that must be `pong`.
async fn check_connectivity(State(book): Shared, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let target = format!("{}:{}", query["targetIp"], query["targetPort"]);
    let answers = async {
        let mut stream = tokio::net::TcpStream::connect(&target).await.ok()?;
        stream.write_all(b"ping").await.ok()?;
        let mut line = String::new();
        tokio::io::BufReader::new(stream).read_line(&mut line).await.ok()?;
        Some(line.trim_end().eq_ignore_ascii_case("pong"))
    };
    let never = book.lock().unreached.contains(&query["targetIp"]);
    let reaches = !never && tokio::time::timeout(Duration::from_secs(2), answers).await.ok().flatten().unwrap_or(false);
    book.lock().pings.push((target.clone(), reaches));
    Json(json!({"success": true, "data": reaches, "message": null}))
}

async fn query_job_cluster(State(book): Shared, body: axum::body::Bytes) -> Response {
    let Ok(query) = QueryJobCluster::parse(&body) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response();
    };
    let mut book = book.lock();
    book.questions.push(query.job_id);
    match book.clusters.get(&query.job_id) {
        Some(workers) if query.app_id == APP_ID => Json(AskResponse::of(workers).expect("a list")).into_response(),
        _ => Json(AskResponse::failure("Permission Denied!")).into_response(),
    }
}

async fn fetch_instance_info(State(book): Shared, Form(form): Form<HashMap<String, String>>) -> Json<Value> {
    let id: i64 = form.get("instanceId").and_then(|id| id.parse().ok()).unwrap_or(0);
    let known = book.lock().instances.get(&id).cloned();
    Json(match known {
        Some((status, address)) => json!({"success": true, "message": null, "data":
            {"instanceId": id, "jobId": 1, "appId": APP_ID, "status": status, "taskTrackerAddress": address}}),
        None => json!({"success": false, "data": null, "code": null,
            "message": format!("IllegalArgumentException: invalid params: can't find Instance by instanceId: {id}")}),
    })
}

/// Waits as long as requests to this path are held.
async fn wait(book: &Mutex<Book>, path: &str) {
    while book.lock().held.contains(&path) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn heartbeat(State(book): Shared, body: axum::body::Bytes) -> Response {
    wait(&book, HEARTBEAT).await;
    match WorkerHeartbeat::parse(&body) {
        Ok(beat) => {
            book.lock().seen.push(Seen::Heartbeat(Box::new(beat)));
            StatusCode::OK.into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response(),
    }
}

async fn report(State(book): Shared, body: axum::body::Bytes) -> Response {
    wait(&book, REPORT).await;
    let Ok(report) = TaskTrackerReportInstanceStatusReq::parse(&body) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response();
    };
    let mut book = book.lock();
    let is_final = report.instance_status != 3;
    book.seen.push(Seen::Report(Box::new(report)));
    if !is_final {
        let status = if book.refuses_running { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        return status.into_response();
    }
    if book.final_answers.is_empty() {
        return Json(json!({"success": true})).into_response();
    }
    let (status, answer) = book.final_answers.remove(0);
    (StatusCode::from_u16(status).expect("a status"), Json(answer)).into_response()
}

async fn report_log(State(book): Shared, body: axum::body::Bytes) -> Response {
    wait(&book, REPORT_LOG).await;
    match WorkerLogReportReq::parse(&body) {
        Ok(report) => {
            let mut book = book.lock();
            book.log_sources.push(report.worker_address);
            book.seen.extend(report.instance_log_contents.into_iter().map(Seen::Line));
            StatusCode::OK.into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response(),
    }
}
