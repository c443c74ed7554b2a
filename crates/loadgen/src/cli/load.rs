//! `testrig load`: the load generator by hand.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::{Map, Value};

use super::{INTERRUPTED, complain, on_signal, seconds, table};
use crate::{Arrival, Dataset, LoadPlan, Phase, Progress, RecordSink, Scenario, Scorer, Slo};

/// Send load to an OpenAI-compatible service and measure its answers
///
/// Prints the summary on standard output and progress on standard error. With --qps requests are sent at fixed times whatever
/// the service does (--concurrency then is the most that may be in flight); without it, --concurrency workers send one request
/// after the other.
///
/// Exit codes: 0 at least one request succeeded; 1 none did, or the load could not be run; 2 wrong arguments; 130 stopped by a
/// signal (the summary of what there was is still printed).
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Address of the service, e.g. http://127.0.0.1:8000 (/v1 is added unless it is there)
    #[arg(long)]
    pub url: String,
    /// Model name to send [default: the first that the service lists]
    #[arg(long)]
    pub model: Option<String>,
    /// chat_completion, completion or embedding
    #[arg(long, default_value = "chat_completion")]
    pub scenario: Scenario,
    /// Requests per second of an open loop
    #[arg(long)]
    pub qps: Option<f64>,
    /// Workers of a closed loop [default: 1], or most requests in flight of an open one [default: 4096]
    #[arg(long, visible_alias = "conc")]
    pub concurrency: Option<usize>,
    /// constant, poisson or closed [default: constant with --qps, closed without]
    #[arg(long)]
    pub arrival: Option<String>,
    /// Seed of poisson arrivals: the same seed gives the same times
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Seconds of load before anything is measured
    #[arg(long, default_value = "0", value_parser = seconds, value_name = "S")]
    pub warmup_seconds: Duration,
    /// Seconds of measured load
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "S")]
    pub run_seconds: Duration,
    /// End after so many measured requests
    #[arg(long, value_name = "N")]
    pub max_requests: Option<u64>,
    /// Seconds that requests in flight at the end may still take
    #[arg(long, default_value = "120", value_parser = seconds, value_name = "S")]
    pub drain_seconds: Duration,
    /// Time limit of one request in seconds
    #[arg(long, default_value = "600", value_parser = seconds, value_name = "S")]
    pub request_timeout_seconds: Duration,
    /// JSONL file with {"prompt"}, {"messages"}, {"input"} or {"conversations"} a line [default: built-in prompts]
    #[arg(long, value_name = "FILE")]
    pub dataset: Option<PathBuf>,
    /// Output token limit of items that bring none
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// Sampling temperature
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Ask for whole answers instead of streams (no TTFT, TPOT and ITL then)
    #[arg(long)]
    pub no_stream: bool,
    /// How answers are judged: none or exact
    #[arg(long, default_value = "none")]
    pub scorer: Scorer,
    /// File whose first line is the API key
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Send several requests over one connection [default: only with https, where a connection is dear]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub keep_alive: Option<bool>,
    /// Request header, NAME:VALUE; can be repeated
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Label for every record, KEY=VALUE; can be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// JSON object whose fields are added to every request body, e.g. '{"ignore_eos":true}'
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub extra: Option<JsonObject>,
    /// Objective for goodput: time to first token
    #[arg(long, value_name = "MS")]
    pub slo_ttft_ms: Option<f64>,
    /// Objective for goodput: time per output token
    #[arg(long, value_name = "MS")]
    pub slo_tpot_ms: Option<f64>,
    /// Objective for goodput: time to the end
    #[arg(long, value_name = "MS")]
    pub slo_e2el_ms: Option<f64>,
    /// Directory for metrics-{scenario}.log (JSON, one line a request) and client-req-{scenario}.log [default: keep no records]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A JSON object from the command line.
#[derive(Debug, Clone)]
pub struct JsonObject(Map<String, Value>);

/// Runs `testrig load`.
pub async fn run_load(args: LoadArgs) -> ExitCode {
    load(args, &mut std::io::stdout()).await
}

