//! `timeRange`: from two moments, or one and a length.

use serde_json::Value;
use testrig_loadgen::Window;

const ACCEPTED: &str =
    "{\"start\":..,\"end\":..} or {\"end\":..}, each RFC 3339 (2025-11-23T10:00:00Z) or epoch milliseconds";

/// Reads it. `default_seconds` is the length where only the end is given.
pub(super) fn read(value: &Value, default_seconds: f64) -> Result<Window, String> {
    let parsed;
    let value = match value {
        // A template may hold it as text, as a context does.
        Value::String(text) => {
            parsed =
                serde_json::from_str(text).map_err(|_| format!("found the text {text:?}; accepted: {ACCEPTED}"))?;
            &parsed
        }
        other => other,
    };
    let Value::Object(object) = value else {
        return Err(format!("found {value}; accepted: {ACCEPTED}"));
    };
    if let Some(unknown) = object.keys().find(|key| !["start", "end"].contains(&key.as_str())) {
        return Err(format!("has {unknown:?}, which is not known here; accepted: {ACCEPTED}"));
    }
    let at = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => moment(value).map(Some).ok_or_else(|| format!("has the {key} {value}; accepted: {ACCEPTED}")),
    };
    let (start, end) = (at("start")?, at("end")?);
    let Some(end) = end else {
        return Err(format!("has no end; accepted: {ACCEPTED}"));
    };
    let start = start.unwrap_or_else(|| end.saturating_sub((default_seconds * 1000.0) as i64));
    if start > end {
        return Err(format!("starts ({start}) after its end ({end}); accepted: {ACCEPTED}"));
    }
    Ok(Window { start_unix_ms: Some(start), end_unix_ms: Some(end) })
}

fn moment(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_shapes_and_both_kinds_of_moment_are_read() {
        let window = |start, end| Ok(Window { start_unix_ms: Some(start), end_unix_ms: Some(end) });
        assert_eq!(read(&json!({"start": 1000, "end": 2000}), 900.0), window(1000, 2000));
        assert_eq!(read(&json!({"end": "1000000"}), 900.0), window(100_000, 1_000_000));
        assert_eq!(
            read(&json!({"start": "1970-01-01T00:00:01Z", "end": "1970-01-01T08:00:02.5+08:00"}), 1.0),
            window(1000, 2500)
        );
        assert_eq!(read(&json!("{\"start\":1,\"end\":2}"), 1.0), window(1, 2));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_accepted() {
        for bad in [
            json!(5),
            json!("soon"),
            json!({"start": 1}),
            json!({"end": "tomorrow"}),
            json!({"start": 2, "end": 1}),
            json!({"end": 1, "stop": 2}),
        ] {
            let error = read(&bad, 900.0).expect_err("bad");
            assert!(error.contains("accepted: {\"start\""), "{bad}: {error}");
        }
    }
}
