//! `READY_TOKEN`: a service is ready when it has generated a first token.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use testrig_host::health::Probe;
use testrig_loadgen::{Arrival, LoadPlan, RecordSink, Scenario};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is asked: the same API, model and key as the load's.
#[derive(Clone, Debug)]
pub(in crate::run_llm_test) struct TokenRequest {
    pub(in crate::run_llm_test) scenario: Scenario,
    pub(in crate::run_llm_test) model: String,
    pub(in crate::run_llm_test) api_key: Option<String>,
}

impl TokenRequest {
    /// Asks for one token (or vector). Passed when a whole answer with one came within `limit`.
    pub(super) async fn ask(&self, base_url: &str, limit: Duration) -> Probe {
        let begin = Instant::now();
        let mut plan = LoadPlan::new(base_url, &self.model);
        plan.api_key = self.api_key.clone();
        plan.scenario = self.scenario;
        plan.arrival = Arrival::Closed { concurrency: 1 };
        plan.max_requests = Some(1);
        plan.max_tokens = Some(1);
        plan.run = limit;
        plan.drain = Duration::ZERO;
        plan.request_timeout = limit;
        plan.id_prefix = "health-".into();
        let seen = Arc::new(Mutex::new(None));
        let note = Arc::clone(&seen);
        let sink = RecordSink::none().observe(move |record| *note.lock() = Some(record.clone()));
        let cancel = CancellationToken::new();
        // Whoever drops the check drops the request with it.
        let _cancelled = cancel.clone().drop_guard();
        let asked = tokio::time::timeout(limit, testrig_loadgen::run(plan, sink, |_| {}, cancel)).await;
        let took = begin.elapsed();
        let what = format!("{} at {base_url}", self.scenario);
        let unit = if self.scenario.generates() { "token" } else { "vector" };
        let (healthy, detail) = match asked {
            Err(_) => (false, format!("{what}: no {unit} within {} ms", limit.as_millis())),
            Ok(Err(error)) => (false, format!("{what}: {error}")),
            Ok(Ok(_)) => match seen.lock().take() {
                Some(record) if record.ok => (true, format!("{what}: a first {unit} came")),
                Some(record) => {
                    let why = record.error.unwrap_or_else(|| "the answer was not whole".to_owned());
                    (false, format!("{what}: {why}"))
                }
                None => (false, format!("{what}: no {unit} within {} ms", limit.as_millis())),
            },
        };
        Probe { healthy, detail, took }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testrig_loadgen::stub::{FaultKind, Faults, StubOptions, serve};

    const LIMIT: Duration = Duration::from_secs(20);

    async fn stub(options: StubOptions) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve(listener, options, CancellationToken::new()));
        format!("http://{address}")
    }

    fn failing(kind: FaultKind) -> StubOptions {
        StubOptions { faults: Faults::new(vec![(kind, 1.0)]).expect("a share"), ..StubOptions::default() }
    }

    fn request(scenario: Scenario) -> TokenRequest {
        TokenRequest { scenario, model: "m".into(), api_key: None }
    }

    #[tokio::test]
    async fn a_first_token_or_vector_is_ready_by_every_api() {
        let url = stub(StubOptions::default()).await;
        for scenario in [Scenario::ChatCompletion, Scenario::Completion, Scenario::Embedding] {
            let probe = request(scenario).ask(&url, LIMIT).await;
            assert!(probe.healthy && probe.detail.contains("a first "), "{probe:?}");
        }
    }

    #[tokio::test]
    async fn a_service_that_answers_health_and_generates_nothing_is_not_ready() {
        for (kind, words) in [(FaultKind::Http500, "500"), (FaultKind::Empty, ""), (FaultKind::InBandError, "")] {
            let url = stub(failing(kind)).await;
            let health = reqwest::Client::builder().no_proxy().build().expect("client").get(format!("{url}/health"));
            assert!(health.send().await.expect("it answers").status().is_success());
            let probe = request(Scenario::ChatCompletion).ask(&url, LIMIT).await;
            assert!(!probe.healthy && probe.detail.contains(words), "{kind:?}: {probe:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_stalls_fails_at_the_limit_and_a_missing_key_is_told() {
        let url = stub(failing(FaultKind::Stall)).await;
        let probe = request(Scenario::ChatCompletion).ask(&url, Duration::from_millis(300)).await;
        assert!(!probe.healthy && probe.took < LIMIT, "{probe:?}");
        let url = stub(StubOptions { api_key: Some("k".into()), ..StubOptions::default() }).await;
        let probe = request(Scenario::ChatCompletion).ask(&url, LIMIT).await;
        assert!(!probe.healthy && probe.detail.contains("401"), "{probe:?}");
        let keyed = TokenRequest { api_key: Some("k".into()), ..request(Scenario::ChatCompletion) };
        assert!(keyed.ask(&url, LIMIT).await.healthy);
    }
}
