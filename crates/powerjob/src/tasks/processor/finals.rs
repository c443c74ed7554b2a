//! From what a processor returned to the outcome that is reported.

use std::collections::BTreeMap;

use super::{
    Action, Options, Output,
    api::Final,
    part::{Job, Part},
};
use crate::{
    core::{
        Now,
        limits::{check_context, truncate},
    },
    processor::ProcessResult,
};

/// A failure that no processor returned.
pub(super) fn failed(result: impl Into<String>, now: Now) -> Final {
    Final { success: false, result: result.into(), context: BTreeMap::new(), rejected: false, ended_at: now.wall_ms }
}

/// Result text of a task that was ended by the worker's operator.
pub(super) fn cancelled(worker: &str, what: &str, said: &str) -> String {
    let said = if said.is_empty() { String::new() } else { format!(". The processor said: {said}") };
    format!(
        "cancelled by the agent's shutdown: the operator of {worker} ended it without waiting for its tasks, and this one {what}; \
         with task retries (taskRetryNum) another worker does it{said}"
    )
}

/// The outcome of a task, within the limits.
#[expect(clippy::too_many_arguments, reason = "a task's end with the moment and the place where it came about")]
pub(super) fn outcome(
    worker: &str,
    part: &Part,
    job: &Job,
    result: ProcessResult,
    context: BTreeMap<String, String>,
    now: Now,
    options: &Options,
    out: &mut Output,
) -> Final {
    let limit = part.info.instance_timeout_ms;
    let mut rejected = !result.success && !result.retryable && !job.timed_out && !job.cancelled;
    let (mut success, mut text) = match result.success {
        _ if job.timed_out => {
            (false, format!("the time limit ({limit} ms) passed; the processor ended with: {}", result.message))
        }
        false if job.cancelled => (false, cancelled(worker, "was running", &result.message)),
        success => (success, result.message),
    };
    // Outside of a workflow there is no context to append to.
    let context = if part.info.wf_instance_id.is_some() { context } else { BTreeMap::new() };
    let context = match check_context(&context, options.context_limit) {
        Ok(()) => context,
        Err(why) => {
            out.actions.push(Action::Line {
                instance_id: part.info.instance_id,
                log_config: part.log_config(),
                error: true,
                text: format!("task {}: {why}", job.start.task_id),
            });
            // As for a run: the nodes behind would go on without what the task was to tell them.
            text = format!("{why}. The task itself {}: {text}", if success { "succeeded" } else { "failed" });
            rejected |= success;
            success = false;
            BTreeMap::new()
        }
    };
    Final { success, result: truncate(&text, options.result_limit), context, rejected, ended_at: now.wall_ms }
}
