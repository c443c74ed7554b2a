//! The samples of a run as minimum, mean, maximum and 95th percentile.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
};

use serde_json::{Map, Value, json};

/// Figures that never change in a run, and marks.
const CONSTANT: [&str; 8] =
    ["cpus", "memory_total_bytes", "swap_total_bytes", "memory_limit_bytes", "total_bytes", "index", "pid", "time_ms"];
/// Figures that count since the start of something: what is told is how fast they grew, a second.
const COUNTERS: [&str; 5] =
    ["network_rx_bytes", "network_tx_bytes", "network_loopback_bytes", "block_read_bytes", "block_write_bytes"];
/// A counter whose growth stands beside it already, as percent.
const TOLD_OTHERWISE: &str = "cpu_total_ns";

/// The figures of all samples in the file; null where there is none.
pub(in crate::run_llm_test) fn of(file: &Path) -> Value {
    let Ok(file) = std::fs::File::open(file) else { return Value::Null };
    let mut all = All::default();
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        // A line that a kill cut in half is no sample.
        if let Ok(sample) = serde_json::from_slice::<Value>(&line) {
            all.add(&sample);
        }
    }
    all.finish()
}

/// Series by part (`host`, `service`, `accelerators.0`) and name.
#[derive(Default)]
struct All {
    samples: u64,
    series: BTreeMap<(String, String), Vec<f64>>,
    /// Counters of the sample before: when, and how far they were.
    before: BTreeMap<(String, String), (f64, f64)>,
}

impl All {
    fn add(&mut self, sample: &Value) {
        let Some(at) = sample["time_ms"].as_f64() else { return };
        self.samples += 1;
        self.part("host", &sample["host"], at);
        if let Some(load) = sample["host"]["load"].as_array() {
            for (name, value) in ["load1", "load5", "load15"].into_iter().zip(load) {
                self.figure("host", name, value.as_f64(), at);
            }
        }
        self.figure("host", "disk_available_bytes", sample["disk"]["available_bytes"].as_f64(), at);
        self.part("service", &sample["service"]["sample"], at);
        self.part("process", &sample["service"]["process"], at);
        for card in sample["accelerators"].as_array().into_iter().flatten() {
            self.part(&format!("accelerators.{}", card["index"]), card, at);
        }
    }

    fn part(&mut self, part: &str, figures: &Value, at: f64) {
        for (name, value) in figures.as_object().into_iter().flatten() {
            self.figure(part, name, value.as_f64(), at);
        }
    }

    fn figure(&mut self, part: &str, name: &str, value: Option<f64>, at: f64) {
        let Some(value) = value.filter(|_| !CONSTANT.contains(&name) && name != TOLD_OTHERWISE) else { return };
        if !COUNTERS.contains(&name) {
            self.series.entry((part.to_owned(), name.to_owned())).or_default().push(value);
            return;
        }
        let before = self.before.insert((part.to_owned(), name.to_owned()), (at, value));
        let Some((then, counted)) = before else { return };
        // One that fell began anew, or a process that was counted has ended.
        if at > then && value >= counted {
            let speed = (value - counted) * 1000.0 / (at - then);
            self.series.entry((part.to_owned(), format!("{name}_per_second"))).or_default().push(speed);
        }
    }

    fn finish(self) -> Value {
        if self.samples == 0 {
            return Value::Null;
        }
        let mut parts: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for ((part, name), values) in self.series {
            parts.entry(part).or_default().insert(name, figures(values));
        }
        let mut out = json!({"samples": self.samples});
        let mut cards = Vec::new();
        for (part, figures) in parts {
            match part.strip_prefix("accelerators.") {
                None => out[part] = Value::Object(figures),
                Some(index) => {
                    let mut card = json!({"index": index.parse::<u32>().ok()});
                    figures.into_iter().for_each(|(name, value)| card[name] = value);
                    cards.push(card);
                }
            }
        }
        cards.sort_by_key(|card| card["index"].as_u64());
        if !cards.is_empty() {
            out["accelerators"] = Value::Array(cards);
        }
        out
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean needs no 64 bits")]
fn figures(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let rounded = crate::figures::rounded;
    json!({
        "min": rounded(values.first().copied().unwrap_or_default()),
        "mean": rounded(mean),
        "max": rounded(values.last().copied().unwrap_or_default()),
        "p95": rounded(percentile(&values, 0.95)),
    })
}

/// As everywhere: at rank `p * (count - 1)`, linear between neighbours.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank is a small whole number"
)]
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let rank = p * (sorted.len().saturating_sub(1)) as f64;
    let (low, part) = (rank.floor() as usize, rank.fract());
    let at = |index: usize| sorted.get(index).or(sorted.last()).copied().unwrap_or_default();
    at(low) + (at(low + 1) - at(low)) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_minimum_mean_maximum_and_p95_and_counters_become_speeds() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("system-monitor.log");
        let line = |n: u64, rx: u64| {
            json!({"time_ms": 1000 * n, "host": {"cpu_percent": n, "cpus": 2, "load": [0.5, 1, 2], "memory_total_bytes": 9},
                "disk": {"total_bytes": 100, "available_bytes": 50}, "service": {"kind": "container", "sample":
                {"cpu_percent": null, "memory_bytes": 7, "network_rx_bytes": rx, "cpu_total_ns": n, "name": "x"}},
                "accelerators": [{"index": 3, "utilization_percent": 10 * n, "health": "ok"}]})
            .to_string()
        };
        let lines = [line(1, 0), line(2, 1000), line(4, 3000), "{\"time_ms\": 5, \"ho".into(), line(5, 10)];
        std::fs::write(&file, lines.join("\n")).expect("written");
        let found = of(&file);
        assert_eq!(found["samples"], 4);
        assert_eq!(found["host"]["cpu_percent"], json!({"min": 1, "mean": 3, "max": 5, "p95": 4.85}));
        assert_eq!(found["host"]["load5"]["mean"], 1);
        assert_eq!(found["host"]["disk_available_bytes"]["min"], 50);
        assert_eq!(
            found["service"],
            json!({"memory_bytes": {"min": 7, "mean": 7, "max": 7, "p95": 7},
                "network_rx_bytes_per_second": {"min": 1000, "mean": 1000, "max": 1000, "p95": 1000}})
        );
        assert_eq!(found["accelerators"][0]["index"], 3);
        assert_eq!(found["accelerators"][0]["utilization_percent"]["max"], 50);
        assert!(found["host"].get("cpus").is_none() && found.get("process").is_none(), "{found}");
        std::fs::write(&file, "").expect("written");
        assert_eq!((of(&file), of(&dir.path().join("none"))), (Value::Null, Value::Null));
    }
}
