//! What a load run should do, checked before anything is sent.

use std::{fmt, str::FromStr, time::Duration};

use serde_json::{Map, Value};

use crate::{dataset::Dataset, score::Scorer};

/// Slots of an open loop for which no cap is given: bounds memory and file descriptors, not the load.
pub const DEFAULT_OPEN_LOOP_CAP: usize = 4096;

/// Most slots that a plan may ask for.
pub const MAX_CONCURRENCY: usize = 65_536;

/// A load run. [`LoadPlan::new`] sets the defaults, the fields are public.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Address of the service; `/v1` is added unless the path already ends with it.
    pub base_url: String,
    /// Model name that is sent.
    pub model: String,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<String>,
    /// Which API is called.
    pub scenario: Scenario,
    /// When requests are sent.
    pub arrival: Arrival,
    /// Requests that are due in this time are not measured. Default 0.
    pub warmup: Duration,
    /// How long requests are sent after the warm-up. Default 60 s.
    pub run: Duration,
    /// End after so many measured requests, even if `run` has not passed.
    pub max_requests: Option<u64>,
    /// How long requests that are in flight at the end may take before they are cancelled. Default 120 s.
    pub drain: Duration,
    /// Time limit of one request from sending to the end. Default 600 s.
    pub request_timeout: Duration,
    /// Output token limit for items that bring none.
    pub max_tokens: Option<u32>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Whether answers are streamed. Without it there is no TTFT, TPOT and ITL. Default true.
    pub streaming: bool,
    /// What is asked, in order, again from the start at the end.
    pub dataset: Dataset,
    /// How answers are judged.
    pub scorer: Scorer,
    /// Labels for every record.
    pub tags: Map<String, Value>,
    /// What counts as good for goodput.
    pub slo: Slo,
    /// Further fields of the request body; they win over those that the plan makes.
    pub extra: Map<String, Value>,
    /// Whether a connection carries several requests. `None` = only with TLS, where a connection is dear. Servers close
    /// kept connections without a word, and a request that meets such an end fails though the service is well: with
    /// llama.cpp's server one in ten or twenty did.
    pub keep_alive: Option<bool>,
    /// Further request headers.
    pub headers: Vec<(String, String)>,
    /// Put before the number in every request id, so that several runs stay apart. Default `req-`.
    pub id_prefix: String,
}

impl LoadPlan {
    /// A plan with defaults: streaming chat completion, one request at a time for 60 s, built-in prompts.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            scenario: Scenario::ChatCompletion,
            arrival: Arrival::Closed { concurrency: 1 },
            warmup: Duration::ZERO,
            run: Duration::from_secs(60),
            max_requests: None,
            drain: Duration::from_secs(120),
            request_timeout: Duration::from_secs(600),
            max_tokens: None,
            temperature: None,
            streaming: true,
            dataset: Dataset::builtin(),
            scorer: Scorer::None,
            tags: Map::new(),
            slo: Slo::default(),
            extra: Map::new(),
            keep_alive: None,
            headers: Vec::new(),
            id_prefix: "req-".to_owned(),
        }
    }

    /// Looks for everything that would make the run meaningless.
    ///
    /// # Errors
    /// The first mistake found: what was given and what is accepted.
    pub fn check(&self) -> Result<(), PlanError> {
        let refuse = |field, problem: String| Err(PlanError { field, problem });
        match reqwest::Url::parse(&self.base_url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
            Ok(url) => {
                return refuse("url", format!("`{url}` is not an http or https address with a host"));
            }
            Err(error) => {
                return refuse(
                    "url",
                    format!("`{}` cannot be read: {error}; accepted is e.g. http://127.0.0.1:8000", self.base_url),
                );
            }
        }
        if self.model.trim().is_empty() {
            return refuse("model", "is empty; accepted is the name that the service lists at /v1/models".to_owned());
        }
        if self.run.is_zero() {
            return refuse("runSeconds", "is 0; accepted is more than 0".to_owned());
        }
        if self.max_requests == Some(0) {
            return refuse("max_requests", "is 0; accepted is 1 or more, or nothing for no limit".to_owned());
        }
        if self.request_timeout.is_zero() {
            return refuse("request_timeout", "is 0; accepted is more than 0".to_owned());
        }
        if self.dataset.is_empty() {
            return refuse("dataset", format!("`{}` has no items", self.dataset.name()));
        }
        if let Some(temperature) = self.temperature
            && !(temperature.is_finite() && temperature >= 0.0)
        {
            return refuse("temperature", format!("is {temperature}; accepted is 0 or more"));
        }
        self.arrival.check()
    }
}

/// A plan that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct PlanError {
    /// Which part of the plan.
    pub field: &'static str,
    /// What is wrong with it and what is accepted.
    pub problem: String,
}

/// Which API is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scenario {
    /// `POST /v1/chat/completions`
    ChatCompletion,
    /// `POST /v1/completions`
    Completion,
    /// `POST /v1/embeddings`
    Embedding,
}

