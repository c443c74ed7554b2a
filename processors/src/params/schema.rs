//! The JSON Schema of a table.

use serde_json::{Map, Value, json};

use super::table::{Field, Kind, State, Table};

/// The JSON Schema (draft 2020-12) of `{"processor","jobParams","instanceParams"}`, the document of `testrig run`.
/// Both parameter objects accept every parameter, nested or dotted; what is required must stand in one of them.
pub fn schema(table: &Table) -> Value {
    let mut root = Map::new();
    if let Some(job_type) = table.job_type {
        root.insert("jobType".into(), json!({"const": job_type, "description": "which kind of job this is"}));
    }
    for field in table.all() {
        insert(&mut root, field);
    }
    let required: Vec<Value> = table
        .job_type
        .iter()
        .map(|_| "jobType")
        .chain(table.all().filter(|field| field.required).map(|field| field.name))
        .map(one_of_them_has)
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": table.processor,
        "type": "object",
        "properties": {
            "processor": {"const": table.processor},
            "jobParams": {"$ref": "#/$defs/parameters"},
            "instanceParams": {"$ref": "#/$defs/parameters"},
        },
        "required": ["processor"],
        "allOf": required,
        "$defs": {"parameters": {"type": "object", "properties": root}},
    })
}

fn one_of_them_has(name: &str) -> Value {
    let nested = name.rsplit('.').fold(None, |inner: Option<Value>, part| {
        Some(match inner {
            None => json!({"type": "object", "required": [part]}),
            Some(inner) => json!({"type": "object", "required": [part], "properties": {part: inner}}),
        })
    });
    let nested = nested.unwrap_or(Value::Bool(true));
    let holds = if name.contains('.') { json!({"anyOf": [nested, {"required": [name]}]}) } else { nested };
    let in_object = |object: &str| json!({"required": [object], "properties": {object: holds}});
    json!({"anyOf": [in_object("jobParams"), in_object("instanceParams")]})
}

/// Puts a field under its dotted name and, where it has dots, into the nested objects as well.
fn insert(root: &mut Map<String, Value>, field: &Field) {
    let shape = describe(field);
    let mut place = &mut *root;
    let mut parts: Vec<&str> = field.name.split('.').collect();
    let last = parts.pop().unwrap_or(field.name);
    let nested = !parts.is_empty();
    for part in parts {
        let group = place.entry(part).or_insert_with(|| json!({"type": "object"}));
        let Value::Object(group) = group else { unreachable!("shapes are objects") };
        // `env` is a text and the beginning of `env.setupScript`: either shape will do.
        if let Some(Value::Array(types)) = group.get_mut("type")
            && !types.contains(&json!("object"))
        {
            types.push(json!("object"));
        }
        let properties = group.entry("properties").or_insert_with(|| json!({}));
        let Value::Object(properties) = properties else { unreachable!("properties are an object") };
        place = properties;
    }
    match place.get_mut(last) {
        // The group came first.
        Some(Value::Object(group)) => {
            let properties = group.remove("properties");
            *group = shape.as_object().cloned().unwrap_or_default();
            if let (Some(Value::Array(types)), Some(properties)) = (group.get_mut("type"), properties) {
                types.push(json!("object"));
                group.insert("properties".into(), properties);
            }
        }
        _ => {
            place.insert(last.to_owned(), shape.clone());
        }
    }
    if nested {
        root.insert(field.name.to_owned(), shape);
    }
}

fn describe(field: &Field) -> Value {
    let mut shape = match field.state {
        // Nothing matches: a document with it would fail.
        State::Refused(_) => json!({"not": {}}),
        State::Served => kind(&field.kind),
    };
    if let Value::Object(object) = &mut shape {
        let doc = match field.state {
            State::Served => field.doc.to_owned(),
            State::Refused(why) => format!("{} (not served yet: {why})", field.doc),
        };
        object.insert("description".into(), Value::String(doc));
        if let Some(default) = field.default {
            object.insert("default".into(), serde_json::from_str(default).expect("a table's default is JSON"));
        }
    }
    shape
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Str => json!({"type": ["string", "null"]}),
        Kind::Component => {
            json!({"type": ["string", "null"], "minLength": 1, "maxLength": 200, "pattern": "^[^/\\\\]+$"})
        }
        Kind::Id => json!({"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"}),
        Kind::Date => json!({"type": ["integer", "string", "null"], "pattern": "^[0-9]{8}$"}),
        Kind::Int(low, high) => json!({"type": ["integer", "null"], "minimum": low, "maximum": high}),
        Kind::Num(low, high) => json!({"type": ["number", "null"], "minimum": low, "maximum": high}),
        Kind::Bool => json!({"type": ["boolean", "null"]}),
        Kind::Enum(words) => {
            let words: Vec<Value> = words.iter().map(|word| json!(word)).chain([Value::Null]).collect();
            json!({"enum": words})
        }
        Kind::Path => json!({"type": ["string", "null"], "pattern": "^/"}),
        Kind::Url(schemes) => json!({"type": ["string", "null"], "pattern": format!("^({})://", schemes.join("|"))}),
        Kind::Size => {
            json!({"type": ["integer", "string", "null"], "minimum": 1, "pattern": "^[0-9.]+ *([kKmMgGtT][iI]?)?[bB]?$"})
        }
        Kind::Cpu => json!({"type": ["number", "string", "null"], "exclusiveMinimum": 0, "pattern": "^[0-9.]+$"}),
        Kind::List(inner) => json!({"type": ["array", "null"], "items": self::kind(inner)}),
        Kind::StrMap => {
            json!({"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean", "null"]}})
        }
        Kind::Object(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|field| (field.name.to_owned(), describe(field))).collect();
            let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
            json!({"type": ["object", "null"], "properties": properties, "required": required, "additionalProperties": false})
        }
        Kind::Any => json!({}),
    }
}
