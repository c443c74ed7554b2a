//! `metricDefinitions` and `aggStrategy`: which figures a run is reduced to.

use std::collections::BTreeMap;

use serde_json::Value;
use testrig_loadgen::{Distribution, Record, Summary, names};

use super::reported::PREFIX;
use crate::params::nearest;

/// Aggregates by strategy, for a distribution whose definition names none.
const PERCENTILES: [&str; 4] = ["p50", "p90", "p95", "p99"];
/// Fields of a record that a custom definition may name, besides `tags.<name>`.
const FIELDS: [&str; 11] = [
    "ttft_ms",
    "tpot_ms",
    "e2el_ms",
    "latency_ms",
    "queue_ms",
    "itl_ms",
    "prompt_tokens",
    "completion_tokens",
    "events",
    "http_status",
    "score",
];
/// What a filter may look at, besides `tags.<name>`.
const FILTERS: [&str; 6] = ["ok", "phase", "scenario", "item", "error_class", "finish_reason"];
/// A record's own numbers have at most this many digits behind the point.
const SCALE: f64 = 1e6;

/// What is computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Definitions {
    /// Names of the summary's figures; `None` = all there are.
    pub(super) standard: Option<Vec<String>>,
    pub(super) custom: Vec<Custom>,
}

/// A figure over one field of the records.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Custom {
    pub(super) name: String,
    field: String,
    aggregate: Aggregate,
    filter: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Aggregate {
    Avg,
    Min,
    Max,
    Std,
    Sum,
    Count,
    Percentile(f64),
}

/// Reads the definitions. Problems are pairs of the path below `metricDefinitions` and a text.
pub(super) fn read(
    list: Option<&[Value]>,
    strategy: Option<&str>,
    reserved: &[&str],
) -> Result<Definitions, Vec<(String, String)>> {
    let mut problems = Vec::new();
    let Some(list) = list else {
        return match strategy {
            Some("custom") => Err(vec![(
                String::new(),
                "is missing, but aggStrategy is custom; accepted: a list of definitions".into(),
            )]),
            Some(strategy) => Ok(Definitions { standard: Some(by_strategy(strategy)), custom: Vec::new() }),
            None => Ok(Definitions::default()),
        };
    };
    let mut standard = Vec::new();
    let mut custom = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let at = format!("[{index}]");
        match value {
            Value::String(name) => match expand(name.trim(), strategy) {
                Ok(names) => standard.extend(names),
                Err(text) => problems.push((at, text)),
            },
            Value::Object(object) => match Custom::read(object, reserved) {
                Ok(one) => custom.push(one),
                Err((below, text)) => problems.push((format!("{at}{below}"), text)),
            },
            other => problems.push((
                at,
                format!(
                    "found {other}; accepted: the name of a figure, or an object with name, field, aggregate and filter"
                ),
            )),
        }
    }
    let mut seen: Vec<String> = Vec::new();
    standard.retain(|name: &String| {
        let new = !seen.contains(name);
        seen.push(name.clone());
        new
    });
    for one in &custom {
        if seen.iter().any(|name| name.eq_ignore_ascii_case(&one.name)) {
            problems.push((String::new(), format!("names {:?} twice", one.name)));
        }
        seen.push(one.name.clone());
    }
    if problems.is_empty() { Ok(Definitions { standard: Some(standard), custom }) } else { Err(problems) }
}

/// The figures that a name stands for: itself, or a distribution's by strategy.
fn expand(name: &str, strategy: Option<&str>) -> Result<Vec<String>, String> {
    if Summary::knows(name) || name.strip_prefix(PREFIX).is_some_and(|name| !name.is_empty()) {
        return Ok(vec![name.to_owned()]);
    }
    if names::DISTRIBUTIONS.contains(&name) {
        if strategy == Some("custom") {
            return Err(format!(
                "found {name:?} without an aggregate, but aggStrategy is custom; accepted: {name}_avg, {name}_p99, ..."
            ));
        }
        return Ok(of_distribution(name, strategy.unwrap_or("percentile")));
    }
    let known = known();
    let hint = nearest(name, known.iter().map(String::as_str))
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_default();
    Err(format!(
        "found {name:?}, which is no figure{hint}; accepted: {}, and {} with _avg, _min, _max, _std or a percentile such as _p99 behind it",
        counts().join(", "),
        names::DISTRIBUTIONS.join(", ")
    ))
}

fn of_distribution(name: &str, strategy: &str) -> Vec<String> {
    match strategy {
        "average" => vec![format!("{name}_avg")],
        "max" => vec![format!("{name}_max")],
        _ => PERCENTILES.iter().map(|p| format!("{name}_{p}")).collect(),
    }
}

fn by_strategy(strategy: &str) -> Vec<String> {
    let distributions = names::DISTRIBUTIONS.iter().flat_map(|name| of_distribution(name, strategy));
    counts().into_iter().map(str::to_owned).chain(distributions).collect()
}