impl Scenario {
    /// All names, as parameters and file names use them.
    pub const NAMES: [&'static str; 3] = ["chat_completion", "completion", "embedding"];

    /// The name in parameters, records and file names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletion => Self::NAMES[0],
            Self::Completion => Self::NAMES[1],
            Self::Embedding => Self::NAMES[2],
        }
    }

    /// Path below `/v1`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletion => "chat/completions",
            Self::Completion => "completions",
            Self::Embedding => "embeddings",
        }
    }

    /// Whether the answer is text, which can be streamed.
    #[must_use]
    pub fn generates(self) -> bool {
        !matches!(self, Self::Embedding)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "chat_completion" => Ok(Self::ChatCompletion),
            "completion" => Ok(Self::Completion),
            "embedding" => Ok(Self::Embedding),
            other => Err(format!("`{other}` is no built-in scenario; accepted are {}", Self::NAMES.join(", "))),
        }
    }
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrival {
    /// So many workers, each of which sends its next request when the last one has ended.
    Closed {
        /// Workers.
        concurrency: usize,
    },
    /// Open loop, evenly spaced.
    Constant {
        /// Requests per second.
        qps: f64,
        /// Most requests in flight; the next one waits, which counts as its delay.
        concurrency: Option<usize>,
    },
    /// Open loop, exponentially distributed gaps.
    Poisson {
        /// Mean requests per second.
        qps: f64,
        /// Most requests in flight; the next one waits, which counts as its delay.
        concurrency: Option<usize>,
        /// The same seed gives the same times.
        seed: u64,
    },
}

/// Names of the arrivals, as the parameter `test.arrival` has them.
pub const ARRIVAL_NAMES: [&str; 3] = ["constant", "poisson", "closed"];

impl Arrival {
    /// Chooses from the parameters `qps`, `concurrency` and `test.arrival`: `qps` means an open loop with constant gaps unless
    /// `name` says otherwise, and `concurrency` is then its cap; without `qps` the loop is closed.
    ///
    /// # Errors
    /// When `name` is unknown or does not go with `qps`.
    pub fn choose(
        name: Option<&str>,
        qps: Option<f64>,
        concurrency: Option<usize>,
        seed: u64,
    ) -> Result<Self, PlanError> {
        let refuse = |problem: String| Err(PlanError { field: "arrival", problem });
        match (name, qps) {
            (None | Some("constant"), Some(qps)) => Ok(Self::Constant { qps, concurrency }),
            (Some("poisson"), Some(qps)) => Ok(Self::Poisson { qps, concurrency, seed }),
            (None, None) => Ok(Self::Closed { concurrency: concurrency.unwrap_or(1) }),
            (Some("closed"), None) => Ok(Self::Closed { concurrency: concurrency.unwrap_or(1) }),
            (Some("closed"), Some(qps)) => refuse(format!(
                "is `closed`, but qps is {qps}: a closed loop has no rate; leave qps out or choose constant or poisson"
            )),
            (Some(name @ ("constant" | "poisson")), None) => refuse(format!("is `{name}`, which needs qps")),
            (Some(other), _) => refuse(format!("is `{other}`; accepted are {}", ARRIVAL_NAMES.join(", "))),
        }
    }

    /// The name as in the parameter `test.arrival`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant { .. } => "constant",
            Self::Poisson { .. } => "poisson",
            Self::Closed { .. } => "closed",
        }
    }

    /// Most requests in flight at once.
    #[must_use]
    pub fn slots(&self) -> usize {
        match *self {
            Self::Closed { concurrency } => concurrency,
            Self::Constant { concurrency, .. } | Self::Poisson { concurrency, .. } => {
                concurrency.unwrap_or(DEFAULT_OPEN_LOOP_CAP)
            }
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        let slots = self.slots();
        if !(1..=MAX_CONCURRENCY).contains(&slots) {
            return Err(PlanError {
                field: "concurrency",
                problem: format!("is {slots}; accepted is 1 to {MAX_CONCURRENCY}"),
            });
        }
        match *self {
            Self::Constant { qps, .. } | Self::Poisson { qps, .. } if !(qps.is_finite() && qps > 0.0 && qps <= 1e6) => {
                Err(PlanError {
                    field: "qps",
                    problem: format!("is {qps}; accepted is more than 0 and at most 1000000"),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Service level objectives. A request is good when it succeeded and met all that are given.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Slo {
    /// Longest time to the first token in milliseconds.
    pub ttft_ms: Option<f64>,
    /// Longest mean time per output token after the first in milliseconds.
    pub tpot_ms: Option<f64>,
    /// Longest time from sending to the end in milliseconds.
    pub e2el_ms: Option<f64>,
}

impl Slo {
    /// Whether any is given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.ttft_ms.is_some() || self.tpot_ms.is_some() || self.e2el_ms.is_some()
    }
}
