//! Kinds of jobs that this worker does not serve. They are accepted and end FAILED with a text that says so: ignoring them
//! would have the server send them again every minute.

use super::api::Dispatch;

/// Why the dispatch cannot be served and what to do, or `None` when it can.
pub(super) fn reason(dispatch: &Dispatch) -> Option<String> {
    let Dispatch { execute_type, time_expression_type, processor_type, processor_info, .. } = dispatch;
    if execute_type != "STANDALONE" {
        return Some(format!(
            "this worker does not serve execute type `{execute_type}`, only STANDALONE: set the job's execute type to STANDALONE, \
             or let a Java worker take it (a tag in the job's designated workers)"
        ));
    }
    if matches!(time_expression_type.as_str(), "FIXED_RATE" | "FIXED_DELAY") {
        return Some(format!(
            "this worker does not serve time expression type `{time_expression_type}`, only API, CRON, DAILY_TIME_INTERVAL and \
             WORKFLOW: use CRON, or let a Java worker take the job (a tag in its designated workers)"
        ));
    }
    if processor_type == "EXTERNAL" {
        return Some(format!(
            "this worker does not serve processor type `EXTERNAL` (`{processor_info}` is a class in a Java container), only BUILT_IN: \
             name one of this worker's processors, or keep such jobs on Java workers (an app or a tag of their own)"
        ));
    }
    if processor_type != "BUILT_IN" {
        return Some(format!(
            "this worker does not serve processor type `{processor_type}`, only BUILT_IN: set the job's processor type to BUILT_IN \
             and its processor info to the name of one of this worker's processors"
        ));
    }
    None
}