/// Counts and rates, as `metricDefinitions` names them.
fn counts() -> Vec<&'static str> {
    const ALL: [&str; 18] = [
        "accuracy",
        "qps",
        "error_rate",
        "requests",
        "succeeded",
        "failed",
        "cancelled",
        "not_sent",
        "warmup_requests",
        "duration_seconds",
        "input_tokens",
        "output_tokens",
        "input_token_rate",
        "output_token_rate",
        "total_token_rate",
        "scored",
        "goodput",
        "goodput_ratio",
    ];
    ALL.into_iter().filter(|name| Summary::knows(name)).collect()
}

fn known() -> Vec<String> {
    let figures = names::DISTRIBUTIONS
        .iter()
        .flat_map(|name| names::AGGREGATES.iter().map(move |aggregate| format!("{name}_{aggregate}")));
    counts().into_iter().map(str::to_owned).chain(figures).collect()
}

impl Custom {
    fn read(object: &serde_json::Map<String, Value>, reserved: &[&str]) -> Result<Self, (String, String)> {
        if let Some(unknown) =
            object.keys().find(|key| !["name", "field", "aggregate", "filter"].contains(&key.as_str()))
        {
            return Err((format!(".{unknown}"), "is not known here; accepted: name, field, aggregate, filter".into()));
        }
        let text = |key: &str| match object.get(key).and_then(Value::as_str).map(str::trim) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err((format!(".{key}"), "is missing; accepted: a text".to_owned())),
        };
        let name = text("name")?;
        super::database::check_name(&name).map_err(|error| (".name".to_owned(), error))?;
        if reserved.iter().any(|taken| taken.eq_ignore_ascii_case(&name)) {
            return Err((
                ".name".into(),
                format!("found {name:?}, which is a column of its own; accepted: another name"),
            ));
        }
        let field = text("field")?;
        if !FIELDS.contains(&field.as_str()) && field.strip_prefix("tags.").is_none_or(str::is_empty) {
            let hint = nearest(&field, FIELDS).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            return Err((
                ".field".into(),
                format!("found {field:?}{hint}; accepted: {}, tags.<name>", FIELDS.join(", ")),
            ));
        }
        let aggregate = Aggregate::read(&text("aggregate")?).map_err(|error| (".aggregate".to_owned(), error))?;
        let mut filter = BTreeMap::new();
        match object.get("filter") {
            None | Some(Value::Null) => {}
            Some(Value::Object(wanted)) => {
                for (key, value) in wanted {
                    if !FILTERS.contains(&key.as_str()) && !key.starts_with("tags.") {
                        return Err((
                            format!(".filter.{key}"),
                            format!("is not known here; accepted: {}, tags.<name>", FILTERS.join(", ")),
                        ));
                    }
                    filter.insert(key.clone(), plain(value));
                }
            }
            Some(_) => {
                return Err((".filter".into(), "found no object; accepted: an object such as {\"ok\":true}".into()));
            }
        }
        Ok(Self { name, field, aggregate, filter })
    }
}

impl Aggregate {
    fn read(text: &str) -> Result<Self, String> {
        Ok(match text {
            "avg" | "mean" => Self::Avg,
            "min" => Self::Min,
            "max" => Self::Max,
            "std" => Self::Std,
            "sum" => Self::Sum,
            "count" => Self::Count,
            other => {
                let percentile =
                    other.strip_prefix('p').and_then(|p| p.parse::<f64>().ok()).filter(|p| (0.0..=100.0).contains(p));
                Self::Percentile(percentile.ok_or_else(|| {
                    format!("found {other:?}; accepted: avg, min, max, std, sum, count, or a percentile such as p99")
                })?)
            }
        })
    }
}

/// A custom figure while records come in.
#[derive(Debug)]
pub(super) struct Tally {
    definition: Custom,
    values: Distribution,
    sum: f64,
}

impl Tally {
    pub(super) fn new(definition: Custom) -> Self {
        Self { definition, values: Distribution::default(), sum: 0.0 }
    }

    /// Adds what the record says of the field, if it passes the filter.
    pub(super) fn add(&mut self, record: &Record) {
        if !self.definition.filter.iter().all(|(key, wanted)| property(record, key).as_deref() == Some(wanted)) {
            return;
        }
        if self.definition.field == "itl_ms" {
            record.itl_us.iter().for_each(|us| self.put(*us as f64 / 1e3));
        } else if let Some(value) = number(record, &self.definition.field) {
            self.put(value);
        }
    }

    fn put(&mut self, value: f64) {
        if value.is_finite() && value >= 0.0 {
            self.sum += value;
            // The distribution counts millionths and answers in units, which is just what its nanoseconds are to milliseconds.
            self.values.add_ns((value * SCALE).round() as u64);
        }
    }

    /// Name and value; no value where nothing was added.
    pub(super) fn finish(self) -> (String, Option<f64>) {
        let values = &self.values;
        let some = values.count() > 0;
        let value = match self.definition.aggregate {
            Aggregate::Avg => some.then(|| self.sum / values.count() as f64),
            Aggregate::Min => values.min_ms(),
            Aggregate::Max => values.max_ms(),
            Aggregate::Std => values.std_ms(),
            Aggregate::Sum => Some(self.sum),
            Aggregate::Count => Some(values.count() as f64),
            Aggregate::Percentile(p) => values.percentile_ms(p),
        };
        (self.definition.name, value)
    }
}

