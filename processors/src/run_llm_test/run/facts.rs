//! What a test script or command is told of its run: as environment, as `--flag`s and as placeholders.

use testrig_loadgen::Arrival;

use super::super::plan::Plan;

/// One fact: its flag without the dashes, its variable, its placeholder, its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    flag: &'static str,
    variable: &'static str,
    placeholder: &'static str,
    value: String,
}

/// Where a test runs and what it sees from there.
pub(super) struct Place {
    pub(super) base_url: String,
    pub(super) log_dir: String,
    pub(super) instance_id: i64,
    pub(super) arrival: Arrival,
}

impl Place {
    fn file(&self, name: &std::path::Path) -> String {
        format!("{}/{}", self.log_dir, name.file_name().unwrap_or_default().to_string_lossy())
    }
}

/// Every fact that has a value.
pub(super) fn of(plan: &Plan, dir: &super::super::dir::RunDir, place: &Place) -> Vec<Fact> {
    let (who, load) = (&plan.who, &plan.load);
    let url = url::Url::parse(&place.base_url).ok();
    let host = url.as_ref().and_then(url::Url::host_str).map(str::to_owned);
    let port = url.as_ref().and_then(url::Url::port_or_known_default).map(|port| port.to_string());
    let (qps, concurrency) = match place.arrival {
        Arrival::Closed { concurrency } => (None, Some(concurrency)),
        Arrival::Constant { qps, concurrency } | Arrival::Poisson { qps, concurrency, .. } => (Some(qps), concurrency),
    };
    let model_path = plan.env_vars.get("MODEL_PATH").cloned().unwrap_or_else(|| who.model_key.clone());
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let number = |value: Option<f64>| value.map(|n| n.to_string());
    let all: [(&'static str, &'static str, &'static str, Option<String>); 27] = [
        ("model-name", "MODEL_NAME", "modelName", text(&load.model)),
        ("model-path", "MODEL_PATH", "modelPath", Some(model_path)),
        ("model-key", "MODEL_KEY", "modelKey", text(&who.model_key)),
        ("model-version", "MODEL_VERSION", "modelVersion", who.model_version.clone()),
        ("base-url", "BASE_URL", "baseUrl", text(&place.base_url)),
        ("host", "SERVICE_HOST", "host", host),
        ("port", "SERVICE_PORT", "port", port),
        ("scenario", "SCENARIO", "scenario", text(&load.scenario)),
        ("dataset-id", "DATASET_ID", "datasetId", text(&load.dataset_id)),
        ("dataset-path", "DATASET_PATH", "datasetPath", load.dataset_path.as_ref().map(|p| p.display().to_string())),
        ("qps", "QPS", "qps", number(qps)),
        ("concurrency", "CONCURRENCY", "concurrency", concurrency.map(|n| n.to_string())),
        ("arrival", "ARRIVAL", "arrival", Some(place.arrival.name().to_owned())),
        ("warmup-seconds", "WARMUP_SECONDS", "warmupSeconds", number(Some(load.warmup.as_secs_f64()))),
        ("run-seconds", "RUN_SECONDS", "runSeconds", number(Some(load.run.as_secs_f64()))),
        ("max-tokens", "MAX_TOKENS", "maxTokens", load.max_tokens.map(|n| n.to_string())),
        ("temperature", "TEMPERATURE", "temperature", number(load.temperature)),
        ("slo-ttft-ms", "SLO_TTFT_MS", "sloTtftMs", number(load.slo.ttft_ms)),
        ("slo-tpot-ms", "SLO_TPOT_MS", "sloTpotMs", number(load.slo.tpot_ms)),
        ("slo-e2el-ms", "SLO_E2EL_MS", "sloE2elMs", number(load.slo.e2el_ms)),
        ("env", "TEST_ENV", "env", text(&who.env)),
        ("log-dir", "LOG_DIR", "logDir", text(&place.log_dir)),
        ("metrics-json", "METRICS_JSON", "metricsJson", Some(place.file(&dir.reported))),
        ("records-file", "RECORDS_FILE", "recordsFile", Some(place.file(&dir.metrics))),
        ("platform-task-id", "PLATFORM_TASK_ID", "platformTaskId", text(&who.platform_task_id)),
        ("instance-id", "INSTANCE_ID", "instanceId", Some(place.instance_id.to_string())),
        ("trace-id", "TRACE_ID", "traceId", who.trace_id.clone()),
    ];
    all.into_iter()
        .filter_map(|(flag, variable, placeholder, value)| Some(Fact { flag, variable, placeholder, value: value? }))
        .collect()
}

/// As environment.
pub(super) fn environment(facts: &[Fact]) -> Vec<(String, String)> {
    facts.iter().map(|fact| (fact.variable.to_owned(), fact.value.clone())).collect()
}

/// As placeholders of `test.args` and `test.command`.
pub(super) fn placeholders(facts: &[Fact]) -> Vec<(&'static str, String)> {
    facts.iter().map(|fact| (fact.placeholder, fact.value.clone())).collect()
}

/// The flags that a script's text names, each with its value: a script that reads its arguments strictly ends at the first
/// one that it does not know, so it gets no other.
pub(super) fn flags(facts: &[Fact], text: &str) -> Vec<String> {
    let named = |fact: &&Fact| {
        let dashes = format!("--{}", fact.flag);
        let underscores = format!("--{}", fact.flag.replace('-', "_"));
        [dashes, underscores].into_iter().find(|flag| mentions(text, flag))
    };
    facts.iter().filter_map(|fact| Some([named(&fact)?, fact.value.clone()])).flatten().collect()
}

/// Whether a text holds a flag as a word of its own.
fn mentions(text: &str, flag: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(flag).any(|(at, _)| !text[..at].ends_with(part) && !text[at + flag.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Vec<Fact> {
        let fact = |flag, variable, placeholder, value: &str| Fact { flag, variable, placeholder, value: value.into() };
        vec![
            fact("model-name", "MODEL_NAME", "modelName", "qwen"),
            fact("port", "SERVICE_PORT", "port", "8000"),
            fact("env", "TEST_ENV", "env", "dev"),
        ]
    }

    #[test]
    fn a_script_gets_the_flags_that_its_text_names_and_no_other() {
        let argparse = "p.add_argument(\"--model-name\", required=True)\np.add_argument('--port', type=int)";
        assert_eq!(flags(&facts(), argparse), ["--model-name", "qwen", "--port", "8000"]);
        assert_eq!(flags(&facts(), "add_argument('--model_name')"), ["--model_name", "qwen"]);
        assert_eq!(flags(&facts(), "--portable --environment ---port x--env"), [] as [&str; 0]);
        assert_eq!(flags(&facts(), "exec tool \"$@\""), [] as [&str; 0]);
    }

    #[test]
    fn every_fact_is_a_variable_and_a_placeholder() {
        assert_eq!(environment(&facts())[1], ("SERVICE_PORT".to_owned(), "8000".to_owned()));
        assert_eq!(placeholders(&facts())[0], ("modelName", "qwen".to_owned()));
    }
}
