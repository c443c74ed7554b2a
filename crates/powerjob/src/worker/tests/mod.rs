//! The runtime in one process with a fake server.

mod address;
mod cancel;
mod collector;
mod crash;
mod discovery;
mod fake;
mod foreign;
mod heavy;
mod heavy_ends;
mod life;
mod listing;
mod log_config;
mod outage;
mod peers;
mod points;
mod port;
mod races;
mod tasks;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use fake::{APP, Fake};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Shutdown, Worker, WorkerBuilder, WorkerConfig, WorkerError, WorkerHandle};
use crate::{ProcessResult, Processor, RestartPolicy, TaskContext};

/// Longest wait for something that must happen. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a test's processor does, by its `jobParams`: `{"sleep":ms,"lines":n,"fail":"why","panic":"text","deaf":true}`.
struct Play(RestartPolicy);

#[async_trait]
impl Processor for Play {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let params: Value = ctx.job_params.as_deref().and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
        for i in 0..params["lines"].as_u64().unwrap_or(0) {
            ctx.log.info(format!("line {i}"));
        }
        if ctx.resumed {
            ctx.log.info("resumed");
            return ProcessResult::success(format!("resumed in attempt {}", ctx.attempt));
        }
        if let Some(text) = params["panic"].as_str() {
            panic!("{text}");
        }
        let sleep = tokio::time::sleep(Duration::from_millis(params["sleep"].as_u64().unwrap_or(0)));
        if params["deaf"] == json!(true) {
            sleep.await;
        } else {
            tokio::select! {
                () = sleep => {}
                reason = ctx.stop.raised() => {
                    ctx.log.info(format!("asked to end: {reason:?}"));
                    return ProcessResult::failed(format!("ended early: {reason:?}"));
                }
            }
        }
        ctx.workflow.append("from", ctx.workflow.values().get("k").cloned().unwrap_or_default());
        match params["fail"].as_str() {
            Some(why) => ProcessResult::failed(why),
            None => ProcessResult::success("done"),
        }
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.0
    }
}

/// A worker's state directory, configuration and server.
struct Rig {
    dir: TempDir,
    fake: Fake,
    config: WorkerConfig,
    http: reqwest::Client,
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let fake = Fake::start().await;
        let mut config = WorkerConfig::new([fake.server()], APP);
        config.listen = "127.0.0.1:0".to_owned();
        config.state_dir = Some(dir.path().to_owned());
        let http = crate::client::http_client().expect("a client");
        Self { dir, fake, config, http }
    }

    fn builder(&self) -> WorkerBuilder {
        Worker::builder(self.config.clone())
            .processor("fail", Arc::new(Play(RestartPolicy::Fail)))
            .processor("rerun", Arc::new(Play(RestartPolicy::Rerun)))
            .processor("resume", Arc::new(Play(RestartPolicy::Resume)))
    }

    async fn start(&self) -> WorkerHandle {
        self.builder().start().await.expect("the worker starts")
    }

    /// Starts a worker and waits until the server has heard of it.
    async fn listed(&self) -> WorkerHandle {
        let worker = self.start().await;
        let before = self.fake.heartbeats().len();
        until("a heartbeat", || self.fake.heartbeats().len() > before || worker.status().listed).await;
        worker
    }

    async fn post(&self, worker: &WorkerHandle, path: &str, body: &Value) -> (u16, String) {
        self.post_raw(worker, path, body.to_string()).await
    }

    async fn post_raw(&self, worker: &WorkerHandle, path: &str, body: String) -> (u16, String) {
        let answer = self.http.post(format!("http://{}{path}", worker.address())).body(body).send().await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// Dispatches an instance and expects the empty 200.
    async fn dispatch(&self, worker: &WorkerHandle, id: i64, processor: &str, params: Value) {
        let answer = self.post(worker, "/worker/runJob", &request(worker, id, processor, params)).await;
        assert_eq!(answer, (200, String::new()));
    }

    async fn stop(&self, worker: &WorkerHandle, id: i64) {
        let answer = self.post(worker, "/worker/stopInstance", &json!({"instanceId": id})).await;
        assert_eq!(answer, (200, String::new()));
    }

    fn journals(&self) -> std::path::PathBuf {
        self.dir.path().join("journals")
    }

    /// Waits until the worker has closed the instance.
    async fn closed(&self, worker: &WorkerHandle, id: i64) {
        let id = id.to_string();
        until("the instance is closed", || worker.status().instances.iter().all(|i| i.instance_id != id)).await;
    }
}

/// A dispatch as a server writes it.
#[expect(clippy::needless_pass_by_value, reason = "the parameters are written in place")]
fn request(worker: &WorkerHandle, id: i64, processor: &str, params: Value) -> Value {
    json!({"allWorkerAddress": [worker.address()], "maxWorkerCount": 0, "jobId": 11, "instanceId": id,
        "executeType": "STANDALONE", "processorType": "BUILT_IN", "processorInfo": processor, "instanceTimeoutMS": 0,
        "jobParams": params.to_string(), "threadConcurrency": 5, "taskRetryNum": 0, "timeExpressionType": "API",
        "maxInstanceNum": 0, "logConfig": "{\"level\":2,\"type\":1}"})
}

/// The end mark of a journal file, if it has one.
fn journal_text(dir: &Path, id: i64) -> String {
    std::fs::read_to_string(dir.join(format!("{id}.log"))).unwrap_or_default()
}
