//! Checks one value against its field's kind and brings it into one form.

use serde_json::{Map, Number, Value};

use super::{
    mask,
    problem::{Problem, nearest},
    source::describe,
    table::{Field, Kind, State},
};

/// The checked value of a field. `stringly`: a text is parsed by the kind first.
pub(super) fn check(field: &Field, path: &str, value: &Value, stringly: bool) -> Result<Value, Vec<Problem>> {
    if let State::Refused(why) = field.state {
        return Err(vec![Problem::says(path, format!("is not served yet: {why}"))]);
    }
    check_kind(&field.kind, path, value, stringly).map_err(|problems| {
        let secret = mask::is_secret_name(field.name);
        problems
            .into_iter()
            .map(
                |problem| {
                    if secret { Problem::found(problem.path, "a hidden value", accepted(&field.kind)) } else { problem }
                },
            )
            .collect()
    })
}

fn check_kind(kind: &Kind, path: &str, value: &Value, stringly: bool) -> Result<Value, Vec<Problem>> {
    if let Some(parsed) = reparse(kind, value, stringly) {
        return check_kind(kind, path, &parsed, false);
    }
    let wrong = || vec![Problem::found(path, describe(value), accepted(kind))];
    match (kind, value) {
        // No environment, command, label or path can hold it.
        (Kind::Str, Value::String(text)) if text.contains('\0') => Err(vec![nul(path)]),
        (Kind::Str, Value::String(_)) | (Kind::Bool, Value::Bool(_)) | (Kind::Any, _) => Ok(value.clone()),
        // Texts of a context may have been numbers in the start parameter.
        (Kind::Str | Kind::Component, Value::Number(n)) if stringly => {
            check_kind(kind, path, &Value::String(n.to_string()), false)
        }
        (Kind::Str, Value::Bool(b)) if stringly => Ok(Value::String(b.to_string())),
        (Kind::Component, Value::String(text)) => match component_fault(text) {
            None => Ok(value.clone()),
            Some(fault) => Err(vec![Problem::says(
                path,
                format!("found {}, which {fault}; accepted: {}", shown_text(text), accepted(kind)),
            )]),
        },
        (Kind::Id, Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(Value::String(n.to_string())),
        (Kind::Id, Value::String(text)) => match text.trim().parse::<i64>() {
            Ok(id) => Ok(Value::String(id.to_string())),
            Err(_) => Err(wrong()),
        },
        (Kind::Date, Value::Number(_) | Value::String(_)) => date(value).map(Value::String).ok_or_else(wrong),
        (Kind::Int(low, high), Value::Number(n)) => match whole(n) {
            Some(i) if (*low..=*high).contains(&i) => Ok(Value::from(i)),
            _ => Err(wrong()),
        },
        (Kind::Num(low, high), Value::Number(n)) => match n.as_f64() {
            Some(x) if (*low..=*high).contains(&x) => Ok(value.clone()),
            _ => Err(wrong()),
        },
        (Kind::Enum(words), Value::String(text)) => {
            if words.contains(&text.as_str()) {
                return Ok(value.clone());
            }
            let hint = nearest(text, words.iter().copied()).map(|near| format!("; did you mean \"{near}\"?"));
            let mut problem = Problem::found(path, describe(value), accepted(kind));
            problem.text.push_str(&hint.unwrap_or_default());
            Err(vec![problem])
        }
        (Kind::Path, Value::String(text)) if text.starts_with('/') && !text.contains('\0') => Ok(value.clone()),
        (Kind::Url(schemes), Value::String(text)) => match url::Url::parse(text) {
            Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => Ok(value.clone()),
            _ => Err(vec![Problem::found(path, format!("the text {}", shown_text(text)), accepted(kind))]),
        },
        (Kind::Size, Value::Number(n)) => n.as_u64().filter(|n| *n > 0).map(Value::from).ok_or_else(wrong),
        (Kind::Size, Value::String(text)) => size(text).map(Value::from).ok_or_else(wrong),
        (Kind::Cpu, Value::Number(_) | Value::String(_)) => {
            cpu(value).and_then(Number::from_f64).map(Value::Number).ok_or_else(wrong)
        }
        (Kind::List(inner), Value::Array(items)) => list(inner, path, items),
        (Kind::StrMap, Value::Object(object)) => str_map(path, object),
        (Kind::Object(fields), Value::Object(object)) => record(fields, path, object),
        _ => Err(wrong()),
    }
}

/// In a context a text stands for what it contains; the parsed value, or nothing if the text is the value.
fn reparse(kind: &Kind, value: &Value, stringly: bool) -> Option<Value> {
    let text = value.as_str().filter(|_| stringly)?.trim();
    match kind {
        Kind::Int(..) | Kind::Num(..) => serde_json::from_str(text).ok().filter(Value::is_number),
        Kind::Bool => match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        Kind::List(_) => serde_json::from_str(text).ok().filter(Value::is_array),
        Kind::StrMap | Kind::Object(_) => serde_json::from_str(text).ok().filter(Value::is_object),
        Kind::Any => serde_json::from_str(text).ok().filter(|v: &Value| v.is_object() || v.is_array()),
        _ => None,
    }
}

fn nul(path: &str) -> Problem {
    Problem::says(path, "holds a NUL character; accepted: text without one")
}

fn list(inner: &Kind, path: &str, items: &[Value]) -> Result<Value, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut checked = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match check_kind(inner, &format!("{path}[{index}]"), item, false) {
            Ok(value) => checked.push(value),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(Value::Array(checked)) } else { Err(problems) }
}

