//! The few figures of a run that people and later nodes are told; all others stay in files and in the row.

use serde_json::{Value, json};

/// Names of the main figures, in the order in which they are told.
pub(crate) const MAIN: [&str; 16] = [
    "requests",
    "succeeded",
    "failed",
    "error_rate",
    "qps",
    "output_token_rate",
    "ttft_avg",
    "ttft_p50",
    "ttft_p95",
    "ttft_p99",
    "tpot_avg",
    "itl_p99",
    "e2el_avg",
    "e2el_p95",
    "e2el_p99",
    "accuracy",
];

/// To what is measurable; whole numbers without a point.
pub(crate) fn rounded(value: f64) -> Value {
    let value = (value * 1e4).round() / 1e4;
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}
