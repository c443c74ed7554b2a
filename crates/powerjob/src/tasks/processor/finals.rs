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
    Final { success: false, result: result.into(), context: BTreeMap::new(), ended_at: now.wall_ms }
}

/// The outcome of a task, within the limits.
pub(super) fn outcome(
    part: &Part,
    job: &Job,
    result: ProcessResult,
    context: BTreeMap<String, String>,
    now: Now,
    options: &Options,
    out: &mut Output,
) -> Final {
    let limit = part.info.instance_timeout_ms;
    let (success, text) = match job.timed_out {
        true => (false, format!("the time limit ({limit} ms) passed; the processor ended with: {}", result.message)),
        false => (result.success, result.message),
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
                text: format!(
                    "task {}: the appended workflow context is {} characters long as JSON and at most {} are accepted, so \
                     none of it is passed on; the largest entry is `{}` with {}. Append a reference (a file or an id) in \
                     its place",
                    job.start.task_id, why.length, options.context_limit, why.largest, why.largest_length
                ),
            });
            BTreeMap::new()
        }
    };
    Final { success, result: truncate(&text, options.result_limit), context, ended_at: now.wall_ms }
}
