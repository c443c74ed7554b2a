//! The names under which a summary's figures are known: in `result.json`, in `metricDefinitions`, on the terminal.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::Summary;
use crate::distribution::Distribution;

/// What every distribution is reduced to unless somebody asks for more.
pub const AGGREGATES: [&str; 7] = ["avg", "p50", "p90", "p95", "p99", "max", "min"];

/// Distributions by name, all in milliseconds. `latency` is another name for `e2el`.
pub const DISTRIBUTIONS: [&str; 7] = ["ttft", "tpot", "itl", "e2el", "latency", "e2el_from_intended", "queue"];

impl Summary {
    /// The distribution of that name.
    #[must_use]
    pub fn distribution(&self, name: &str) -> Option<&Distribution> {
        Some(match name {
            "ttft" => &self.ttft,
            "tpot" => &self.tpot,
            "itl" => &self.itl,
            "e2el" | "latency" => &self.e2el,
            "e2el_from_intended" => &self.e2el_from_intended,
            "queue" => &self.queue,
            _ => return None,
        })
    }

    /// A figure by name: one of the counts and rates of [`Summary::metrics`], or a distribution with `_avg`, `_min`, `_max`,
    /// `_std` or any percentile such as `_p50` or `_p99.9` behind it. None when the name is unknown or there is no value.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        if let Some((_, value)) = self.figures().into_iter().find(|(known, _)| *known == name) {
            return value;
        }
        let (base, aggregate) = name.rsplit_once('_')?;
        let distribution = self.distribution(base)?;
        match aggregate {
            "avg" | "mean" => distribution.mean_ms(),
            "min" => distribution.min_ms(),
            "max" => distribution.max_ms(),
            "std" => distribution.std_ms(),
            percentile => distribution.percentile_ms(percentile.strip_prefix('p')?.parse().ok()?),
        }
    }

    /// Whether `name` can be asked of a summary, even if this one has no value for it.
    #[must_use]
    pub fn knows(name: &str) -> bool {
        let summary = Self::default();
        if summary.figures().iter().any(|(known, _)| *known == name) {
            return true;
        }
        let Some((base, aggregate)) = name.rsplit_once('_') else {
            return false;
        };
        let percentile = || aggregate.strip_prefix('p')?.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
        summary.distribution(base).is_some()
            && (matches!(aggregate, "avg" | "mean" | "min" | "max" | "std") || percentile().is_some())
    }

    /// All figures that have a value, in a fixed order: counts, rates per second, then milliseconds.
    #[must_use]
    pub fn metrics(&self) -> Vec<(String, f64)> {
        let mut all: Vec<(String, f64)> =
            self.figures().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        for base in DISTRIBUTIONS {
            for aggregate in AGGREGATES {
                let name = format!("{base}_{aggregate}");
                if let Some(value) = self.metric(&name) {
                    all.push((name, value));
                }
            }
        }
        all
    }

    /// Failed requests by all that were sent; None when none was sent.
    #[must_use]
    pub fn error_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.failed as f64 / self.requests as f64)
    }

    /// Successful requests a second.
    #[must_use]
    pub fn qps(&self) -> Option<f64> {
        self.per_second(self.succeeded)
    }

    fn per_second(&self, count: u64) -> Option<f64> {
        (self.duration_seconds > 0.0).then(|| count as f64 / self.duration_seconds)
    }

    fn figures(&self) -> [(&'static str, Option<f64>); 18] {
        let count = |n: u64| Some(n as f64);
        [
            ("requests", count(self.requests)),
            ("succeeded", count(self.succeeded)),
            ("failed", count(self.failed)),
            ("cancelled", count(self.cancelled)),
            ("not_sent", count(self.not_sent)),
            ("warmup_requests", count(self.warmup_requests)),
            ("error_rate", self.error_rate()),
            ("duration_seconds", Some(self.duration_seconds)),
            ("qps", self.qps()),
            ("input_tokens", count(self.input_tokens)),
            ("output_tokens", count(self.output_tokens)),
            ("input_token_rate", self.per_second(self.input_tokens)),
            ("output_token_rate", self.per_second(self.output_tokens)),
            ("total_token_rate", self.per_second(self.input_tokens + self.output_tokens)),
            ("scored", count(self.scored)),
            ("accuracy", self.accuracy),
            ("goodput", self.good.and_then(|good| self.per_second(good))),
            ("goodput_ratio", self.good.filter(|_| self.requests > 0).map(|good| good as f64 / self.requests as f64)),
        ]
    }
}

/// One flat object: every figure by its name, and `failures` by class.
impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.metrics() {
            // Counts stay whole numbers for whoever reads them as such.
            if value.fract() == 0.0 && COUNTS.contains(&name.as_str()) {
                map.serialize_entry(&name, &(value as u64))?;
            } else {
                map.serialize_entry(&name, &value)?;
            }
        }
        map.serialize_entry("failures", &self.failures)?;
        map.end()
    }
}

const COUNTS: [&str; 9] = [
    "requests",
    "succeeded",
    "failed",
    "cancelled",
    "not_sent",
    "warmup_requests",
    "input_tokens",
    "output_tokens",
    "scored",
];
