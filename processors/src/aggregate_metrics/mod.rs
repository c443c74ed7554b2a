//! AggregateMetrics: adds the raw records of a run up and writes its row of the summary table.
//!
//! The figures are those of [`testrig_loadgen::Summarizer`], the same code that the run itself used, over the records of the
//! window, without the warm-up. One row a run: writing it again replaces it.

pub(crate) mod database;
mod definitions;
mod plan;
mod records;
mod reported;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod window;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext};
use serde_json::{Map, Value, json};
use testrig_store::rusqlite::types::Value as Sql;
use tokio_util::sync::CancellationToken;

pub(crate) use table::TABLE;

use self::{
    database::Row,
    plan::Plan,
    records::{Counted, Wanted},
    reported::PREFIX,
};
use crate::{
    Environment,
    figures::{MAIN, rounded},
    input_of,
    params::{Input, Params, Problems},
    related,
};

/// Most figures that go through the workflow, and most characters: the whole context has 8192.
const MAIN_COUNT: usize = 24;
const MAIN_CHARS: usize = 1500;

/// The processor `AggregateMetrics`.
pub struct AggregateMetrics {
    env: Arc<Environment>,
}

impl AggregateMetrics {
    /// A processor with this environment.
    pub fn new(env: Arc<Environment>) -> Self {
        Self { env }
    }
}

/// The parameters as a run would read them; nothing is done.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check(input: &Input<'_>, env: &Environment) -> Result<Params, Problems> {
    plan::plan(input, env).map(|(_, params)| params)
}

#[async_trait]
impl Processor for AggregateMetrics {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        related::relate(&ctx);
        let result = aggregate(&self.env, &ctx).await;
        ctx.workflow.append("aggregateStatus", if result.success { "SUCCEED" } else { "FAILED" });
        result
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

async fn aggregate(env: &Arc<Environment>, ctx: &TaskContext) -> ProcessResult {
    let (plan, params) = match plan::plan(&input_of(ctx), env) {
        Ok(planned) => planned,
        Err(problems) => return problems.reject(ctx),
    };
    params.warnings().iter().for_each(|warning| ctx.log.warn(warning));
    ctx.log.info(format!("parameters: {}", params.masked()));
    let (files_env, files_source) = (Arc::clone(env), plan.source.clone());
    let stop = CancellationToken::new();
    let _stopped_when_left = stop.clone().drop_guard();
    let (window, tags, custom) = (plan.window, plan.tags.clone(), plan.definitions.custom.clone());
    let log = ctx.log.clone();
    let work = tokio::task::spawn_blocking(move || {
        let files = source::files(&files_source, &files_env)?;
        log.info(format!(
            "reading {}",
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
        ));
        records::add_up(&Wanted { files, window, tags, custom }, &stop)
            .map_err(|(file, error)| format!("failed to read `{}`: {error}", file.display()))
    });
    let counted = tokio::select! {
        // A stop that is there already must not depend on how fast the reading is.
        biased;
        reason = ctx.stop.raised() => return related::ended(reason, "adding up the records"),
        done = work => match done {
            Ok(Ok(counted)) => counted,
            Ok(Err(text)) => return ProcessResult::failed(text),
            Err(error) => return ProcessResult::failed(format!("adding up the records ended: {error}")),
        },
    };
    if let Err(failure) = usable(&counted, &plan, ctx) {
        return failure;
    }
    let figures = figures(&plan, &counted, ctx);
    store(&plan, &counted, &figures, ctx).await
}

/// Says what was read; records of which nothing is measured are no result.
fn usable(counted: &Counted, plan: &Plan, ctx: &TaskContext) -> Result<(), ProcessResult> {
    if counted.bad > 0 {
        ctx.log.warn(format!(
            "{} of {} lines are no records and are left out: {}",
            counted.bad,
            counted.lines,
            counted.places.join(", ")
        ));
    }
    ctx.log.info(format!(
        "{} lines: {} measured, {} warm-up, {} with other tags, {} outside of the window, {} bad",
        counted.lines,
        counted.measured,
        counted.summary.warmup_requests,
        counted.other_tags,
        counted.out_of_window,
        counted.bad
    ));
    if counted.measured > 0 || !counted.reported.figures.is_empty() {
        return Ok(());
    }
    Err(ProcessResult::failed(match counted.lines {
        0 => "the record files are empty: the run measured nothing; look at its own result for why".to_owned(),
        lines if lines == counted.bad => {
            format!("none of the {lines} lines is a record: {}", counted.places.join(", "))
        }
        lines => format!(
            "none of the {lines} lines is a measured record in timeRange {}..{} with the filterTags: {} have other tags, {} start outside of the window, {} are warm-up, {} bad",
            shown(plan.window.start_unix_ms),
            shown(plan.window.end_unix_ms),
            counted.other_tags,
            counted.out_of_window,
            counted.summary.warmup_requests,
            counted.bad
        ),
    }))
}

fn shown(ms: Option<i64>) -> String {
    ms.map_or_else(String::new, |ms| {
        jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
    })
}

/// The figures by name; asked for ones without a value are told and left out.
fn figures(plan: &Plan, counted: &Counted, ctx: &TaskContext) -> Vec<(String, f64)> {
    // Without a record there is nothing that a sum over the records could say.
    let of_records = |name: &str| (counted.measured > 0).then(|| counted.summary.metric(name)).flatten();
    let standard: Vec<(String, Option<f64>)> = match &plan.definitions.standard {
        None => {
            let all = if counted.measured > 0 { counted.summary.metrics() } else { Vec::new() };
            let own = counted.reported.figures.iter().map(|(name, value)| (name.clone(), *value));
            let theirs = all.into_iter().filter(|(name, _)| counted.reported.get(name).is_none());
            theirs.chain(own).map(|(name, value)| (name, Some(value))).collect()
        }
        // What the script says of itself is the truer word.
        Some(names) => {
            let of = |name: &String| counted.reported.get(name).or_else(|| of_records(name));
            names.iter().map(|name| (name.strip_prefix(PREFIX).unwrap_or(name).to_owned(), of(name))).collect()
        }
    };
    let mut figures = Vec::new();
    let mut without = Vec::new();
    for (name, value) in standard.into_iter().chain(counted.custom.iter().cloned()) {
        let taken = plan::COLUMNS.iter().any(|column| column.eq_ignore_ascii_case(&name))
            || figures.iter().any(|(known, _): &(String, f64)| known.eq_ignore_ascii_case(&name));
        if taken {
            ctx.log.warn(format!("the figure {name:?} is left out: a column has that name already"));
            continue;
        }
        match value {
            Some(value) => figures.push((name, value)),
            None => without.push(name),
        }
    }
    if !without.is_empty() {
        ctx.log.warn(format!("the records say nothing about {}", without.join(", ")));
    }
    figures
}

async fn store(plan: &Plan, counted: &Counted, figures: &[(String, f64)], ctx: &TaskContext) -> ProcessResult {
    let row = row(plan, counted, figures);
    let (database, table) = (plan.database.clone(), plan.output.clone());
    let now = jiff::Timestamp::now().to_string();
    let written = tokio::task::spawn_blocking(move || database::upsert(&database, &table, &row, &now)).await;
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return ProcessResult::failed(format!(
                "the summary was not stored (resultDbKey {:?}): {error}",
                plan.db_key
            ));
        }
        Err(error) => return ProcessResult::failed(format!("storing the summary ended: {error}")),
    }
    ctx.log.info(format!(
        "wrote {} figures of task {} into `{}` of the database {:?}",
        figures.len(),
        plan.task,
        plan.output,
        plan.db_key
    ));
    let summary = main_figures(plan, counted, figures);
    ctx.workflow.append("metricsSummary", summary.clone());
    let bad = if counted.bad > 0 { format!(", {} bad lines left out", counted.bad) } else { String::new() };
    ProcessResult::success(format!(
        "added up {} records{bad} into `{}` of the database {:?}: {summary}",
        counted.measured, plan.output, plan.db_key
    ))
}