fn number(record: &Record, field: &str) -> Option<f64> {
    let ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
    let count = |n: Option<u64>| n.map(|n| n as f64);
    match field {
        "ttft_ms" => ms(record.ttft_us()),
        "tpot_ms" => record.tpot_ns().map(|ns| ns as f64 / 1e6),
        "e2el_ms" | "latency_ms" => ms(record.e2el_us()),
        "queue_ms" => ms(record.queue_us()),
        "prompt_tokens" => count(record.prompt_tokens),
        "completion_tokens" => count(record.completion_tokens),
        "events" => Some(record.events as f64),
        "http_status" => record.http_status.map(f64::from),
        "score" => record.score.as_ref().map(|score| score.value),
        tag => {
            let value = record.tags.get(tag.strip_prefix("tags.")?)?;
            value.as_f64().or_else(|| value.as_str()?.parse().ok())
        }
    }
}

fn property(record: &Record, key: &str) -> Option<String> {
    match key {
        "ok" => Some(record.ok.to_string()),
        "phase" => Some(record.phase.as_str().to_owned()),
        "scenario" => Some(record.scenario.clone()),
        "item" => Some(record.item.clone()),
        "error_class" => record.error_class.map(|class| class.as_str().to_owned()),
        "finish_reason" => record.finish_reason.clone(),
        tag => record.tags.get(tag.strip_prefix("tags.")?).map(plain),
    }
}

/// A tag or filter value as text.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn standard(list: Value, strategy: Option<&str>) -> Result<Vec<String>, Vec<(String, String)>> {
        let list = list.as_array().cloned().expect("a list");
        read(Some(&list), strategy, &["env"]).map(|found| found.standard.unwrap_or_default())
    }

    #[test]
    fn names_are_figures_and_a_bare_distribution_follows_the_strategy() {
        assert_eq!(
            standard(json!(["accuracy", "latency_p99", "qps", "qps"]), None).expect("known"),
            ["accuracy", "latency_p99", "qps"]
        );
        assert_eq!(standard(json!(["ttft"]), None).expect("known"), ["ttft_p50", "ttft_p90", "ttft_p95", "ttft_p99"]);
        assert_eq!(standard(json!(["ttft"]), Some("average")).expect("known"), ["ttft_avg"]);
        assert_eq!(standard(json!(["ttft"]), Some("max")).expect("known"), ["ttft_max"]);
        assert!(standard(json!(["ttft"]), Some("custom")).expect_err("no aggregate")[0].1.contains("ttft_p99"));
        assert_eq!(read(None, None, &[]).expect("all"), Definitions::default());
        assert!(read(None, Some("custom"), &[]).expect_err("nothing")[0].1.contains("aggStrategy is custom"));
        let average = read(None, Some("average"), &[]).expect("all").standard.expect("named");
        assert!(
            average.contains(&"qps".to_owned())
                && average.contains(&"ttft_avg".to_owned())
                && !average.iter().any(|n| n == "ttft_p99")
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place_and_what_is_near() {
        let problems = standard(json!(["latencyp99", 7, {"name": "x", "field": "ttft", "aggregate": "avg"}, {"name": "env", "field": "score", "aggregate": "avg"}]), None)
            .expect_err("mistakes");
        assert_eq!(problems[0].0, "[0]");
        assert!(problems[0].1.contains("did you mean \"latency_p99\""), "{problems:?}");
        assert_eq!(problems[1].0, "[1]");
        assert!(problems[2].0 == "[2].field" && problems[2].1.contains("did you mean \"ttft_ms\""), "{problems:?}");
        assert_eq!(problems[3].0, "[3].name");
        let bad = |one: Value| standard(json!([one]), None).expect_err("bad")[0].0.clone();
        assert_eq!(bad(json!({"name": "x", "field": "score", "aggregate": "p101"})), "[0].aggregate");
        assert_eq!(
            bad(json!({"name": "x", "field": "score", "aggregate": "avg", "filter": {"okay": true}})),
            "[0].filter.okay"
        );
        assert_eq!(bad(json!({"name": "x", "field": "score", "aggregate": "avg", "wher": 1})), "[0].wher");
    }

    #[test]
    fn a_custom_figure_adds_up_what_passes_its_filter() {
        let object = json!({"name": "tokens_of_a", "field": "completion_tokens", "aggregate": "p50", "filter": {"ok": true, "tags.bizLine": "a"}});
        let mut tally = Tally::new(Custom::read(object.as_object().expect("object"), &[]).expect("good"));
        for (tokens, ok, line) in [(10, true, "a"), (20, true, "a"), (99, false, "a"), (98, true, "b")] {
            let line = json!({"id": "x", "ok": ok, "completion_tokens": tokens, "tags": {"bizLine": line}}).to_string();
            tally.add(&Record::parse(&line).expect("record"));
        }
        assert_eq!(tally.finish(), ("tokens_of_a".to_owned(), Some(15.0)));
    }
}
