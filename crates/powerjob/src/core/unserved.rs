//! Kinds of jobs that this worker does not serve. They are accepted and end FAILED with a text that says so: ignoring them
//! would have the server send them again every minute.

use super::api::Dispatch;

/// Why the dispatch cannot be served and what to do, or `None` when it can.
pub(super) fn reason(dispatch: &Dispatch, heavy_limit: usize) -> Option<String> {
    let Dispatch { execute_type, processor_type, processor_info, .. } = dispatch;
    if !matches!(execute_type.as_str(), "STANDALONE" | "BROADCAST" | "MAP" | "MAP_REDUCE") {
        return Some(format!(
            "this worker does not serve execute type `{execute_type}`, only STANDALONE, BROADCAST, MAP and MAP_REDUCE: set the job's \
             execute type to one of these, or let another worker take it (a tag in the job's designated workers)"
        ));
    }
    if heavy_limit == 0 && dispatch.is_heavy() {
        return Some(format!(
            "this worker owns no instances with tasks (execute type `{execute_type}`, time expression type `{}`), only STANDALONE ones: \
             allow it to own some, or let another worker take the job (a tag in its designated workers)",
            dispatch.time_expression_type
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
