//! Holds merged values against the schema of [`super::model::Config`] and collects every mistake.

use serde_json::Value;

use super::layers::Layers;

/// One mistake, ready to print: where, what was found, what is accepted.
pub(crate) type Mistake = String;

/// Every key that does not exist and every value of the wrong kind.
pub(crate) fn check(layers: &Layers, schema: &Value) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let values = Value::Object(layers.values.clone());
    Checker { layers, root: schema, mistakes: &mut mistakes }.value("", &values, schema);
    mistakes
}

struct Checker<'a> {
    layers: &'a Layers,
    root: &'a Value,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Checker<'a> {
    fn say(&mut self, path: &str, text: &str) {
        let origin = self.layers.origin(path).map_or_else(|| "configuration".to_owned(), ToString::to_string);
        self.mistakes.push(format!("{origin}: {text}"));
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { return schema };
        self.root.pointer(reference.trim_start_matches('#')).unwrap_or(schema)
    }

    fn value(&mut self, path: &str, value: &Value, schema: &'a Value) {
        let schema = self.resolve(schema);
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            // `Option<T>`: a file cannot say null, so the other branch is meant.
            let branch = options.iter().find(|o| o.get("type").and_then(Value::as_str) != Some("null"));
            return branch.map_or((), |b| self.value(path, value, b));
        }
        if let Some(names) = enum_names(schema) {
            if !value.as_str().is_some_and(|v| names.iter().any(|n| n == v)) {
                self.say(path, &format!("`{path}` is {}; accepted: {}", show(value), names.join(", ")));
            }
            return;
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(t)) => vec![t],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
            _ => return,
        };
        match (types.first().copied().unwrap_or("any"), value) {
            ("object", Value::Object(map)) => {
                for (key, inner) in map {
                    self.member(path, key, inner, schema);
                }
            }
            ("array", Value::Array(list)) => {
                for (i, inner) in list.iter().enumerate() {
                    if let Some(items) = schema.get("items") {
                        self.value(&format!("{path}.{i}"), inner, items);
                    }
                }
            }
            ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => {}
            ("integer", Value::Number(n)) if n.as_i64().is_some_and(|n| n >= 0) || n.is_u64() => {}
            (wanted, _) => {
                let wanted = match wanted {
                    "object" => "a section",
                    "array" => "a list such as [\"a\", \"b\"]",
                    "string" => "text in quotes",
                    "boolean" => "true or false",
                    "integer" => "a whole number, 0 or more",
                    other => other,
                };
                self.say(path, &format!("`{path}` is {}; accepted: {wanted}", show(value)));
            }
        }
    }

    fn member(&mut self, path: &str, key: &str, value: &Value, schema: &'a Value) {
        let at = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let properties = schema.get("properties").and_then(Value::as_object);
        if let Some(inner) = properties.and_then(|p| p.get(key)) {
            return self.value(&at, value, inner);
        }
        match schema.get("additionalProperties") {
            Some(inner @ Value::Object(_)) => self.value(&at, value, inner),
            _ => {
                let known: Vec<&str> = properties.map(|p| p.keys().map(String::as_str).collect()).unwrap_or_default();
                let hint = match nearest(key, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known keys here: {}", known.join(", ")),
                };
                self.say(&at, &format!("unknown key `{at}`; {hint}"));
            }
        }
    }
}

fn enum_names(schema: &Value) -> Option<Vec<String>> {
    let list = schema.get("oneOf").or_else(|| schema.get("enum"))?.as_array()?;
    Some(list.iter().filter_map(|e| e.get("const").unwrap_or(e).as_str().map(str::to_owned)).collect())
}

fn show(value: &Value) -> String {
    match value {
        Value::String(s) => format!("the text {s:?}"),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a section".into(),
        other => format!("`{other}`"),
    }
}

/// The known name that is most like what was written, if any is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), *k)).min()?;
    (best.0 <= 2.max(word.len() / 3)).then_some(best.1)
}
