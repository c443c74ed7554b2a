//! Figures that a test script reported: one line of the record file holds them, beside the records or instead of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Such a line.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) reported: BTreeMap<String, f64>,
    #[serde(default)]
    pub(super) failures: Option<Map<String, Value>>,
    /// Begin of the test.
    #[serde(default)]
    pub(super) start_unix_ms: Option<i64>,
    #[serde(default)]
    pub(super) tags: Map<String, Value>,
}

/// What was reported; of several lines the last one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reported {
    pub(super) figures: BTreeMap<String, f64>,
    pub(super) failures: Map<String, Value>,
}

/// How `metricDefinitions` names a figure that only a script knows.
pub(super) const PREFIX: &str = "reported.";

/// The line, if it is one.
pub(super) fn parse(text: &str) -> Option<Line> {
    // Records are many and long; only a line with the word is looked at twice.
    text.contains("\"reported\"").then(|| serde_json::from_str(text).ok()).flatten()
}

impl Reported {
    /// Takes a line; a later one counts instead of an earlier one.
    pub(super) fn take(&mut self, line: Line) {
        self.figures = line.reported;
        self.failures = line.failures.unwrap_or_default();
    }

    /// A figure as `metricDefinitions` names it.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.figures.get(name.strip_prefix(PREFIX).unwrap_or(name)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_with_reported_figures_is_one_and_the_last_one_counts() {
        assert!(parse(r#"{"v":1,"id":"a","phase":"load","error":"reported"}"#).is_none());
        let mut all = Reported::default();
        for text in [r#"{"reported":{"a":1,"b":2}}"#, r#"{"v":1,"reported":{"a":3},"failures":{"x":1},"tags":{}}"#] {
            all.take(parse(text).expect("a line"));
        }
        assert_eq!((all.get("a"), all.get("reported.a"), all.get("b")), (Some(3.0), Some(3.0), None));
        assert_eq!(all.failures["x"], 1);
    }
}