fn str_map(path: &str, object: &Map<String, Value>) -> Result<Value, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut map = Map::new();
    for (key, value) in object {
        let text = match value {
            Value::Null => continue,
            Value::String(text) if text.contains('\0') => {
                problems.push(nul(&format!("{path}.{key}")));
                continue;
            }
            Value::String(text) => text.clone(),
            Value::Number(n) => n.to_string(),
            Value::Bool(b) => b.to_string(),
            other => {
                problems.push(Problem::found(format!("{path}.{key}"), describe(other), "a text"));
                continue;
            }
        };
        map.insert(key.clone(), Value::String(text));
    }
    if problems.is_empty() { Ok(Value::Object(map)) } else { Err(problems) }
}

fn record(fields: &[Field], path: &str, object: &Map<String, Value>) -> Result<Value, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut map = Map::new();
    for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        match fields.iter().find(|field| field.name == key) {
            Some(field) => match check(field, &format!("{path}.{key}"), value, false) {
                Ok(value) => {
                    map.insert(key.clone(), value);
                }
                Err(more) => problems.extend(more),
            },
            None => {
                let names: Vec<_> = fields.iter().map(|field| field.name).collect();
                problems.push(Problem::says(
                    format!("{path}.{key}"),
                    format!("is not known here; accepted: {}", names.join(", ")),
                ));
            }
        }
    }
    for field in fields {
        let given = object.get(field.name).is_some_and(|value| !value.is_null());
        match (given, field.default) {
            (false, Some(json)) => {
                map.insert(field.name.to_owned(), serde_json::from_str(json).expect("a table's default is JSON"));
            }
            (false, None) if field.required => {
                problems.push(Problem::says(
                    format!("{path}.{}", field.name),
                    format!("is missing; accepted: {}", accepted(&field.kind)),
                ));
            }
            _ => {}
        }
    }
    if problems.is_empty() { Ok(Value::Object(map)) } else { Err(problems) }
}

/// What a kind accepts, in words.
pub(super) fn accepted(kind: &Kind) -> String {
    match kind {
        Kind::Str => "a text".into(),
        Kind::Component => "a text that can be a directory name (no `/`, not `.` or `..`, at most 200 bytes)".into(),
        Kind::Id => "a 64-bit id as a number or text".into(),
        Kind::Date => "a date yyyyMMdd as a number or text".into(),
        Kind::Int(low, high) => match (*low, *high) {
            (i64::MIN, i64::MAX) => "a whole number".into(),
            (low, i64::MAX) => format!("a whole number, at least {low}"),
            (low, high) => format!("a whole number from {low} to {high}"),
        },
        Kind::Num(low, high) if *high >= 1e15 => format!("a number, at least {low}"),
        Kind::Num(low, high) => format!("a number from {low} to {high}"),
        Kind::Bool => "true or false".into(),
        Kind::Enum(words) => format!("one of {}", words.join(", ")),
        Kind::Path => "an absolute path".into(),
        Kind::Url(schemes) => format!("a URL ({})", schemes.join(", ")),
        Kind::Size => "a size such as 8g, 8Gi, 8192m or a number of bytes".into(),
        Kind::Cpu => "a number of CPUs above 0 such as 4 or \"1.5\"".into(),
        Kind::List(inner) => format!("a list, each of it {}", accepted(inner)),
        Kind::StrMap => "an object of texts".into(),
        Kind::Object(fields) => {
            format!("an object with {}", fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", "))
        }
        Kind::Any => "any JSON".into(),
    }
}

/// Text as it is shown in a message: quoted, masked, cut.
pub(crate) fn shown_text(text: &str) -> String {
    let masked = mask::text(text);
    let mut short: String = masked.chars().take(60).collect();
    if short.len() < masked.len() {
        short.push('…');
    }
    format!("{short:?}")
}

fn component_fault(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        Some("is empty")
    } else if text == "." || text == ".." {
        Some("is not a name")
    } else if text.contains(['/', '\\', '\0']) || text.chars().any(char::is_control) {
        Some("holds a separator or control character")
    } else if text.len() > 200 {
        Some("is too long")
    } else {
        None
    }
}

/// The number as an integer; `4.0` counts, `4.5` does not. Nothing goes through a float that was not one.
fn whole(n: &Number) -> Option<i64> {
    n.as_i64().or_else(|| n.as_f64().filter(|x| n.is_f64() && x.fract() == 0.0 && x.abs() < 9e15).map(|x| x as i64))
}

fn date(value: &Value) -> Option<String> {
    let text = match value {
        Value::Number(n) => n.as_u64()?.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<i16>().ok();
    let real = digits
        && jiff::civil::Date::new(part(0..4)?, i8::try_from(part(4..6)?).ok()?, i8::try_from(part(6..8)?).ok()?)
            .is_ok();
    real.then_some(text)
}

/// Bytes of `8g`, `8Gi`, `8GiB`, `8192m`, `512`; letters are powers of 1024, as in Docker. Above 0.
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kb" | "kib" => 1 << 10,
        "m" | "mi" | "mb" | "mib" => 1 << 20,
        "g" | "gi" | "gb" | "gib" => 1 << 30,
        "t" | "ti" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor)?,
        Err(_) => {
            let bytes = number.parse::<f64>().ok()? * factor as f64;
            if bytes >= 9e15 {
                return None;
            }
            bytes as u64
        }
    };
    (bytes > 0).then_some(bytes)
}

fn cpu(value: &Value) -> Option<f64> {
    let cpus = match value {
        Value::Number(n) => n.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (cpus > 0.0 && cpus <= 100_000.0).then_some(cpus)
}
