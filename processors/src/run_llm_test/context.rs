//! What a run leaves for the nodes behind it: flat texts.

use std::collections::BTreeMap;

use powerjob_worker::TaskContext;
use serde_json::{Value, json};

use super::{
    dir::RunDir,
    plan::Plan,
    state::{EndKind, RunRecord},
};
use crate::{figures, related};

/// Most figures of a test script that go through the workflow, whose whole context has 8192 characters.
const MOST_REPORTED: usize = 16;

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
    if record.metrics.is_some() {
        put("metricsSummary", main_figures(record).to_string());
    }
    entries
}

/// The entries of a run that never began.
pub(super) fn of_refused(ctx: &TaskContext) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("upstreamInstanceId".to_owned(), ctx.instance_id.to_string()),
        ("runStatus".to_owned(), "FAILED".to_owned()),
        ("relatedInstances".to_owned(), related::with_own(ctx)),
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

/// The few main figures, rounded to what is measurable: the usual ones, and those that a test script reported.
pub(super) fn main_figures(record: &RunRecord) -> Value {
    let Some(metrics) = &record.metrics else { return json!({}) };
    let own = record.load.as_ref().and_then(|load| load["reported"].as_array()).into_iter().flatten();
    let own = own.filter_map(Value::as_str).take(MOST_REPORTED);
    let told = figures::MAIN
        .iter()
        .copied()
        .chain(own)
        .filter_map(|name| Some((name.to_owned(), figures::rounded(metrics.get(name)?.as_f64()?))));
    Value::Object(told.collect())
}
