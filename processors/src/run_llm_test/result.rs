//! What is said of a run at its end: result.json, the result text, the outcome.

use powerjob_worker::TaskContext;
use serde_json::{Value, json};

use super::{
    context,
    dir::RunDir,
    ending::Ending,
    health::History,
    plan::Plan,
    state::{EndKind, FailureRecord, OutcomeRecord, RunRecord, Stage},
};

/// Lines of the service in the result text; result.json has more.
const LINES_IN_TEXT: usize = 10;
/// Longest of these lines, in characters.
const LINE_IN_TEXT: usize = 300;
/// Characters of the reason in [`short`].
const SHORT_REASON: usize = 500;

/// The content of result.json.
pub(super) fn json(ctx: &TaskContext, plan: &Plan, dir: &RunDir, record: &RunRecord) -> Value {
    let service = &record.service;
    let failures =
        record.metrics.as_ref().and_then(|metrics| metrics.get("failures")).cloned().unwrap_or_else(|| json!({}));
    let mut metrics = record.metrics.clone();
    if let Some(Value::Object(figures)) = &mut metrics {
        figures.shift_remove("failures");
    }
    let mut result = json!({
        "v": 1,
        "instanceId": ctx.instance_id.to_string(),
        "jobId": ctx.job_id.to_string(),
        "wfInstanceId": ctx.wf_instance_id.map(|id| id.to_string()),
        "attempt": ctx.attempt,
        "worker": ctx.worker_address,
        "platformTaskId": plan.who.platform_task_id,
        "testPlanId": plan.who.test_plan_id,
        "triggerUser": plan.who.trigger_user,
        "traceId": plan.who.trace_id,
        "env": plan.who.env,
        "modelKey": plan.who.model_key,
        "modelVersion": plan.who.model_version,
        "extraTags": plan.who.tags,
        "status": context::status(record),
        "ending": record.ending(),
        "startedAtMs": record.started_at_ms,
        "endedAtMs": super::run::now_ms(),
        "restarts": record.restarts,
        "logDir": dir.path,
        "stages": record.stages,
        "service": {
            "kind": service.kind,
            "name": service.name,
            "image": match &plan.target {
                super::plan::Target::Container(container) => Some(container.image.clone()),
                _ => None,
            },
            "imageId": service.image_id,
            "containerId": service.container_id,
            "pid": service.pid,
            "boundary": service.boundary,
            "servicePort": plan.service_port,
            "hostPort": service.host_port,
            "address": service.address,
            "exit": service.exit,
            "endedEarly": service.ended_early,
        },
        "startup": startup(record),
        "health": {"type": plan.health.kind.name(), "checks": record.probes},
        "load": record.load,
        "loadRestarts": record.cuts,
        "timeRange": context::time_range(record),
        "metrics": metrics,
        "failures": failures,
        "accelerators": record.accelerators,
        "warnings": record.warnings,
        "failure": record.failure.as_ref().map(|failure| json!({
            "stage": failure.stage.name(),
            "kind": failure.kind,
            "ending": failure.ending,
            "reason": failure.reason,
            "exit": service.exit,
            "evidence": failure.evidence,
            "lastServiceLines": failure.last_lines,
        })),
    });
    result["monitor"] = super::monitor::summary_of(&dir.monitor);
    result["downstream"] = json!(record.downstream);
    result
}

/// The start, part by part; what did not happen is null.
fn startup(record: &RunRecord) -> Value {
    // Of a stage that a restart of the agent cut, the last one was whole.
    let took = |stage: Stage| {
        let done = record.stages.iter().rfind(|done| done.name == stage.name() && done.outcome == "ok");
        done.and_then(|done| done.duration_ms)
    };
    json!({
        "pullMs": took(Stage::Pull),
        "createMs": took(Stage::Create),
        "startMs": took(Stage::Start),
        "readyMs": record.startup.ready_ms,
        "firstTokenMs": record.startup.first_token_ms,
    })
}

/// What the worker is given and what the workflow gets.
pub(super) fn outcome(ctx: &TaskContext, plan: &Plan, dir: &RunDir, record: &RunRecord) -> OutcomeRecord {
    let context = context::of(ctx, plan, dir, record);
    match &record.failure {
        None => OutcomeRecord { success: true, message: success_text(record), retryable: false, context },
        Some(failure) => OutcomeRecord {
            success: false,
            message: failure_text(failure, &record.probes),
            retryable: failure.retryable,
            context,
        },
    }
}

