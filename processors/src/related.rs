//! What every node of a workflow does alike: its own id into `relatedInstances`, its end when it is asked to stop.

use powerjob_worker::{ProcessResult, StopReason, TaskContext};
use serde_json::Value;

/// Appends `relatedInstances`: what upstream nodes left, and this instance. A JSON array of texts, because ids have more
/// digits than a float.
pub(crate) fn relate(ctx: &TaskContext) {
    let left = ctx.workflow.values().get("relatedInstances").map(String::as_str);
    ctx.workflow.append("relatedInstances", with(left, ctx.instance_id));
}

/// The list with one more id.
fn with(left: Option<&str>, id: i64) -> String {
    let list = left.and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok()).unwrap_or_default();
    let mut ids: Vec<String> = list
        .into_iter()
        .map(|value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        })
        .collect();
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
        assert_eq!(with(Some("nonsense"), 7), r#"["7"]"#);
    }
}
