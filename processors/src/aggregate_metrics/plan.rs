//! What one run of AggregateMetrics is to do, checked before anything starts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;
use testrig_loadgen::Window;

use super::{
    database,
    definitions::{self, Definitions},
    source::{Source, is_glob},
    table::TABLE,
    window,
};
use crate::{
    Access, Database, Environment,
    params::{Input, Params, Problems},
    platform_log,
};

/// Columns of the row that are no figures.
pub(super) const COLUMNS: [&str; 14] = [
    "platform_task_id",
    "upstream_instance_id",
    "env",
    "model_key",
    "dataset_id",
    "window_start_ms",
    "window_end_ms",
    "record_count",
    "bad_lines",
    "metrics_json",
    "failures_json",
    "extra_tags",
    "created_at",
    "updated_at",
];

/// A checked plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) task: String,
    pub(super) upstream: String,
    pub(super) env: String,
    pub(super) model: String,
    pub(super) dataset: String,
    pub(super) source: Source,
    pub(super) window: Window,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) extra_tags: BTreeMap<String, String>,
    pub(super) definitions: Definitions,
    pub(super) db_key: String,
    pub(super) database: Database,
    pub(super) output: String,
}

/// Reads and checks.
pub(super) fn plan(input: &Input<'_>, env: &Environment) -> Result<(Plan, Params), Problems> {
    let mut params = platform_log::read(env, &TABLE, input);
    let plan = build(&mut params, env);
    params.check()?;
    Ok((plan.expect("without a problem there is a plan"), params))
}

fn build(p: &mut Params, env: &Environment) -> Option<Plan> {
    if let Some(other @ ("db" | "object_storage")) = p.str("metricsSource") {
        let text = format!("found \"{other}\", which is not served yet; accepted: file");
        p.refuse("metricsSource", text);
        return None;
    }
    let source = source(p, env);
    let window = window(p);
    let definitions = definitions(p);
    let output = output(p);
    let db_key = p.string("resultDbKey");
    let database = match db_key.is_empty() {
        true => None,
        false => database::choose(&db_key, env).map_err(|text| p.refuse("resultDbKey", text)).ok(),
    };
    Some(Plan {
        task: p.string("platformTaskId"),
        upstream: p.string("upstreamInstanceId"),
        env: p.string("env"),
        model: p.string("modelKey"),
        dataset: p.string("datasetId"),
        source: source?,
        window: window?,
        tags: p.map("filterTags"),
        extra_tags: p.map("extraTags"),
        definitions: definitions?,
        db_key,
        database: database?,
        output,
    })
}

fn source(p: &mut Params, env: &Environment) -> Option<Source> {
    if let Some(path) = p.str("metricsFilePath").map(str::to_owned) {
        if path.contains("://") {
            p.refuse(
                "metricsFilePath",
                "names an object store, which is not served yet; accepted: an absolute path or a glob of such",
            );
        } else if !path.starts_with('/') {
            p.refuse("metricsFilePath", format!("found {path:?}; accepted: an absolute path or a glob of such"));
        } else if !is_glob(&path)
            && let Err(denied) = env.allow_path(Path::new(&path), Access::Read)
        {
            p.refuse("metricsFilePath", denied.to_string());
        }
        return Some(Source::Path(path));
    }
    let Some(base) = p.str("fileBaseDir").map(PathBuf::from) else {
        p.refuse("metricsFilePath", "is missing, and so is fileBaseDir; accepted: the record file of the run, or the root of the log tree as fileBaseDir");
        return None;
    };
    if let Err(denied) = env.allow_path(&base, Access::Read) {
        p.refuse("fileBaseDir", denied.to_string());
    }
    let upstream = p.string("upstreamInstanceId");
    let suffix =
        p.str("logDirSuffix").map_or_else(|| format!("task-{}-{upstream}", p.string("platformTaskId")), str::to_owned);
    if suffix.contains('/') {
        p.refuse(
            "platformTaskId",
            "holds a `/`, so that it cannot be the name of a directory; give metricsFilePath or logDirSuffix",
        );
    }
    Some(Source::Tree { base, env: p.string("env"), date: p.str("date").map(str::to_owned), suffix, upstream })
}

fn window(p: &mut Params) -> Option<Window> {
    let seconds = p.num("defaultTimeWindowSeconds").unwrap_or(900.0);
    let value = p.get("timeRange")?.clone();
    window::read(&value, seconds).map_err(|text| p.refuse("timeRange", text)).ok()
}

fn definitions(p: &mut Params) -> Option<Definitions> {
    let list = p.get("metricDefinitions").and_then(Value::as_array).cloned();
    match definitions::read(list.as_deref(), p.str("aggStrategy"), &COLUMNS) {
        Ok(definitions) => Some(definitions),
        Err(problems) => {
            for (below, text) in problems {
                p.refuse(&format!("metricDefinitions{below}"), text);
            }
            None
        }
    }
}

fn output(p: &mut Params) -> String {
    let name = if p.str("outputTableOverride").is_some() { "outputTableOverride" } else { "outputTable" };
    let table = p.string(name);
    if !table.is_empty()
        && let Err(text) = database::check_name(&table)
    {
        p.refuse(name, text);
    }
    table
}
