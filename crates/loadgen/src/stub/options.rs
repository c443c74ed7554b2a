//! How the stand-in behaves.

use std::{path::PathBuf, time::Duration};

use super::fault::Faults;

/// Settings of the stand-in service.
#[derive(Debug, Clone)]
pub struct StubOptions {
    /// From the request to the first token. Default 50 ms.
    pub ttft: Duration,
    /// From one token event to the next. Default 10 ms.
    pub itl: Duration,
    /// Tokens of an answer, unless the request asks for fewer. Default 32.
    pub tokens: u32,
    /// Tokens in one event. Default 1.
    pub tokens_per_event: u32,
    /// Which requests go wrong, and how.
    pub faults: Faults,
    /// File that gets one JSON line a request; created or appended to.
    pub truth: Option<PathBuf>,
    /// Chooses the requests that go wrong: the same seed chooses the same ones.
    pub seed: u64,
    /// Until then every request is answered with 503, as by a service that loads its model.
    pub ready_after: Duration,
    /// End by itself after so many answered requests, as a service that dies.
    pub exit_after_requests: Option<u64>,
    /// Model name in `/v1/models` and in answers.
    pub model: String,
    /// Key that requests must bring.
    pub api_key: Option<String>,
}

impl Default for StubOptions {
    fn default() -> Self {
        Self {
            ttft: Duration::from_millis(50),
            itl: Duration::from_millis(10),
            tokens: 32,
            tokens_per_event: 1,
            faults: Faults::default(),
            truth: None,
            seed: 0,
            ready_after: Duration::ZERO,
            exit_after_requests: None,
            model: "stub-model".to_owned(),
            api_key: None,
        }
    }
}
