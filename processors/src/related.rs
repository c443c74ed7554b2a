//! What every node of a workflow does alike: its own id into `relatedInstances`, its end when it is asked to stop.

use powerjob_worker::{ProcessResult, StopReason, TaskContext};
use serde_json::Value;

/// Appends `relatedInstances`: what upstream nodes left, and this instance.
pub(crate) fn relate(ctx: &TaskContext) {
    ctx.workflow.append("relatedInstances", with_own(ctx));
}

/// What upstream nodes left in `relatedInstances`, and this instance: a JSON array of texts, because ids have more digits
/// than a float.
pub(crate) fn with_own(ctx: &TaskContext) -> String {
    let left = ctx.workflow.values().get("relatedInstances").map(String::as_str);
    with(left, ctx.instance_id)
}

/// The list with one more id. A platform may have begun it as a plain list, `1,2`.
fn with(left: Option<&str>, id: i64) -> String {
    let left = left.unwrap_or_default();
    let mut ids: Vec<String> = match serde_json::from_str::<Vec<Value>>(left) {
        Ok(list) => list.iter().map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).collect(),
        Err(_) => left.split(',').map(|id| id.trim().to_owned()).filter(|id| id.parse::<i64>().is_ok()).collect(),
    };
    let own = id.to_string();
    if !ids.contains(&own) {
        ids.push(own);
    }
    serde_json::to_string(&ids).expect("texts are always JSON")
}

/// The result of a task that was ended from outside while it did `doing`.
pub(crate) fn ended(reason: StopReason, doing: &str) -> ProcessResult {
    match reason {
        StopReason::Stopped => ProcessResult::rejected(format!("stopped by the server while {doing}")),
        StopReason::Cancelled => ProcessResult::rejected(format!("ended by the agent's operator while {doing}")),
        StopReason::TimedOut => ProcessResult::failed(format!(
            "the time limit of the instance (instanceTimeoutMS) was reached while {doing}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_texts_in_order_and_each_is_there_once() {
        assert_eq!(with(None, 7), r#"["7"]"#);
        assert_eq!(with(Some("[918273645546372819]"), 7), r#"["918273645546372819","7"]"#);
        assert_eq!(with(Some(r#"["1","7"]"#), 7), r#"["1","7"]"#);
        assert_eq!(with(Some("1, 2"), 7), r#"["1","2","7"]"#);
        assert_eq!(with(Some("nonsense"), 7), r#"["7"]"#);
    }
}
