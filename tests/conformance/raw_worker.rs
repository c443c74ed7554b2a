//! A worker made by hand: it records every request, answers by script, and reports exactly what a case tells it to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::check::{Failure, Outcome, eventually};

/// A request that the server sent.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

/// A worker of one app. Gone when dropped.
pub(crate) struct RawWorker {
    pub(crate) address: String,
    transport: String,
    state: Arc<Shared>,
    http: reqwest::Client,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    answers: Mutex<HashMap<String, (u16, String)>>,
    heartbeat: Mutex<Value>,
    /// Sent to the server when a dispatch arrives, before it is answered.
    at_once: Mutex<Option<Value>>,
    transport: String,
    http: reqwest::Client,
}

impl RawWorker {
    /// Listens; nothing is known of it yet.
    pub(crate) async fn start(app: &str, app_id: i64, transport: &str) -> Result<Self, Failure> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        let state = Arc::new(Shared {
            received: Mutex::default(),
            answers: Mutex::default(),
            heartbeat: Mutex::new(heartbeat(&address, app, app_id)),
            at_once: Mutex::default(),
            transport: transport.to_owned(),
            http: http.clone(),
        });
        let stop = CancellationToken::new();
        let router = Router::new().fallback(record).with_state(state.clone());
        let ended = stop.clone();
        tokio::spawn(async move {
            // Serving ends with the case; an error would show as a missing request.
            let _ = axum::serve(listener, router).with_graceful_shutdown(ended.cancelled_owned()).await;
        });
        Ok(Self {
            address,
            transport: transport.to_owned(),
            state,
            http,
            stop: stop.clone(),
            _stop_on_drop: stop.drop_guard(),
        })
    }

    /// Changes what the next heartbeats say.
    pub(crate) fn change_heartbeat(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.state.heartbeat.lock());
    }

    /// Sends a heartbeat now.
    pub(crate) async fn beat(&self) -> Outcome {
        let body = self.state.current_heartbeat();
        let (status, _) = self.post("/server/workerHeartbeat", &body).await?;
        if status == 200 { Ok(()) } else { Err(Failure(format!("a heartbeat was answered {status}"))) }
    }

    /// Sends a heartbeat now and every few seconds until the case ends.
    pub(crate) async fn keep_alive(&self) -> Outcome {
        self.beat().await?;
        let (state, stop) = (self.state.clone(), self.stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                let body = state.current_heartbeat();
                // A heartbeat that gets lost is followed by another.
                let _ = state
                    .http
                    .post(format!("http://{}/server/workerHeartbeat", state.transport))
                    .json(&body)
                    .send()
                    .await;
            }
        }));
        Ok(())
    }

    /// What this path answers from now on.
    pub(crate) fn answer(&self, path: &str, status: u16, body: impl Into<String>) {
        self.state.answers.lock().insert(path.to_owned(), (status, body.into()));
    }

    /// A report to be sent as soon as a dispatch arrives, before that is answered.
    pub(crate) fn report_at_once(&self, status: i32, result: &str) {
        let body = json!({"instanceStatus": status, "result": result, "sourceAddress": self.address});
        *self.state.at_once.lock() = Some(body);
    }

    /// All requests for a path.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        self.state.received.lock().iter().filter(|request| request.path == path).cloned().collect()
    }

    /// The `n`th request (from 1) for a path that concerns an instance.
    pub(crate) async fn nth(&self, path: &str, instance: i64, n: usize, limit: Duration) -> Result<Received, Failure> {
        eventually(&format!("request {n} for {path} of instance {instance}"), limit, async || {
            let mut of_instance =
                self.received(path).into_iter().filter(|request| request.body["instanceId"].as_i64() == Some(instance));
            Ok(of_instance.nth(n - 1))
        })
        .await
    }

    /// The first dispatch of an instance.
    pub(crate) async fn dispatched(&self, instance: i64) -> Result<Received, Failure> {
        self.nth("/worker/runJob", instance, 1, Duration::from_secs(10)).await
    }

    /// A report as it should be; a case may change any of it.
    pub(crate) fn report_body(&self, instance: i64, status: i32, report_time: i64) -> Value {
        let dispatch = self
            .received("/worker/runJob")
            .into_iter()
            .rfind(|request| request.body["instanceId"].as_i64() == Some(instance));
        let of = |name: &str| dispatch.as_ref().map_or(Value::Null, |request| request.body[name].clone());
        let mut body = json!({
            "appId": self.state.heartbeat.lock()["appId"], "jobId": of("jobId"), "instanceId": instance, "instanceStatus": status,
            "totalTaskNum": 1, "succeedTaskNum": i32::from(status == 5), "failedTaskNum": i32::from(status == 4),
            "startTime": report_time - 1, "reportTime": report_time, "sourceAddress": self.address, "needAlert": false,
        });
        if !of("wfInstanceId").is_null() {
            body["wfInstanceId"] = of("wfInstanceId");
        }
        if status > 3 {
            body["result"] = Value::from(format!("result {status}"));
            body["endTime"] = Value::from(report_time - 1);
        }
        body
    }

    /// Sends a report at the time of now.
    pub(crate) async fn report(&self, instance: i64, status: i32) -> Result<(u16, String), Failure> {
        self.send_report(&self.report_body(instance, status, now())).await
    }

    pub(crate) async fn send_report(&self, body: &Value) -> Result<(u16, String), Failure> {
        self.post("/server/reportInstanceStatus", body).await
    }

    /// Sends log lines of an instance.
    pub(crate) async fn log(&self, instance: i64, lines: &[(i64, i64, String)]) -> Outcome {
        let contents: Vec<Value> = lines
            .iter()
            .map(|(time, level, text)| json!({"instanceId": instance, "logTime": time, "logLevel": level, "logContent": text}))
            .collect();
        let body = json!({"workerAddress": self.address, "instanceLogContents": contents});
        let (status, answer) = self.post("/server/reportLog", &body).await?;
        if status == 200 && answer.is_empty() {
            Ok(())
        } else {
            Err(Failure(format!("log lines were answered {status} {answer}")))
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<(u16, String), Failure> {
        let response = self.http.post(format!("http://{}{path}", self.transport)).json(body).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }
}

impl Shared {
    fn current_heartbeat(&self) -> Value {
        let mut body = self.heartbeat.lock().clone();
        body["heartbeatTime"] = Value::from(now());
        body
    }
}

/// The wall clock in ms.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn heartbeat(address: &str, app: &str, app_id: i64) -> Value {
    json!({
        "workerAddress": address, "appName": app, "appId": app_id, "heartbeatTime": 0, "containerInfos": [], "version": "5.1.1",
        "protocol": "HTTP", "client": "conformance", "overload": false, "lightTaskTrackerNum": 2, "heavyTaskTrackerNum": 1,
        "systemMetrics": {
            "cpuProcessors": 8, "cpuLoad": 1.25, "jvmUsedMemory": 0.1294, "jvmMaxMemory": 3.556, "jvmMemoryUsage": 0.0364,
            "diskUsed": 108.5645, "diskTotal": 875.0, "diskUsage": 0.1241, "extra": "{\"n\":1}", "score": 13,
        },
    })
}

async fn record(State(state): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let at_once = (path == "/worker/runJob").then(|| state.at_once.lock().clone()).flatten();
    state.received.lock().push(Received { path: path.clone(), headers, body: body.clone(), at: Instant::now() });
    if let Some(mut report) = at_once {
        for name in ["jobId", "instanceId", "wfInstanceId"] {
            report[name] = body[name].clone();
        }
        report["appId"] = state.heartbeat.lock()["appId"].clone();
        report["reportTime"] = Value::from(now());
        report["startTime"] = report["reportTime"].clone();
        // The case looks at what becomes of it.
        let _ = state
            .http
            .post(format!("http://{}/server/reportInstanceStatus", state.transport))
            .json(&report)
            .send()
            .await;
    }
    let answer = state.answers.lock().get(&path).cloned();
    let (status, text) = answer.unwrap_or((200, String::new()));
    (StatusCode::from_u16(status).unwrap_or(StatusCode::OK), text).into_response()
}
