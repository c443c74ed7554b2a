//! What a run leaves for the nodes behind it: flat texts.

use std::collections::BTreeMap;

use powerjob_worker::TaskContext;
use serde_json::{Map, Value, json};

use super::{
    dir::RunDir,
    plan::Plan,
    state::{EndKind, RunRecord},
};

/// The figures that go through the workflow; all others stay in files.
const MAIN: [&str; 16] = [
    "requests",
    "succeeded",
    "failed",
    "error_rate",
    "qps",
    "output_token_rate",
    "ttft_avg",
    "ttft_p50",
    "ttft_p95",
    "ttft_p99",
    "tpot_avg",
    "itl_p99",
    "e2el_avg",
    "e2el_p95",
    "e2el_p99",
    "accuracy",
];

/// The entries after a run.
pub(super) fn of(ctx: &TaskContext, plan: &Plan, dir: &RunDir, record: &RunRecord) -> BTreeMap<String, String> {
    let mut entries = of_refused(ctx);
    let mut put = |key: &str, value: String| entries.insert(key.to_owned(), value);
    put("env", plan.who.env.clone());
    put("date", dir.date.clone());
    put("logDirSuffix", dir.suffix.clone());
    put("logDir", dir.path.display().to_string());
    put("metricsFilePath", dir.metrics.display().to_string());
    put("modelKey", plan.who.model_key.clone());
    put("datasetId", plan.load.dataset_id.clone());
    put("runStatus", status(record).to_owned());
    put("timeRange", time_range(record).to_string());
    if let Some(metrics) = &record.metrics {
        put("metricsSummary", main_figures(metrics).to_string());
    }
    entries
}

/// The entries of a run that never began.
pub(super) fn of_refused(ctx: &TaskContext) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("upstreamInstanceId".to_owned(), ctx.instance_id.to_string()),
        ("runStatus".to_owned(), "FAILED".to_owned()),
        ("relatedInstances".to_owned(), related(ctx)),
    ])
}

/// The status word of result.json and workflow.
pub(super) fn status(record: &RunRecord) -> &'static str {
    match record.failure.as_ref().map(|failure| failure.kind) {
        None => "SUCCEED",
        Some(EndKind::Stopped) => "STOPPED",
        Some(EndKind::Failed | EndKind::TimedOut) => "FAILED",
    }
}

/// From the first to the last moment in which a request of the load can have started; without a load, of the run.
pub(super) fn time_range(record: &RunRecord) -> Value {
    let start = record.load_started_ms.unwrap_or(record.started_at_ms);
    let end = record.load_ended_ms.unwrap_or_else(super::run::now_ms);
    json!({"start": start, "end": end})
}

/// The few main figures, rounded to what is measurable.
pub(super) fn main_figures(metrics: &Value) -> Value {
    let mut main = Map::new();
    for name in MAIN {
        match metrics.get(name) {
            Some(Value::Number(number)) if number.is_f64() => {
                let value = number.as_f64().unwrap_or_default();
                main.insert(name.into(), json!((value * 1e4).round() / 1e4));
            }
            Some(Value::Number(number)) => {
                main.insert(name.into(), Value::Number(number.clone()));
            }
            _ => {}
        }
    }
    Value::Object(main)
}

/// The ids of the workflow's nodes so far and this one: a JSON array as text. Ids are texts in it, exact for every reader.
fn related(ctx: &TaskContext) -> String {
    let before = ctx.workflow.values().get("relatedInstances").map(String::as_str).unwrap_or_default();
    let mut ids: Vec<String> = match serde_json::from_str::<Vec<Value>>(before) {
        Ok(list) => list.iter().map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).collect(),
        Err(_) => before.split(',').map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).collect(),
    };
    let own = ctx.instance_id.to_string();
    if !ids.contains(&own) {
        ids.push(own);
    }
    json!(ids).to_string()
}
