//! A small worker with the processors `empty`, `echo`, `broadcast` and `map_reduce`.
//!
//! Parameters are a JSON object in the job's parameters, overlaid by that of the run (or by the workflow context). All but
//! `empty` know `sleep` (milliseconds) and `fail` (a text, or true).
//!
//! - `empty` succeeds with `ok`.
//! - `echo`: `lines` N writes `line I of N: ...`, `file` writes the lines of a text file as they are, `key` (with `value`) is
//!   appended to the workflow context, `panic` (a text) panics.
//! - `broadcast` (BROADCAST) has a pre- and a post-processing and ends with `post N`, N = results that the last step is given.
//! - `map_reduce` (MAP, MAP_REDUCE): `tasks` (20) sub-tasks with the texts `item-0`, `item-1`.. end with `reduced N`, counted
//!   the same way; each makes `deeper` (0) sub-tasks of its own.
//!
//! ```text
//! cargo run -p powerjob-worker --example worker -- -a APP -s 127.0.0.1:7700[,..] -p 27777 [-t TAG] [--state-dir DIR]
//!     [--slots N] [--name NAME=PROCESSOR]..
//! ```
//!
//! `--name jw.Mr=map_reduce` lets a processor answer to a further name, e.g. that of a Java class, so that this worker and
//! Java ones share a job.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, Shutdown, TaskContext, TaskResults, Worker, WorkerConfig};
use serde_json::{Map, Value};
use testrig_joblog::Level;
use tokio::signal::unix::{SignalKind, signal};

struct Empty;

#[async_trait]
impl Processor for Empty {
    async fn process(&self, _: TaskContext) -> ProcessResult {
        ProcessResult::success("ok")
    }
}

struct Echo;

#[async_trait]
impl Processor for Echo {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let params = parameters(&ctx);
        let given = format!("job parameters {:?}, instance parameters {:?}", ctx.job_params, ctx.instance_params);
        ctx.log.log(Level::Debug, "agent", &given);
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
        if let Err(told) = sleep(&ctx, &params).await {
            return told;
        }
        if let Some(why) = text(&params, "panic") {
            panic!("{why}");
        }
        if let Some(key) = text(&params, "key") {
            let value = text(&params, "value").unwrap_or_else(|| ctx.instance_id.to_string());
            ctx.workflow.append(key, value);
        }
        end(&params, format!("{lines} lines"))
    }
}

struct Broadcast;

#[async_trait]
impl Processor for Broadcast {
    async fn pre_process(&self, ctx: TaskContext) -> ProcessResult {
        ctx.log.info("pre of rust");
        ProcessResult::success("pre")
    }

    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        work(&ctx, "broadcast").await
    }

    async fn post_process(&self, ctx: TaskContext, results: TaskResults) -> ProcessResult {
        summary(&ctx, results, "post").await
    }
}

struct MapReduce;

#[async_trait]
impl Processor for MapReduce {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let params = parameters(&ctx);
        if !ctx.task.is_root() {
            let deeper = if ctx.task.name == "ITEM" { number(&params, "deeper") } else { 0 };
            if deeper > 0
                && let Err(why) = ctx.map("LEAF", (0..deeper).map(|n| format!("{}-{n}", ctx.task.body))).await
            {
                return why.into();
            }
            return work(&ctx, &format!("done {}", ctx.task.body)).await;
        }
        let tasks = if params.contains_key("tasks") { number(&params, "tasks") } else { 20 };
        match ctx.map("ITEM", (0..tasks).map(|n| format!("item-{n}"))).await {
            Ok(()) => ProcessResult::success(format!("mapped {tasks}")),
            Err(why) => why.into(),
        }
    }

    async fn reduce(&self, ctx: TaskContext, results: TaskResults) -> ProcessResult {
        summary(&ctx, results, "reduced").await
    }
}

/// One task of many: says in the job's log that it runs here, sleeps, ends.
async fn work(ctx: &TaskContext, result: &str) -> ProcessResult {
    let params = parameters(ctx);
    ctx.log.info(format!("task {} {} of rust", ctx.task.id, ctx.task.name));
    match sleep(ctx, &params).await {
        Ok(()) => end(&params, result.to_owned()),
        Err(told) => told,
    }
}

/// The last step: every result counts, the root's too; one that failed makes the instance fail.
async fn summary(ctx: &TaskContext, mut results: TaskResults, what: &str) -> ProcessResult {
    let (mut count, mut good) = (0_u64, true);
    loop {
        match results.next().await {
            Ok(None) => break,
            Ok(Some(task)) => {
                count += 1;
                if !task.success {
                    good = false;
                    ctx.log.error(format!("failed: {} {}", task.task_id, task.result));
                }
            }
            Err(why) => return ProcessResult::failed(why.to_string()),
        }
    }
    let text = format!("{what} {count}");
    if good { ProcessResult::success(text) } else { ProcessResult::failed(text) }
}

async fn sleep(ctx: &TaskContext, params: &Map<String, Value>) -> Result<(), ProcessResult> {
    let ms = number(params, "sleep");
    if ms == 0 {
        return Ok(());
    }
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => Ok(()),
        reason = ctx.stop.raised() => Err(ProcessResult::rejected(format!("told to end: {reason:?}"))),
    }
}

fn end(params: &Map<String, Value>, result: String) -> ProcessResult {
    match params.get("fail") {
        None | Some(Value::Bool(false) | Value::Null) => ProcessResult::success(result),
        Some(Value::String(why)) => ProcessResult::failed(why.clone()),
        Some(_) => ProcessResult::failed("asked to fail"),
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

// One thread drives it all: nothing here computes or blocks, and handing work from thread to thread costs a sixth of the
// processor time of an empty instance.
#[tokio::main(worker_threads = 1)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    let (config, names) = configuration()?;
    let mut worker = Worker::builder(config);
    for name in ["empty", "echo", "broadcast", "map_reduce"] {
        worker = worker.processor(name, processor(name)?);
    }
    for (name, of) in names {
        worker = worker.processor(name, processor(&of)?);
    }
    let worker = worker.start().await?;
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

fn processor(name: &str) -> Result<Arc<dyn Processor>, String> {
    Ok(match name {
        "empty" => Arc::new(Empty),
        "echo" => Arc::new(Echo),
        "broadcast" => Arc::new(Broadcast),
        "map_reduce" => Arc::new(MapReduce),
        _ => return Err(format!("no processor {name}; there are empty, echo, broadcast and map_reduce")),
    })
}

/// The worker's configuration, and further names of processors.
fn configuration() -> Result<(WorkerConfig, Vec<(String, String)>), String> {
    let mut names = Vec::new();
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
            "--name" => {
                let (name, of) =
                    value.split_once('=').ok_or_else(|| format!("--name {value} is not NAME=PROCESSOR"))?;
                names.push((name.to_owned(), of.to_owned()));
            }
            _ => {
                return Err(format!("unknown flag {flag}; known are -a -s -p -t --state-dir --slots --name"));
            }
        }
    }
    Ok((config, names))
}
