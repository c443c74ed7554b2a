//! What is known of the run that people are told about.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Everything a rule can ask and a text can say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) task: String,
    pub(super) env: String,
    pub(super) model: Option<String>,
    pub(super) dataset: Option<String>,
    pub(super) status: String,
    pub(super) level: String,
    /// Statuses of the nodes before: job name and status.
    pub(super) nodes: Vec<(&'static str, String)>,
    /// Figures by name, in their order.
    pub(super) metrics: Vec<(String, f64)>,
    /// What `metricsSummary` says beside figures: texts, failures by class.
    pub(super) remarks: Vec<String>,
    pub(super) archive: Option<String>,
    pub(super) summary_url: Option<String>,
    pub(super) related: Vec<String>,
    pub(super) receivers: Vec<String>,
}

impl Facts {
    /// A text that a rule can ask for.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let node = |job: &str| self.nodes.iter().find(|(name, _)| *name == job).map(|(_, status)| status.as_str());
        match name {
            "finalStatus" => Some(&self.status),
            "platformTaskId" => Some(&self.task),
            "env" => Some(&self.env),
            "modelKey" => self.model.as_deref(),
            "datasetId" => self.dataset.as_deref(),
            "runStatus" => node("RunLLMTest"),
            "collectStatus" => node("CollectLogs"),
            "aggregateStatus" => node("AggregateMetrics"),
            _ => None,
        }
    }

    /// A figure that a rule can ask for.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// Names of the texts that a rule can ask for.
pub(super) const TEXTS: [&str; 8] =
    ["finalStatus", "platformTaskId", "env", "modelKey", "datasetId", "runStatus", "collectStatus", "aggregateStatus"];

/// Figures and remarks of a `metricsSummary`: an object, or text (which may be the text of an object).
pub(super) fn summary(value: Option<&Value>) -> (Vec<(String, f64)>, Vec<String>) {
    let (mut metrics, mut remarks) = (Vec::new(), Vec::new());
    match value {
        Some(Value::Object(object)) => of_object(object, &mut metrics, &mut remarks),
        Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(object)) => of_object(&object, &mut metrics, &mut remarks),
            _ => remarks.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)),
        },
        None | Some(Value::Null) => {}
        Some(other) => remarks.push(other.to_string()),
    }
    (metrics, remarks)
}

fn of_object(object: &Map<String, Value>, metrics: &mut Vec<(String, f64)>, remarks: &mut Vec<String>) {
    for (name, value) in object {
        match value {
            Value::Number(number) => metrics.extend(number.as_f64().map(|value| (name.clone(), value))),
            Value::Object(inner) if name == "metrics" => of_object(inner, metrics, remarks),
            // Failures by class, or whatever else has parts.
            Value::Object(inner) if !inner.is_empty() => {
                let parts: Vec<_> = inner.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect();
                remarks.push(format!("{name}: {}", parts.join(", ")));
            }
            Value::Array(list) if !list.is_empty() => {
                remarks.push(format!("{name}: {}", list.iter().map(plain).collect::<Vec<_>>().join(", ")));
            }
            Value::String(text) if !text.trim().is_empty() => remarks.push(format!("{name}: {text}")),
            Value::Bool(flag) => remarks.push(format!("{name}: {flag}")),
            _ => {}
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The final status that the nodes' own give: a run that failed has failed; one that succeeded with something behind it that
/// did not, has failed in part.
pub(super) fn derived(statuses: &BTreeMap<&'static str, String>) -> &'static str {
    let good = |status: &String| status == "SUCCEED";
    let run = statuses.get("RunLLMTest");
    if statuses.is_empty() || run.is_some_and(|status| !good(status)) {
        return "FAILED";
    }
    match statuses.values().filter(|status| good(status)).count() {
        all if all == statuses.len() => "SUCCEED",
        0 => "FAILED",
        _ => "PARTIAL_FAILED",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_final_status_follows_from_the_nodes() {
        let of = |run: &str, collect: &str, aggregate: &str| {
            let all = [("RunLLMTest", run), ("CollectLogs", collect), ("AggregateMetrics", aggregate)];
            derived(
                &all.into_iter()
                    .filter(|(_, status)| !status.is_empty())
                    .map(|(name, status)| (name, status.to_owned()))
                    .collect(),
            )
        };
        assert_eq!(of("SUCCEED", "SUCCEED", "SUCCEED"), "SUCCEED");
        assert_eq!(of("SUCCEED", "FAILED", "SUCCEED"), "PARTIAL_FAILED");
        assert_eq!(of("SUCCEED", "FAILED", "FAILED"), "PARTIAL_FAILED");
        assert_eq!(of("FAILED", "SUCCEED", "SUCCEED"), "FAILED");
        assert_eq!(of("STOPPED", "", ""), "FAILED");
        assert_eq!(of("", "FAILED", "FAILED"), "FAILED");
        assert_eq!(of("", "SUCCEED", "FAILED"), "PARTIAL_FAILED");
        assert_eq!(of("", "", ""), "FAILED", "nothing is known, and nobody may read that as a success");
    }

    #[test]
    fn a_summary_may_be_an_object_or_text_or_the_text_of_an_object() {
        let object = json!({"requests": 10, "qps": 2.5, "failures": {"timeout": 3}, "note": "slow", "metrics": {"accuracy": 0.5}});
        let (metrics, remarks) = summary(Some(&object));
        assert_eq!(metrics, [("requests".into(), 10.0), ("qps".into(), 2.5), ("accuracy".into(), 0.5)]);
        assert_eq!(remarks, ["failures: timeout 3", "note: slow"]);
        assert_eq!(summary(Some(&Value::String(object.to_string()))), (metrics, remarks));
        assert_eq!(summary(Some(&json!("40 cases\n\n2 failed"))).1, ["40 cases", "2 failed"]);
        assert_eq!(summary(None), (vec![], vec![]));
    }
}
