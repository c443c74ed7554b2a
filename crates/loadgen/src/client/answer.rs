//! What an answer says: tokens, counts, end, errors.

use serde_json::Value;

use crate::failure::{ErrorClass, Failure, excerpt};

/// Characters of a bad body that an error text shows.
const BODY_EXCERPT: usize = 200;
/// Bytes of an answer that are kept for a scorer.
const ANSWER_LIMIT: usize = 4 << 20;

/// Everything that was seen of one request.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    pub(crate) sent_us: Option<u64>,
    pub(crate) first_byte_us: Option<u64>,
    pub(crate) first_token_us: Option<u64>,
    pub(crate) last_token_us: Option<u64>,
    pub(crate) end_us: Option<u64>,
    pub(crate) http_status: Option<u16>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) prompt_tokens: Option<u64>,
    /// By the service's usage.
    pub(crate) completion_tokens: Option<u64>,
    pub(crate) events: u64,
    pub(crate) itl_us: Vec<u64>,
    pub(crate) answer: String,
}

impl Observation {
    /// A token event arrived at `now_us`.
    pub(crate) fn token_event(&mut self, now_us: u64) {
        self.events += 1;
        if let Some(last) = self.last_token_us.replace(now_us) {
            self.itl_us.push(now_us.saturating_sub(last));
        } else {
            self.first_token_us = Some(now_us);
        }
    }

    /// Takes usage, finish reason and text from a chunk or a whole answer; true when it carried content.
    pub(crate) fn absorb(&mut self, value: &Value) -> bool {
        if let Some(usage) = value.get("usage") {
            let count = |name| usage.get(name).and_then(Value::as_u64);
            self.prompt_tokens = count("prompt_tokens").or(self.prompt_tokens);
            self.completion_tokens = count("completion_tokens").or(self.completion_tokens);
        }
        let mut content = false;
        for choice in value.get("choices").and_then(Value::as_array).into_iter().flatten() {
            if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
                self.finish_reason = Some(reason.to_owned());
            }
            let message = choice.get("delta").or_else(|| choice.get("message")).unwrap_or(choice);
            for name in ["content", "text"] {
                if let Some(text) = message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()) {
                    content = true;
                    if self.answer.len() + text.len() <= ANSWER_LIMIT {
                        self.answer.push_str(text);
                    }
                }
            }
            let says = |name| match message.get(name) {
                Some(Value::String(text)) => !text.is_empty(),
                Some(Value::Array(calls)) => !calls.is_empty(),
                Some(Value::Object(call)) => !call.is_empty(),
                _ => false,
            };
            content |=
                ["reasoning_content", "reasoning", "tool_calls", "function_call", "refusal"].into_iter().any(says);
        }
        content
    }
}

/// The error object that a service put into a 200 answer, if there is one.
pub(crate) fn in_band_error(value: &Value) -> Option<Failure> {
    let error = match value.get("error") {
        Some(Value::Null) | None if value.get("object").and_then(Value::as_str) == Some("error") => value,
        Some(Value::Null) | None => return None,
        Some(error) => error,
    };
    let text = match error.get("message").and_then(Value::as_str).or_else(|| error.as_str()) {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    };
    Some(Failure::new(
        ErrorClass::InBandError,
        format!("the service answered 200 and then: {}", excerpt(&text, BODY_EXCERPT * 2)),
    ))
}

/// A body that is not what the API promises.
pub(crate) fn malformed(what: &str, text: &str) -> Failure {
    Failure::new(ErrorClass::Malformed, format!("{what}: {}", excerpt(text, BODY_EXCERPT)))
}

/// An answer that says nothing.
pub(crate) fn empty(what: &str) -> Failure {
    Failure::new(ErrorClass::Empty, format!("the service answered 200 without {what}"))
}
