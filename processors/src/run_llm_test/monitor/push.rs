//! Samples and results to a Prometheus Pushgateway.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::Value;

use crate::params::mask;

/// One push. A gateway that does not answer must not hold a run up.
const LIMIT: Duration = Duration::from_secs(5);
/// Waits before the second and third try of the result.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// What is read of a refusal.
const ANSWER: usize = 300;

/// The gateway of a run.
#[derive(Debug)]
pub(in crate::run_llm_test) struct Gateway {
    http: reqwest::Client,
    /// With the grouping key.
    url: String,
    /// Labels of every figure.
    labels: String,
}

impl Gateway {
    /// `grouping` identifies the run at the gateway, `labels` stand on each figure.
    pub(in crate::run_llm_test) fn new(
        http: reqwest::Client,
        endpoint: &str,
        grouping: &[(&str, &str)],
        labels: &BTreeMap<String, String>,
    ) -> Self {
        let taken: Vec<&str> = grouping.iter().map(|(name, _)| *name).chain(["job", "le", "quantile"]).collect();
        let mut said: BTreeMap<String, &str> = BTreeMap::new();
        for (name, value) in labels {
            let name = plain(name);
            if !taken.contains(&name.as_str()) && !value.is_empty() {
                said.insert(name, value);
            }
        }
        let words: Vec<String> = said.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        Self { http, url: url_of(endpoint, grouping), labels: words.join(",") }
    }

    /// Sends one sample; what the run sent before of other names stays.
    pub(super) async fn push_sample(&self, sample: &Value) -> Result<(), String> {
        self.push(self.text_of_sample(sample)).await
    }

    /// Sends the figures of the result, trying three times.
    pub(in crate::run_llm_test) async fn push_result(
        &self,
        metrics: Option<&Value>,
        success: bool,
    ) -> Result<(), String> {
        let text = self.text_of_result(metrics, success);
        for wait in WAITS {
            if self.push(text.clone()).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(wait).await;
        }
        self.push(text).await.map_err(|error| format!("{error} ({} tries)", WAITS.len() + 1))
    }

    async fn push(&self, text: String) -> Result<(), String> {
        let request = self.http.post(&self.url).timeout(LIMIT).header("Content-Type", "text/plain; version=0.0.4");
        let response = request.body(text).send().await.map_err(|error| {
            let why = if error.is_timeout() {
                "no answer in time".to_owned()
            } else {
                super::super::service::chain(&error.without_url())
            };
            format!("{}: {why}", mask::url(&self.url))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let said: String = response.text().await.unwrap_or_default().chars().take(ANSWER).collect();
        Err(format!("{}: the answer was HTTP {status}: {}", mask::url(&self.url), said.trim()))
    }

    fn text_of_sample(&self, sample: &Value) -> String {
        let mut out = Text::new(&self.labels);
        out.object("testrig_host", &sample["host"], "");
        if let Some(load) = sample["host"]["load"].as_array() {
            for (name, value) in ["load1", "load5", "load15"].into_iter().zip(load) {
                out.gauge(&format!("testrig_host_{name}"), "", value);
            }
        }
        out.object("testrig_disk", &sample["disk"], "");
        out.object("testrig_service", &sample["service"]["sample"], "");
        out.object("testrig_process", &sample["service"]["process"], "");
        for card in sample["accelerators"].as_array().into_iter().flatten() {
            out.object("testrig_accelerator", card, &format!("index=\"{}\"", card["index"]));
        }
        out.finish()
    }

    fn text_of_result(&self, metrics: Option<&Value>, success: bool) -> String {
        let mut out = Text::new(&self.labels);
        out.gauge("testrig_run_success", "", &Value::from(u8::from(success)));
        if let Some(metrics) = metrics {
            out.object("testrig_result", metrics, "");
        }
        for (class, count) in metrics.and_then(|metrics| metrics["failures"].as_object()).into_iter().flatten() {
            out.gauge("testrig_result_failures", &format!("class=\"{}\"", escaped(class)), count);
        }
        out.finish()
    }
}

/// Figures in the gateway's text format: those of one name stand together under their type.
struct Text {
    labels: String,
    lines: BTreeMap<String, String>,
}

impl Text {
    fn new(labels: &str) -> Self {
        Self { labels: labels.to_owned(), lines: BTreeMap::new() }
    }

    fn object(&mut self, prefix: &str, figures: &Value, more: &str) {
        for (name, value) in figures.as_object().into_iter().flatten().filter(|(name, _)| *name != "index") {
            self.gauge(&format!("{prefix}_{}", plain(name)), more, value);
        }
    }

    fn gauge(&mut self, name: &str, more: &str, value: &Value) {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => u8::from(*flag).to_string(),
            _ => return,
        };
        let labels: Vec<&str> = [self.labels.as_str(), more].into_iter().filter(|text| !text.is_empty()).collect();
        let lines = self.lines.entry(name.to_owned()).or_insert_with(|| format!("# TYPE {name} gauge\n"));
        let _ = writeln!(lines, "{name}{{{}}} {value}", labels.join(","));
    }

    fn finish(self) -> String {
        self.lines.into_values().collect()
    }
}

/// `{endpoint}/metrics/job/testrig/NAME/VALUE..`; an endpoint that names a job already is taken as it is.
fn url_of(endpoint: &str, grouping: &[(&str, &str)]) -> String {
    let mut url = endpoint.trim_end_matches('/').to_owned();
    if !url.contains("/metrics/job/") {
        url.push_str("/metrics/job/testrig");
    }
    for (name, value) in grouping.iter().filter(|(_, value)| !value.is_empty()) {
        let simple = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !value.starts_with('.');
        if simple {
            let _ = write!(url, "/{name}/{value}");
        } else {
            let _ = write!(url, "/{name}@base64/{}", base64url(value.as_bytes()));
        }
    }
    url
}

/// What a figure or label may be called.
fn plain(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_digit()) || plain.is_empty() { format!("_{plain}") } else { plain }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Base64 of RFC 4648 section 5 with padding, which the gateway takes for values with other characters.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_usize, |word, byte| word << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = if at <= chunk.len() { LETTERS[word >> (18 - 6 * at) & 63] } else { b'=' };
            out.push(char::from(letter));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway(endpoint: &str) -> Gateway {
        let labels =
            BTreeMap::from([("bizLine".into(), "a\"b".into()), ("job".into(), "x".into()), ("1-x".into(), "y".into())]);
        Gateway::new(reqwest::Client::new(), endpoint, &[("platform_task_id", "T/1"), ("instance_id", "42")], &labels)
    }

