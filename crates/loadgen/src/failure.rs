//! Why a request failed: a closed list of classes, each with a text of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Class of a failure. A request has exactly one, and one with a class is never a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ErrorClass {
    /// No connection: refused, no route, name not found, TLS, connect time limit, no file descriptor.
    #[serde(rename = "connect")]
    Connect,
    /// The connection ended before the head of a response.
    #[serde(rename = "disconnected")]
    Disconnected,
    /// The request's time limit passed.
    #[serde(rename = "timeout")]
    Timeout,
    /// Status 400 to 499.
    #[serde(rename = "http_4xx")]
    Http4xx,
    /// Status 500 to 599.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// Any other status than 200, e.g. a redirect.
    #[serde(rename = "http_other")]
    HttpOther,
    /// Status 200, and then an error object in the body or in the stream.
    #[serde(rename = "in_band_error")]
    InBandError,
    /// The body ended before the answer did.
    #[serde(rename = "truncated")]
    Truncated,
    /// The body is not what the API promises.
    #[serde(rename = "malformed")]
    Malformed,
    /// A complete answer without a single token or vector.
    #[serde(rename = "empty")]
    Empty,
    /// Ended by us: the run was stopped, or the request outlived the drain after the run.
    #[serde(rename = "cancelled")]
    Cancelled,
    /// Due within the run but never sent, because all slots of the concurrency cap stayed busy. Not the answer of a service, so
    /// it is counted on its own and not in the error rate.
    #[serde(rename = "not_sent")]
    NotSent,
    /// A class that another program wrote into a record.
    #[serde(rename = "other", other)]
    Other,
}

impl ErrorClass {
    /// The word in records and summaries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Http4xx => "http_4xx",
            Self::Http5xx => "http_5xx",
            Self::HttpOther => "http_other",
            Self::InBandError => "in_band_error",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::Cancelled => "cancelled",
            Self::NotSent => "not_sent",
            Self::Other => "other",
        }
    }

    /// Class of a response status that is not 200.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            400..=499 => Self::Http4xx,
            500..=599 => Self::Http5xx,
            _ => Self::HttpOther,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed request: class and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Class.
    pub class: ErrorClass,
    /// What was found.
    pub text: String,
}

impl Failure {
    /// A failure of `class` with `text`.
    pub fn new(class: ErrorClass, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }
}

/// `error` and its causes on one line, each cause once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// The first `limit` characters of `text`, with a mark where something is missing.
pub(crate) fn excerpt(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
