//! `testrig run FILE.json`: processors here and now, without a server.

mod dry;
mod place;
mod spec;

use std::{
    collections::HashMap,
    io::Read,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use powerjob_worker::{JobLogger, ProcessResult, Processor, StopReason, StopSignal, TaskContext, WorkflowContext};
use serde_json::{Map, Value, json};
use testrig_joblog::Journal;
use testrig_processors::{Environment, PlatformLogs};

use crate::{
    agent::{StateDir, environment, signals},
    cli::RunArgs,
    config::{Purpose, load, nearest},
};
use spec::{Node, Spec};

/// How long the last lines for a test platform may take at the end.
const LAST_LINES: Duration = Duration::from_secs(10);

/// Runs the file.
pub(crate) async fn command(args: &RunArgs) -> ExitCode {
    match run(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(crate::FAILED),
        Err(e) => crate::usage(&format!("{e:#}")),
    }
}

async fn run(args: &RunArgs) -> anyhow::Result<bool> {
    let name = args.file.display().to_string();
    let text = read(args).with_context(|| format!("failed to read {name}"))?;
    let spec = spec::parse(&text).map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
    let mut config = load(&args.common.sources(), std::env::vars(), Purpose::Local)?;
    // Paths that a parameter may name hang on the agent's state directory; its store and journals belong to the agent.
    let mut environment = environment(&config)?;
    if args.dry_run {
        return dry::run(&name, &spec, &Arc::new(environment), args.json).await;
    }
    config.state.dir = place::make(&config.state.dir.join("local"));
    let state = StateDir::open(&config)?;
    eprintln!("the log is kept in {} (of the newest {} runs)", state.journals.dir().display(), place::KEPT);
    let logs = Arc::new(PlatformLogs::new(state.store.clone(), environment.http.clone()));
    environment.platform_logs = Some(Arc::clone(&logs));
    let environment = Arc::new(environment);
    let processors = testrig_processors::registry(&environment, &state.store);
    let mut found = Vec::new();
    for node in &spec.nodes {
        found.push(served(&name, &node.processor, &processors, &environment)?);
    }
    let report = run_nodes(&spec, &found, &state).await;
    // Nobody takes this up later.
    logs.finish(LAST_LINES).await;
    let report = report?;
    println!("{report:#}");
    Ok(report["status"] == "SUCCEED")
}

/// The processor that a file names.
fn served(
    file: &str,
    name: &str,
    processors: &[(&'static str, Arc<dyn Processor>)],
    environment: &Environment,
) -> anyhow::Result<Arc<dyn Processor>> {
    if let Some((_, processor)) = processors.iter().find(|(known, _)| *known == name) {
        return Ok(Arc::clone(processor));
    }
    if let Some((_, why)) = testrig_processors::refused(environment).iter().find(|(refused, _)| *refused == name) {
        anyhow::bail!("{file}: {why}");
    }
    let known: Vec<&str> = processors.iter().map(|(known, _)| *known).collect();
    let hint = nearest(name, &known).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
    anyhow::bail!("{file}: unknown processor `{name}`{hint} known: {}", known.join(", "))
}

fn read(args: &RunArgs) -> std::io::Result<String> {
    if args.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(&args.file)
}

async fn run_nodes(spec: &Spec, processors: &[Arc<dyn Processor>], state: &StateDir) -> anyhow::Result<Value> {
    let first_id = local_id();
    let mut stops = signals::Stops::listen().context("failed to listen for SIGTERM and Ctrl-C")?;
    let mut context = initial_context(spec.init_params.as_deref());
    let mut done = Vec::new();
    let mut status = "SUCCEED";
    for (i, (node, processor)) in spec.nodes.iter().zip(processors).enumerate() {
        let instance_id = first_id + 1 + i as i64;
        let journal = state.journals.journal(instance_id).context("failed to open a journal")?;
        let workflow = WorkflowContext::new(to_values(&context));
        let instance_params =
            if spec.workflow { Some(Value::Object(context.clone()).to_string()) } else { node.instance_params() };
        let ctx =
            task(node, instance_id, spec.workflow.then_some(first_id), instance_params, &journal, workflow.clone());
        eprintln!("[{}/{}] {} (instance {instance_id})", i + 1, spec.nodes.len(), node.processor);
        let (result, stopped) = run_one(processor.as_ref(), ctx, &journal, &mut stops).await;
        let name = if stopped {
            "STOPPED"
        } else if result.success {
            "SUCCEED"
        } else {
            "FAILED"
        };
        journal.close(name);
        eprintln!("[{}/{}] {name}: {}", i + 1, spec.nodes.len(), result.message);
        done.push(json!({ "processor": node.processor, "instanceId": instance_id.to_string(), "status": name, "result": result.message }));
        for (key, value) in workflow.appended() {
            context.insert(key, Value::String(value));
        }
        if stopped || !(result.success || node.skip_when_failed) {
            status = name;
            break;
        }
    }
    Ok(json!({ "status": status, "nodes": done, "context": context }))
}

fn task(
    node: &Node,
    instance_id: i64,
    wf: Option<i64>,
    instance_params: Option<String>,
    journal: &Arc<Journal>,
    workflow: WorkflowContext,
) -> TaskContext {
    TaskContext {
        job_id: 0,
        instance_id,
        wf_instance_id: wf,
        processor: node.processor.clone(),
        job_params: node.job_params(),
        instance_params,
        task: powerjob_worker::Task::single(0, instance_id),
        attempt: 1,
        task_retry_num: 0,
        time_limit: None,
        resumed: false,
        worker_address: "local".into(),
        log: JobLogger::new(Arc::clone(journal)),
        stop: StopSignal::new(),
        workflow,
    }
}

/// Runs one processor and prints its log meanwhile. Ctrl-C stops it; true = it was stopped.
async fn run_one(
    processor: &dyn Processor,
    ctx: TaskContext,
    journal: &Arc<Journal>,
    stops: &mut signals::Stops,
) -> (ProcessResult, bool) {
    let stop = ctx.stop.clone();
    let mut changes = journal.subscribe();
    let mut printed = 0;
    let mut work = std::pin::pin!(processor.process(ctx));
    let mut stopped = false;
    loop {
        tokio::select! {
            result = &mut work => {
                print_lines(journal, &mut printed);
                return (result, stopped);
            }
            _ = changes.changed() => print_lines(journal, &mut printed),
            () = stops.next(), if !stopped => {
                eprintln!("stopping; everything that was started is being ended");
                stopped = true;
                stop.raise(StopReason::Stopped);
            }
        }
    }
}

fn print_lines(journal: &Journal, printed: &mut u64) {
    while let Ok(lines) = journal.read(*printed, 500, 1 << 20) {
        let Some(last) = lines.last() else { return };
        *printed = last.index + 1;
        for line in &lines {
            let time = jiff::Timestamp::from_millisecond(line.time_ms)
                .unwrap_or_default()
                .to_zoned(jiff::tz::TimeZone::system());
            eprintln!("{} {:5} {}", time.strftime("%H:%M:%S%.3f"), line.level.name(), line.text);
        }
    }
}

/// As the server does (seen on 4.3.9): a JSON object with something in it is the context as it stands, any other text is
/// kept under `initParams`.
fn initial_context(init: Option<&str>) -> Map<String, Value> {
    let Some(text) = init else { return Map::new() };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) if !map.is_empty() => map,
        _ => Map::from_iter([("initParams".to_owned(), Value::String(text.to_owned()))]),
    }
}

fn to_values(context: &Map<String, Value>) -> HashMap<String, String> {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    context.iter().map(|(k, v)| (k.clone(), text(v))).collect()
}

/// An id that no other local run has: microseconds since the epoch, far below the ids of a server.
fn local_id() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or_default()
}