fn row(plan: &Plan, counted: &Counted, figures: &[(String, f64)]) -> Row {
    let text = |value: String| Sql::Text(value);
    let moment = |ms: Option<i64>| ms.map_or(Sql::Null, Sql::Integer);
    let all: Map<String, Value> = figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let int = |n: u64| Sql::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let mut values = vec![
        ("window_start_ms".to_owned(), "INTEGER", moment(plan.window.start_unix_ms)),
        ("window_end_ms".to_owned(), "INTEGER", moment(plan.window.end_unix_ms)),
        ("record_count".to_owned(), "INTEGER", int(counted.measured)),
        ("bad_lines".to_owned(), "INTEGER", int(counted.bad)),
    ];
    values.extend(figures.iter().map(|(name, value)| (name.clone(), "REAL", Sql::Real(*value))));
    values.push((database::ALL_FIGURES.to_owned(), "TEXT", text(Value::Object(all).to_string())));
    values.push(("failures_json".to_owned(), "TEXT", text(json!(failures(counted)).to_string())));
    values.push(("extra_tags".to_owned(), "TEXT", text(json!(plan.extra_tags).to_string())));
    let key = [
        ("platform_task_id", &plan.task),
        ("upstream_instance_id", &plan.upstream),
        ("env", &plan.env),
        ("model_key", &plan.model),
        ("dataset_id", &plan.dataset),
    ];
    Row { key: key.map(|(name, value)| (name.to_owned(), value.clone())).to_vec(), values }
}

/// Failures by class, those that a test script counted itself included.
fn failures(counted: &Counted) -> BTreeMap<String, Value> {
    let records = counted.summary.failures.iter().map(|(class, count)| ((*class).to_owned(), json!(count)));
    records.chain(counted.reported.failures.clone()).collect()
}

/// Compact JSON for the workflow: the usual main figures, those that the job defined itself, and failures by class.
fn main_figures(plan: &Plan, counted: &Counted, figures: &[(String, f64)]) -> String {
    let asked = plan.definitions.standard.as_deref().unwrap_or_default();
    let main = |name: &str| MAIN.contains(&name);
    let mut out = Map::new();
    // What decides whether a run was good is there even if nobody asked for it.
    for name in ["requests", "succeeded", "failed", "error_rate"] {
        if counted.measured > 0
            && let Some(value) = counted.reported.get(name).or_else(|| counted.summary.metric(name))
        {
            out.insert(name.to_owned(), rounded(value));
        }
    }
    let custom = |name: &str| {
        counted.custom.iter().any(|(known, _)| known == name) || counted.reported.figures.contains_key(name)
    };
    for (name, value) in figures
        .iter()
        .filter(|(name, _)| main(name))
        .chain(figures.iter().filter(|(name, _)| asked.contains(name) || custom(name)))
    {
        if out.len() < MAIN_COUNT || out.contains_key(name) {
            out.insert(name.clone(), rounded(*value));
        }
    }
    let failures = failures(counted);
    if !failures.is_empty() {
        out.insert("failures".to_owned(), json!(failures));
    }
    let mut text = Value::Object(out.clone()).to_string();
    while text.chars().count() > MAIN_CHARS
        && let Some(last) = out.keys().next_back().cloned()
    {
        out.remove(&last);
        text = Value::Object(out.clone()).to_string();
    }
    text
}
