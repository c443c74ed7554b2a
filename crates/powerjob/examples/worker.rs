//! A small worker: processors `empty` (ends at once) and `echo`.
//!
//! `echo` takes a JSON object from the job's parameters, overlaid by that of the run (or by the workflow context):
//! `lines` N writes `line I of N: ...`, `file` writes the lines of a text file as they are, `sleep` waits so many
//! milliseconds, `fail` (a text, or true) fails, `key` (with `value`) is appended to the workflow context.
//!
//! ```text
//! cargo run -p powerjob-worker --example worker -- -a APP -s 127.0.0.1:7700[,..] -p 27777 [-t TAG] [--state-dir DIR]
//!     [--slots N]
//! ```

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, Shutdown, TaskContext, Worker, WorkerConfig};
use serde_json::{Map, Value};
use testrig_joblog::Level;
use tokio::signal::unix::{SignalKind, signal};

struct Empty;

#[async_trait]
impl Processor for Empty {
    async fn process(&self, _: TaskContext) -> ProcessResult {
        ProcessResult::success("empty")
    }
}

struct Echo;

#[async_trait]
impl Processor for Echo {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let params = parameters(&ctx);
        ctx.log.info(format!("echo: {}", Value::Object(params.clone())));
        let lines = number(&params, "lines");
        for i in 1..=lines {
            ctx.log.info(format!("line {i} of {lines}: the quick brown fox jumps over the lazy dog"));
        }
        if let Some(path) = text(&params, "file") {
            match tokio::fs::read(&path).await {
                Ok(bytes) => {
                    let content = String::from_utf8_lossy(&bytes);
                    for line in content.strip_suffix('\n').unwrap_or(&content).split('\n') {
                        ctx.log.log(Level::Info, "file", line);
                    }
                }
                Err(error) => {
                    return ProcessResult::rejected(format!("failed to read `file` {path}: {error}"));
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(number(&params, "sleep"))) => {}
            reason = ctx.stop.raised() => return ProcessResult::rejected(format!("told to end: {reason:?}")),
        }
        if let Some(key) = text(&params, "key") {
            let value = text(&params, "value").unwrap_or_else(|| ctx.instance_id.to_string());
            ctx.workflow.append(key, value);
        }
        match params.get("fail") {
            None | Some(Value::Bool(false) | Value::Null) => ProcessResult::success(format!("{lines} lines")),
            Some(Value::String(why)) => ProcessResult::failed(why.clone()),
            Some(_) => ProcessResult::failed("asked to fail"),
        }
    }
}

fn parameters(ctx: &TaskContext) -> Map<String, Value> {
    let mut params = Map::new();
    for text in [&ctx.job_params, &ctx.instance_params].into_iter().flatten() {
        if let Ok(Value::Object(more)) = serde_json::from_str::<Value>(text) {
            params.extend(more);
        }
    }
    params
}

fn text(params: &Map<String, Value>, name: &str) -> Option<String> {
    params.get(name)?.as_str().map(str::to_owned)
}

fn number(params: &Map<String, Value>, name: &str) -> u64 {
    let value = params.get(name);
    value.and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok())).unwrap_or(0)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    let config = configuration()?;
    let worker =
        Worker::builder(config).processor("empty", Arc::new(Empty)).processor("echo", Arc::new(Echo)).start().await?;
    println!("listening on {}", worker.address());
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        () = worker.ended() => {}
    }
    worker.shutdown(Shutdown::Detach).await;
    Ok(())
}

fn configuration() -> Result<WorkerConfig, String> {
    let mut config = WorkerConfig::new(Vec::<String>::new(), "");
    let mut arguments = std::env::args().skip(1);
    let state_dir = std::env::temp_dir().join(format!("powerjob-worker-{}", std::process::id()));
    config.state_dir = Some(state_dir);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "-a" => config.app = value,
            "-s" => config.servers = value.split(',').map(str::to_owned).collect(),
            "-p" => config.listen = format!("0.0.0.0:{value}"),
            "-t" => config.tag = Some(value),
            "--state-dir" => config.state_dir = Some(PathBuf::from(value)),
            "--slots" => config.slots = value.parse().map_err(|_| format!("--slots {value} is not a number"))?,
            _ => {
                return Err(format!("unknown flag {flag}; known are -a -s -p -t --state-dir --slots"));
            }
        }
    }
    Ok(config)
}
