//! The texts that parameters come from, and their shapes.

use serde_json::{Map, Value};

use super::problem::Problem;

/// One object of parameters and how its values are to be read.
#[derive(Debug)]
pub(super) struct Layer {
    /// `jobParams` or `instanceParams`.
    pub(super) label: &'static str,
    /// The object.
    pub(super) object: Map<String, Value>,
    /// Values are texts of a workflow context: a string is parsed by its field's type.
    pub(super) stringly: bool,
    /// Holds what other nodes need as well: names that another processor knows are no mistake here.
    pub(super) shared: bool,
}

/// The layers of one dispatch.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Strongest first.
    pub(super) layers: Vec<Layer>,
    /// Texts that could not be read; while there are any, nothing is said about missing fields.
    pub(super) problems: Vec<Problem>,
}

/// Splits the texts into layers, strongest first: what this run says, what the template says, what upstream nodes left.
pub(super) fn layers(job: Option<&str>, instance: Option<&str>, in_workflow: bool, appended: &[&str]) -> Layers {
    let mut out = Layers::default();
    let job = object("jobParams", job, &mut out.problems);
    let instance = object("instanceParams", instance, &mut out.problems);
    if !in_workflow {
        out.layers.push(Layer { label: "instanceParams", object: instance, stringly: false, shared: false });
        out.layers.push(Layer { label: "jobParams", object: job, stringly: false, shared: false });
        return out;
    }
    let mut run = instance;
    let mut left = Map::new();
    if let Some(init) = run.remove("initParams") {
        let text = match &init {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        left = run;
        let object = object("instanceParams.initParams", text.as_deref(), &mut out.problems);
        out.layers.push(Layer { label: "instanceParams.initParams", object, stringly: false, shared: true });
    } else {
        // A flat context mixes the start parameter with what upstream nodes appended. Once a node has run, the keys that
        // nodes append only fill what is missing, or a second RunLLMTest would test the first one's model.
        if run.contains_key("relatedInstances") {
            for key in appended {
                if let Some(value) = run.remove(*key) {
                    left.insert((*key).to_owned(), value);
                }
            }
        }
        out.layers.push(Layer { label: "instanceParams", object: run, stringly: true, shared: true });
    }
    out.layers.push(Layer { label: "jobParams", object: job, stringly: false, shared: false });
    out.layers.push(Layer { label: "instanceParams", object: left, stringly: true, shared: true });
    out
}

/// The object that a text holds; no text or only blanks is an empty one.
fn object(label: &'static str, text: Option<&str>, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let text = text.unwrap_or_default().trim();
    if text.is_empty() {
        return Map::new();
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => return object,
        Ok(Value::Null) => {}
        Ok(other) => {
            problems.push(Problem::found(label, describe(&other), "a JSON object, e.g. {\"platformTaskId\":\"T1\"}"));
        }
        Err(error) => problems.push(Problem::says(
            label,
            format!("is not JSON ({error}): found {}; accepted: a JSON object", super::kind::shown_text(text)),
        )),
    }
    Map::new()
}

/// A value's type and beginning, for messages.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) => format!("the text {}", super::kind::shown_text(s)),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(object) => format!("an object of {}", object.len()),
    }
}
