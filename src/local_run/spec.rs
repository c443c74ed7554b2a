//! What `testrig run` reads: one processor, or nodes in a row.

use serde::Deserialize;
use serde_json::Value;

/// One processor with its parameters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    /// `processorInfo`.
    pub(super) processor: String,
    /// Job parameters: an object, or the text that the console would hold.
    #[serde(default)]
    job_params: Option<Value>,
    /// Instance parameters; only where the file holds a single processor.
    #[serde(default)]
    instance_params: Option<Value>,
    /// Go on with the next node even if this one fails.
    #[serde(default)]
    pub(super) skip_when_failed: bool,
}

impl Node {
    pub(super) fn job_params(&self) -> Option<String> {
        self.job_params.as_ref().and_then(text)
    }

    pub(super) fn instance_params(&self) -> Option<String> {
        self.instance_params.as_ref().and_then(text)
    }
}

/// The whole file.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) nodes: Vec<Node>,
    /// Whether the nodes share a workflow context.
    pub(super) workflow: bool,
    /// The workflow's start parameter.
    pub(super) init_params: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Nodes {
    nodes: Vec<Node>,
    #[serde(default)]
    init_params: Option<Value>,
}

/// Reads the text of a file.
pub(super) fn parse(text_of_file: &str) -> Result<Spec, String> {
    const SHAPE: &str = r#"accepted: {"processor": "..", "jobParams": {..}, "instanceParams": {..}} or {"nodes": [{"processor": "..", "jobParams": {..}}, ..], "initParams": {..}}"#;
    let value: Value = serde_json::from_str(text_of_file).map_err(|e| format!("not valid JSON: {e}"))?;
    let spec = if value.get("nodes").is_some() {
        let nodes: Nodes = serde_json::from_value(value).map_err(|e| format!("{e}; {SHAPE}"))?;
        if let Some(i) = nodes.nodes.iter().position(|n| n.instance_params.is_some()) {
            return Err(format!("nodes[{i}].instanceParams: the nodes of a workflow share `initParams`; put it there"));
        }
        Spec { nodes: nodes.nodes, workflow: true, init_params: nodes.init_params.as_ref().and_then(text) }
    } else {
        let node = serde_json::from_value(value).map_err(|e| format!("{e}; {SHAPE}"))?;
        Spec { nodes: vec![node], workflow: false, init_params: None }
    };
    if spec.nodes.is_empty() { Err(format!("`nodes` is empty; {SHAPE}")) } else { Ok(spec) }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(s) => Some(s.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read() {
        let one = parse(r#"{"processor":"RunLLMTest","jobParams":{"a":1},"instanceParams":"{}"}"#).expect("one");
        assert_eq!((one.workflow, one.nodes[0].job_params()), (false, Some(r#"{"a":1}"#.to_owned())));
        let many =
            parse(r#"{"nodes":[{"processor":"A"},{"processor":"B","skipWhenFailed":true}],"initParams":{"k":"v"}}"#)
                .expect("many");
        assert_eq!((many.workflow, many.nodes.len(), many.init_params.as_deref()), (true, 2, Some(r#"{"k":"v"}"#)));
    }

    #[test]
    fn a_wrong_file_is_told_what_is_accepted() {
        for (file, text) in [
            ("{", "not valid JSON"),
            (r#"{"processor":"A","params":{}}"#, "unknown field `params`"),
            (r#"{"nodes":[]}"#, "`nodes` is empty"),
            (r#"{"nodes":[{"processor":"A","instanceParams":{}}]}"#, "share `initParams`"),
        ] {
            let e = parse(file).expect_err(file);
            assert!(e.contains(text), "{file}: {e}");
        }
    }
}