/// Runs with `out` in the place of standard output.
pub(super) async fn load(args: LoadArgs, out: &mut (impl Write + Send)) -> ExitCode {
    let json = args.json;
    let (plan, sink) = match prepare(args).await {
        Ok(prepared) => prepared,
        Err(error) => {
            complain(error.as_ref());
            return ExitCode::FAILURE;
        }
    };
    let stop = on_signal();
    eprintln!(
        "{} to {} with model {}: {} arrival, dataset {} ({} items)",
        plan.scenario,
        plan.base_url,
        plan.model,
        plan.arrival.name(),
        plan.dataset.name(),
        plan.dataset.len()
    );
    let terminal = std::io::stderr().is_terminal();
    let result = crate::run(plan, sink, move |progress| tell(&progress, terminal), stop.clone()).await;
    if terminal {
        eprintln!();
    }
    let summary = match result {
        Ok(summary) => summary,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let text =
        if json { serde_json::to_string(&summary).expect("a summary is always JSON") + "\n" } else { table(&summary) };
    // Whoever closed the pipe does not want the rest.
    let _ = out.write_all(text.as_bytes());
    match (stop.is_cancelled(), summary.succeeded) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, 0) => {
            eprintln!("error: no request succeeded");
            ExitCode::FAILURE
        }
        (false, _) => ExitCode::SUCCESS,
    }
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

async fn prepare(args: LoadArgs) -> Result<(LoadPlan, RecordSink), Problem> {
    let mut plan = LoadPlan::new(&args.url, args.model.as_deref().unwrap_or_default());
    plan.scenario = args.scenario;
    plan.arrival = Arrival::choose(args.arrival.as_deref(), args.qps, args.concurrency, args.seed)?;
    plan.warmup = args.warmup_seconds;
    plan.run = args.run_seconds;
    plan.max_requests = args.max_requests;
    plan.drain = args.drain_seconds;
    plan.request_timeout = args.request_timeout_seconds;
    plan.max_tokens = args.max_tokens;
    plan.temperature = args.temperature;
    plan.streaming = !args.no_stream;
    plan.keep_alive = args.keep_alive;
    plan.scorer = args.scorer;
    plan.headers = args.headers;
    plan.tags = args.tags.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
    plan.extra = args.extra.map(|JsonObject(fields)| fields).unwrap_or_default();
    plan.slo = Slo { ttft_ms: args.slo_ttft_ms, tpot_ms: args.slo_tpot_ms, e2el_ms: args.slo_e2el_ms };
    if let Some(path) = &args.dataset {
        plan.dataset = Dataset::load(path)?;
    }
    if let Some(path) = &args.api_key_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("failed to read API key file `{}`: {error}", path.display()))?;
        let key = text.lines().next().unwrap_or_default().trim();
        if key.is_empty() {
            return Err(
                format!("the first line of API key file `{}` is empty; accepted is the key", path.display()).into()
            );
        }
        plan.api_key = Some(key.to_owned());
    }
    if args.model.is_none() {
        plan.model = crate::client::first_model(&plan).await?;
    }
    plan.check()?;
    let Some(dir) = &args.out else {
        return Ok((plan, RecordSink::none()));
    };
    std::fs::create_dir_all(dir).map_err(|error| format!("failed to create directory `{}`: {error}", dir.display()))?;
    let sink = RecordSink::in_dir(dir, plan.scenario);
    Ok((plan, sink))
}

fn tell(progress: &Progress, terminal: bool) {
    let phase = match (progress.draining, progress.phase) {
        (true, _) => "drain",
        (false, Phase::Warmup) => "warm-up",
        (false, _) => "load",
    };
    let ttft = progress.ttft_ms.map_or_else(String::new, |ms| format!("  ttft {ms:.1} ms"));
    let line = format!(
        "{:>4.0}/{:.0} s {phase:<7} done {}  failed {}  in flight {}  {:.2} req/s  {:.0} tokens/s{ttft}",
        progress.elapsed.as_secs_f64(),
        progress.planned.as_secs_f64(),
        progress.done,
        progress.failed,
        progress.in_flight,
        progress.qps,
        progress.token_rate,
    );
    if terminal {
        eprint!("\r\x1b[K{line}");
    } else {
        eprintln!("{line}");
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("`{text}` is not NAME:VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn object(text: &str) -> Result<JsonObject, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(JsonObject(fields)),
        Ok(_) => Err("it is not a JSON object; accepted is e.g. {\"ignore_eos\":true}".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}
