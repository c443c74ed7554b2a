//! A summary for people.

use std::fmt::Write;

use crate::Summary;

/// Columns of the latency table: heading, and the end of the metric's name.
const COLUMNS: [(&str, &str); 7] =
    [("avg", "avg"), ("p50", "p50"), ("p90", "p90"), ("p95", "p95"), ("p99", "p99"), ("min", "min"), ("max", "max")];
/// Rows of the latency table: heading, and the distribution.
const ROWS: [(&str, &str); 6] = [
    ("TTFT", "ttft"),
    ("TPOT", "tpot"),
    ("ITL", "itl"),
    ("E2E latency", "e2el"),
    ("E2E from due time", "e2el_from_intended"),
    ("send delay", "queue"),
];

/// The summary as lines of text: counts, rates, and a table of latencies in milliseconds.
#[must_use]
pub fn table(summary: &Summary) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<20}{value}");
    };
    row(
        "requests",
        format!(
            "{} ({} succeeded, {} failed, {} of these cancelled)",
            summary.requests, summary.succeeded, summary.failed, summary.cancelled
        ),
    );
    if summary.not_sent > 0 {
        row("not sent", format!("{} were due while all slots were busy", summary.not_sent));
    }
    if summary.warmup_requests > 0 {
        row("warm-up", format!("{} requests, not measured", summary.warmup_requests));
    }
    for (class, count) in &summary.failures {
        row(&format!("  {class}"), count.to_string());
    }
    let percent = |ratio: f64| format!("{:.2} %", ratio * 100.0);
    if let Some(rate) = summary.error_rate() {
        row("error rate", percent(rate));
    }
    row("duration", format!("{:.2} s", summary.duration_seconds));
    let rates = [
        ("throughput", "qps", "requests/s"),
        ("goodput", "goodput", "requests/s"),
        ("input tokens", "input_token_rate", "tokens/s"),
        ("output tokens", "output_token_rate", "tokens/s"),
    ];
    for (name, metric, unit) in rates {
        if let Some(value) = summary.metric(metric) {
            row(name, format!("{value:.2} {unit}"));
        }
    }
    if let Some(accuracy) = summary.accuracy {
        row("accuracy", format!("{} of {} judged answers", percent(accuracy), summary.scored));
    }
    if summary.requests == 0 {
        return text;
    }
    let _ = write!(text, "\n{:<20}", "milliseconds");
    for (heading, _) in COLUMNS {
        let _ = write!(text, "{heading:>11}");
    }
    text.push('\n');
    for (heading, base) in ROWS {
        if summary.distribution(base).is_none_or(|distribution| distribution.count() == 0) {
            continue;
        }
        let _ = write!(text, "{heading:<20}");
        for (_, aggregate) in COLUMNS {
            let value = summary.metric(&format!("{base}_{aggregate}")).unwrap_or_default();
            let _ = write!(text, "{value:>11.2}");
        }
        text.push('\n');
    }
    text
}
