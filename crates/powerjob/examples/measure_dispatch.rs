//! How long a dispatch takes while many instances are open.
//!
//! ```text
//! cargo run --release -p powerjob-worker --example measure_dispatch -- [OPEN=1000] [DISPATCHES=1000] [AT_ONCE=32]
//! ```
//!
//! A server that says yes to everything, a worker with `OPEN` sleeping instances, then `DISPATCHES` more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    routing::{get, post},
};
use futures_util::stream::{self, StreamExt};
use powerjob_worker::{ProcessResult, Processor, TaskContext, Worker, WorkerConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Sleep;

#[async_trait]
impl Processor for Sleep {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        ctx.stop.raised().await;
        ProcessResult::success("stopped")
    }
}

async fn server() -> Result<String, Failure> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?.to_string();
    let good = |data: Value| Json(json!({"success": true, "data": data}));
    let owner = address.clone();
    let routes = Router::new()
        .route("/server/assert", get(move || async move { good(json!(1)) }))
        .route("/server/acquire", get(move || async move { good(json!(owner)) }))
        .route("/server/hello", get(move || async move { good(json!({"serverInfo": {"bornTime": 1}})) }))
        .route("/server/workerHeartbeat", post(|| async {}))
        .route("/server/reportLog", post(|| async {}))
        .route("/server/reportInstanceStatus", post(|| async { Json(json!({"success": true})) }));
    tokio::spawn(async move { axum::serve(socket, routes).await });
    Ok(address)
}

async fn dispatch(http: &reqwest::Client, worker: &str, id: i64) -> Result<Duration, Failure> {
    let request = json!({"allWorkerAddress": [worker], "jobId": 11, "instanceId": id, "executeType": "STANDALONE",
        "processorType": "BUILT_IN", "processorInfo": "sleep", "instanceTimeoutMS": 0,
        "jobParams": "p".repeat(4000), "timeExpressionType": "API"});
    let began = Instant::now();
    let answer = http.post(format!("http://{worker}/worker/runJob")).json(&request).send().await?;
    let took = began.elapsed();
    answer.error_for_status()?;
    Ok(took)
}

async fn dispatches(worker: &str, ids: std::ops::Range<i64>, at_once: usize) -> Result<Vec<Duration>, Failure> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let all = stream::iter(ids).map(|id| dispatch(&http, worker, id)).buffer_unordered(at_once);
    let took: Vec<Result<Duration, Failure>> = all.collect().await;
    let mut took = took.into_iter().collect::<Result<Vec<_>, _>>()?;
    took.sort_unstable();
    Ok(took)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    powerjob_worker::install_tls();
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (open, count, at_once) = (next(1000)?, next(1000)?, next(32)?);
    let state = tempfile::tempdir()?;
    let config = WorkerConfig {
        listen: "127.0.0.1:0".to_owned(),
        state_dir: Some(state.path().to_owned()),
        slots: open + count,
        ..WorkerConfig::new([server().await?], "measure")
    };
    let worker = Worker::builder(config).processor("sleep", Arc::new(Sleep)).start().await?;
    while !worker.status().listed {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let first = i64::try_from(open)?;
    dispatches(worker.address(), 0..first, 32).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let took = dispatches(worker.address(), first..first + i64::try_from(count)?, at_once).await?;
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "{open} open, {count} dispatches, {at_once} at once: p50 {:?}, p99 {:?}, max {:?}",
        at(50),
        at(99),
        at(100)
    );
    Ok(())
}
