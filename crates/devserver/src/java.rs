//! Reading JSON as the Java side does (numbers from texts, null as zero) and writing numbers and times as it does.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

/// A whole number, also from a text.
pub(crate) fn long(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(truncated)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A fraction; nothing is zero.
pub(crate) fn double(value: Option<&Value>) -> f64 {
    match value {
        Some(Value::Number(number)) => number.as_f64().unwrap_or(0.0),
        Some(Value::String(text)) => text.trim().parse().unwrap_or(0.0),
        _ => 0.0,
    }
}

/// A text; a number or boolean becomes its text.
pub(crate) fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A flag; nothing is false.
pub(crate) fn boolean(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// Milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The wall clock, epoch ms.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// `2026-11-21T09:00:32.067+00:00`.
pub(crate) fn iso(ms: i64) -> String {
    zoned(ms, &TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%3f+00:00").to_string()
}

/// `yyyy-MM-dd HH:mm:ss` or `N/A`.
pub(crate) fn shown(ms: Option<i64>, zone: &TimeZone) -> String {
    ms.map_or_else(|| "N/A".to_owned(), |ms| zoned(ms, zone).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// At most one decimal, as `#.#` writes it.
pub(crate) fn decimal(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn zoned(ms: i64, zone: &TimeZone) -> jiff::Zoned {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone())
}

#[expect(clippy::cast_possible_truncation, reason = "Jackson truncates a fraction too")]
fn truncated(value: f64) -> i64 {
    value as i64
}