    #[test]
    fn the_job_is_appended_unless_the_address_names_one_and_odd_values_are_base64() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let group = "platform_task_id@base64/VC8x/instance_id/42";
        assert_eq!(
            gateway("http://g:9091/llm-tests/").url,
            format!("http://g:9091/llm-tests/metrics/job/testrig/{group}")
        );
        assert_eq!(gateway("http://g/metrics/job/own").url, format!("http://g/metrics/job/own/{group}"));
        for (text, coded) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("模型/1", "5qih5Z6LLzE=")] {
            assert_eq!(base64url(text.as_bytes()), coded);
        }
    }

    #[test]
    fn figures_stand_under_their_type_with_the_runs_labels() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gateway = gateway("http://g:9091");
        let sample = json!({"host": {"cpu_percent": 1.5, "load": [0.5, 1, 2]}, "accelerators": [{"index": 0, "power_w": 9}, {"index": 1, "power_w": null}]});
        let labels = "_1_x=\"y\",bizLine=\"a\\\"b\"";
        assert_eq!(
            gateway.text_of_sample(&sample),
            format!(
                "# TYPE testrig_accelerator_power_w gauge\ntestrig_accelerator_power_w{{{labels},index=\"0\"}} 9\n\
                 # TYPE testrig_host_cpu_percent gauge\ntestrig_host_cpu_percent{{{labels}}} 1.5\n\
                 # TYPE testrig_host_load1 gauge\ntestrig_host_load1{{{labels}}} 0.5\n\
                 # TYPE testrig_host_load15 gauge\ntestrig_host_load15{{{labels}}} 2\n\
                 # TYPE testrig_host_load5 gauge\ntestrig_host_load5{{{labels}}} 1\n"
            )
        );
        let result = gateway.text_of_result(Some(&json!({"ttft_p99.9": 7, "failures": {"timeout": 2}})), false);
        assert!(result.contains("testrig_run_success{") && result.contains("} 0\n"), "{result}");
        assert!(result.contains("testrig_result_ttft_p99_9{"), "{result}");
        assert!(result.contains(&format!("testrig_result_failures{{{labels},class=\"timeout\"}} 2")), "{result}");
    }
}
