//! What a JSON Schema of parameters does not accept: wrong types, values out of range, unknown words, wrong forms.

use serde_json::{Value, json};

/// A value that a property must not have.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// The property, dotted.
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// Every property of the schema's parameters with every kind of value that it says no to. Names in groups come once, dotted.
pub(crate) fn values(schema: &Value) -> Vec<Wrong> {
    let properties = schema["$defs"]["parameters"]["properties"].as_object().expect("a schema of parameters");
    // A group (`docker`) is no parameter: it has properties and no description.
    let is_parameter = |shape: &Value| shape["description"].is_string();
    let parameters = properties.iter().filter(|(_, shape)| is_parameter(shape));
    parameters
        .flat_map(|(name, shape)| of(shape).into_iter().map(|value| Wrong { name: name.clone(), value }))
        .collect()
}

fn of(shape: &Value) -> Vec<Value> {
    if let Some(one) = shape.get("const") {
        return vec![json!(format!("no {one}")), json!(7)];
    }
    let mut wrong = Vec::new();
    let accepted: Vec<&str> = match shape.get("enum") {
        Some(_) => {
            wrong.push(json!("no such word"));
            vec!["string"]
        }
        None => shape["type"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    // A shape without types accepts everything, or, as one that is refused, nothing.
    if accepted.is_empty() {
        return wrong;
    }
    let takes = |kind: &str| accepted.contains(&kind);
    let types = [
        (json!(true), takes("boolean")),
        (json!(1.5), takes("number")),
        (json!(12), takes("number") || takes("integer")),
        // A text that has a form does not have it with this in it.
        (json!("many/words"), takes("string") && shape.get("pattern").is_none()),
        (json!(["a list"]), takes("array")),
        (json!({"an": "object"}), takes("object")),
    ];
    wrong.extend(types.into_iter().filter(|(_, accepted)| !accepted).map(|(value, _)| value));
    if let Some(least) = shape["minimum"].as_f64() {
        wrong.push(json!(least - 1.0));
    }
    if let Some(least) = shape["exclusiveMinimum"].as_f64() {
        wrong.push(json!(least));
    }
    if let Some(most) = shape["maximum"].as_f64() {
        wrong.push(json!(most + 1.0));
    }
    wrong
}