/// What there is room for where the whole result cannot be written.
pub(super) fn short(ctx: &TaskContext, record: &RunRecord, message: &str) -> Value {
    let status = match context::status(record) {
        "SUCCEED" => "FAILED",
        status => status,
    };
    let ending = record.failure.as_ref().map_or_else(
        // The run went well; what failed is writing the result.
        || Ending::of_words(message).unwrap_or_default(),
        |failure| failure.ending,
    );
    json!({
        "v": 1,
        "instanceId": ctx.instance_id.to_string(),
        "attempt": ctx.attempt,
        "status": status,
        "ending": ending,
        "failure": {
            "stage": record.failure.as_ref().map_or("result", |failure| failure.stage.name()),
            "ending": ending,
            "evidence": record.failure.as_ref().map(|failure| &failure.evidence),
            "reason": message.chars().take(SHORT_REASON).collect::<String>(),
        },
    })
}

/// `stage X failed: why`.
pub(super) fn what_failed(failure: &FailureRecord) -> String {
    let words = match failure.kind {
        EndKind::Failed | EndKind::TimedOut => "failed",
        EndKind::Stopped => "was stopped",
    };
    format!("stage {} {words}: {}", failure.stage.name(), failure.reason)
}

/// `ending: NAME; FACT; FACT`.
pub(super) fn ending_line(failure: &FailureRecord, probes: &History) -> String {
    let mut words = vec![format!("ending: {}", failure.ending.name())];
    words.extend(failure.evidence.in_words());
    words.extend(probes.in_words());
    words.join("; ")
}

/// [`what_failed`], [`ending_line`], and the service's last lines.
pub(super) fn failure_text(failure: &FailureRecord, probes: &History) -> String {
    let mut text = format!("{}\n{}", what_failed(failure), ending_line(failure, probes));
    let shown = &failure.last_lines[failure.last_lines.len().saturating_sub(LINES_IN_TEXT)..];
    if !shown.is_empty() {
        text.push_str("\nlast lines of the service:");
        for line in shown {
            text.push_str("\n  | ");
            text.extend(line.chars().take(LINE_IN_TEXT));
        }
    }
    text
}

/// The cards by type: `NVIDIA H200 0, 1`.
fn cards(record: &RunRecord) -> Option<String> {
    let mut types: Vec<(&str, Vec<String>)> = Vec::new();
    for card in &record.accelerators {
        let (kind, index) = (card["kind"].as_str().unwrap_or("accelerator"), card["index"].to_string());
        match types.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, indices)) => indices.push(index),
            None => types.push((kind, vec![index])),
        }
    }
    let words: Vec<String> =
        types.into_iter().map(|(kind, indices)| format!("{kind} {}", indices.join(", "))).collect();
    (!words.is_empty()).then(|| words.join(" and "))
}

/// What a test script or command says of itself, and its main figures; nothing where the load generator tested.
fn scripted_text(record: &RunRecord) -> Option<String> {
    let load = record.load.as_ref()?;
    let driver = load["driver"].as_str().filter(|driver| *driver != "builtin")?;
    let mut parts = vec![format!("test {driver} succeeded")];
    parts.extend(load["message"].as_str().map(|said| said.chars().take(LINE_IN_TEXT).collect()));
    if let Value::Object(figures) = context::main_figures(record) {
        parts.extend(figures.iter().map(|(name, value)| format!("{name} {value}")));
    }
    parts.extend(cards(record).map(|cards| format!("on {cards}")));
    if record.cuts > 0 {
        parts.push(format!("started again {} times after restarts of the agent", record.cuts));
    }
    Some(parts.join(", "))
}

/// One line with the main figures.
fn success_text(record: &RunRecord) -> String {
    if let Some(text) = scripted_text(record) {
        return text;
    }
    let metrics = record.metrics.clone().unwrap_or_default();
    let figure = |name: &str| metrics.get(name).and_then(Value::as_f64);
    let count = |name: &str| metrics.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut parts = vec![
        format!("{} requests", count("requests")),
        format!("{} failed (error rate {:.2}%)", count("failed"), figure("error_rate").unwrap_or(0.0) * 100.0),
    ];
    if let Some(qps) = figure("qps") {
        parts.push(format!("{qps:.2} qps"));
    }
    if let Some(rate) = figure("output_token_rate").filter(|rate| *rate > 0.0) {
        parts.push(format!("{rate:.0} output tokens/s"));
    }
    for (name, label) in [("ttft", "TTFT"), ("tpot", "TPOT"), ("e2el", "E2EL")] {
        if let (Some(p50), Some(p99)) = (figure(&format!("{name}_p50")), figure(&format!("{name}_p99"))) {
            parts.push(format!("{label} p50/p99 {p50:.1}/{p99:.1} ms"));
        }
    }
    if let Some(accuracy) = figure("accuracy") {
        parts.push(format!("accuracy {accuracy:.3}"));
    }
    if let Some(cards) = cards(record) {
        parts.push(format!("on {cards}"));
    }
    if count("not_sent") > 0 {
        parts.push(format!("{} not sent", count("not_sent")));
    }
    if record.cuts > 0 {
        parts.push(format!("load started again {} times after restarts of the agent", record.cuts));
    }
    parts.join(", ")
}
