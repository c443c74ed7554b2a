//! `im`: one JSON object, for webhooks that take any.

use serde_json::{Map, Value, json};

use super::Delivery;

/// The body. `text` is for people, the rest for programs.
pub(super) fn body(delivery: &Delivery<'_>, id: &str) -> Value {
    let (facts, message) = (delivery.facts, delivery.message);
    let metrics: Map<String, Value> =
        facts.metrics.iter().map(|(name, value)| (name.clone(), number(*value))).collect();
    let nodes: Map<String, Value> =
        facts.nodes.iter().map(|(name, status)| ((*name).to_owned(), json!(status))).collect();
    json!({
        "id": id,
        "instanceId": delivery.instance_id.to_string(),
        "title": message.title,
        "text": message.text(),
        "level": facts.level,
        "finalStatus": facts.status,
        "platformTaskId": facts.task,
        "env": facts.env,
        "modelKey": facts.model,
        "datasetId": facts.dataset,
        "statuses": nodes,
        "metrics": metrics,
        "remarks": facts.remarks,
        "archiveUrl": facts.archive,
        "summaryUrl": facts.summary_url,
        "relatedInstances": facts.related,
        "receivers": facts.receivers,
    })
}

fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}
