//! What is known of one request: the line format of `metrics-{scenario}.log`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::failure::ErrorClass;

/// Version of the record format, the field `v`.
pub const RECORD_VERSION: u32 = 1;

/// One request, written when it has ended. One JSON object a line.
///
/// Fields that end in `_us` are microseconds on a monotonic clock since the start of the run, and absent where the event
/// did not happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this format.
    #[serde(default = "record_version")]
    pub v: u32,
    /// Id of the request, also sent as `X-Request-Id`.
    pub id: String,
    /// What the request was made for.
    #[serde(default)]
    pub phase: Phase,
    /// Scenario of the run, e.g. `chat_completion`.
    #[serde(default)]
    pub scenario: String,
    /// Id of the dataset item that was asked.
    #[serde(default)]
    pub item: String,
    /// Wall clock of `sent_us` (of `intended_us` where nothing was sent), milliseconds since 1970. Taken from the run's start
    /// and the monotonic clock, so that a stepped wall clock does not move it within a run.
    #[serde(default)]
    pub start_unix_ms: i64,
    /// When the request was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended_us: Option<u64>,
    /// Just before the request was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_us: Option<u64>,
    /// The head of the response had arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// First event with content, reasoning or a tool call. Only streams have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_us: Option<u64>,
    /// Last such event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_token_us: Option<u64>,
    /// The response was complete, or the failure was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_us: Option<u64>,
    /// Whether a complete answer with at least one token (or one vector) arrived.
    pub ok: bool,
    /// Class of the failure.
    #[serde(default)]
    pub error_class: Option<ErrorClass>,
    /// Text of the failure.
    #[serde(default)]
    pub error: Option<String>,
    /// Status of the response.
    #[serde(default)]
    pub http_status: Option<u16>,
    /// The service's own word for why it stopped.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Input tokens by the service's `usage`.
    #[serde(default)]
    pub prompt_tokens: Option<u64>,
    /// Output tokens; `token_source` says who counted.
    #[serde(default)]
    pub completion_tokens: Option<u64>,
    /// Who counted `completion_tokens`.
    #[serde(default)]
    pub token_source: Option<TokenSource>,
    /// Token events in the stream. A service may send several tokens in one.
    #[serde(default)]
    pub events: u64,
    /// Times between neighbouring token events; one less than `events`.
    #[serde(default)]
    pub itl_us: Vec<u64>,
    /// How good the answer was, where a scorer could say.
    #[serde(default)]
    pub score: Option<Score>,
    /// Labels of the run.
    #[serde(default)]
    pub tags: Map<String, Value>,
}

fn record_version() -> u32 {
    RECORD_VERSION
}

impl Record {
    /// Reads one line of a `metrics-{scenario}.log`.
    ///
    /// # Errors
    /// When the line is no JSON object with at least `id` and `ok`, or a known field has another type.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// Duration from sending to the end in microseconds.
    #[must_use]
    pub fn e2el_us(&self) -> Option<u64> {
        Some(self.end_us?.saturating_sub(self.sent_us?))
    }

    /// Duration from sending to the first token in microseconds.
    #[must_use]
    pub fn ttft_us(&self) -> Option<u64> {
        Some(self.first_token_us?.saturating_sub(self.sent_us?))
    }

    /// Mean time per output token after the first in nanoseconds: `(last_token - first_token) / (completion_tokens - 1)`.
    /// None for fewer than two tokens.
    #[must_use]
    pub fn tpot_ns(&self) -> Option<u64> {
        let gaps = self.completion_tokens?.checked_sub(1).filter(|gaps| *gaps > 0)?;
        let span = self.last_token_us?.checked_sub(self.first_token_us?)?;
        Some(span.saturating_mul(1000) / gaps)
    }

    /// How late the request was sent in microseconds.
    #[must_use]
    pub fn queue_us(&self) -> Option<u64> {
        Some(self.sent_us?.saturating_sub(self.intended_us?))
    }
}

/// What a request was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Heats the service up; left out of every summary.
    Warmup,
    /// Measures.
    #[default]
    Load,
    /// Checks an answer rather than a speed.
    Functional,
}

impl Phase {
    /// The word in records and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warmup => "warmup",
            Self::Load => "load",
            Self::Functional => "functional",
        }
    }
}

/// Who counted the output tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The service, in `usage`.
    Usage,
    /// Nobody: the events of the stream stand for tokens.
    Events,
    /// A tokenizer on our side.
    Tokenizer,
}

/// The judgement of a scorer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Which scorer.
    pub name: String,
    /// From 0 (wrong) to 1 (right).
    pub value: f64,
}
