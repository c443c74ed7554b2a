//! What is sent for a request and when: fixed before the first byte leaves.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    answer::{self, Api, Request},
    fault::FaultKind,
    options::StubOptions,
};

/// How much longer a slow answer takes.
const SLOW: u32 = 10;

/// An answer as it will be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Script {
    pub(super) status: u16,
    pub(super) event_stream: bool,
    pub(super) pieces: Vec<Piece>,
    pub(super) ending: Ending,
}

/// Bytes that leave together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// Since the request was received.
    pub(super) at: Duration,
    pub(super) text: String,
    /// Tokens in it; 0 where it carries none.
    pub(super) tokens: u32,
}

/// What follows the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The body ends as it should.
    Clean,
    /// The connection is closed within the body.
    Abort,
    /// Nothing, for ever.
    Stall,
    /// The connection is reset before anything leaves.
    Reset,
}

/// An error object as the API has it.
pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = if status < 500 { "invalid_request_error" } else { "server_error" };
    json!({"error": {"message": message, "type": kind, "code": status}})
}

/// The script for `request`.
pub(super) fn write(id: &str, request: &Request, options: &StubOptions, fault: Option<FaultKind>) -> Script {
    let status = match fault {
        Some(FaultKind::Http500) => 500,
        Some(FaultKind::Http429) => 429,
        _ => 200,
    };
    if status != 200 || fault == Some(FaultKind::Reset) {
        let text = error(status, "injected fault").to_string();
        let ending = if status == 200 { Ending::Reset } else { Ending::Clean };
        return Script {
            status,
            event_stream: false,
            pieces: vec![Piece { at: Duration::ZERO, text, tokens: 0 }],
            ending,
        };
    }
    let pace = Pace::of(request, options, fault);
    let (pieces, ending) =
        if request.stream { streamed(id, request, &pace, fault) } else { whole(id, request, &pace, fault) };
    Script { status, event_stream: request.stream, pieces, ending }
}

/// Tokens of an answer and their times.
struct Pace {
    tokens: u32,
    per_event: u32,
    finish: &'static str,
    ttft: Duration,
    itl: Duration,
}

impl Pace {
    fn of(request: &Request, options: &StubOptions, fault: Option<FaultKind>) -> Self {
        let factor = if fault == Some(FaultKind::Slow) { SLOW } else { 1 };
        let wanted = if fault == Some(FaultKind::Empty) { 0 } else { options.tokens };
        let limit = request.max_tokens.unwrap_or(u32::MAX);
        let finish = if limit < wanted { "length" } else { "stop" };
        Self {
            tokens: wanted.min(limit),
            per_event: options.tokens_per_event.max(1),
            finish,
            ttft: options.ttft * factor,
            itl: options.itl * factor,
        }
    }

    fn events(&self) -> u32 {
        self.tokens.div_ceil(self.per_event)
    }

    fn at(&self, event: u32) -> Duration {
        self.ttft + self.itl * event
    }

    fn end(&self) -> Duration {
        self.at(self.events().saturating_sub(1))
    }
}

fn streamed(id: &str, request: &Request, pace: &Pace, fault: Option<FaultKind>) -> (Vec<Piece>, Ending) {
    let event = |value: &Value| format!("data: {value}\n\n");
    let cut = broken_off(fault);
    let events = if cut { pace.events() / 2 } else { pace.events() };
    let mut pieces = Vec::with_capacity(events as usize + 4);
    if request.api == Api::Chat {
        // As real services do: a first chunk with the role and no content, which is no token.
        pieces.push(Piece { at: Duration::ZERO, text: event(&answer::chunk(id, request, "", true, None)), tokens: 0 });
    }
    for number in 0..events {
        let first = number * pace.per_event;
        let last = (first + pace.per_event).min(pace.tokens);
        let text: String = (first..last).map(answer::token).collect();
        let text = event(&answer::chunk(id, request, &text, false, None));
        pieces.push(Piece { at: pace.at(number), text, tokens: last - first });
    }
    let at = pace.at(events.saturating_sub(1));
    let mut tail = |text: String| {
        pieces.push(Piece { at, text, tokens: 0 });
    };
    match fault {
        Some(FaultKind::Truncate) => return (pieces, Ending::Clean),
        Some(FaultKind::Abort) => return (pieces, Ending::Abort),
        Some(FaultKind::Stall) => return (pieces, Ending::Stall),
        Some(FaultKind::InBandError) => tail(event(&error(500, "injected fault"))),
        Some(FaultKind::Malformed) => tail("data: {\"choices\": [{\"delta\": \n\n".to_owned()),
        _ => {
            tail(event(&answer::chunk(id, request, "", false, Some(pace.finish))));
            if request.include_usage {
                tail(event(&answer::usage_chunk(id, request, pace.tokens)));
            }
        }
    }
    tail("data: [DONE]\n\n".to_owned());
    (pieces, Ending::Clean)
}

fn whole(id: &str, request: &Request, pace: &Pace, fault: Option<FaultKind>) -> (Vec<Piece>, Ending) {
    let text = answer::whole(id, request, pace.tokens, pace.finish).to_string();
    let tokens = if request.api == Api::Embedding { 0 } else { pace.tokens };
    // Vectors come in one piece when the first token would.
    let at = if request.api == Api::Embedding { pace.ttft } else { pace.end() };
    let half = || text.chars().take(text.chars().count() / 2).collect::<String>();
    let piece = |text, tokens| vec![Piece { at, text, tokens }];
    match fault {
        Some(FaultKind::InBandError) => (piece(error(500, "injected fault").to_string(), 0), Ending::Clean),
        Some(FaultKind::Malformed) => (piece(format!("<html>{}", half()), 0), Ending::Clean),
        Some(FaultKind::Truncate) => (piece(half(), 0), Ending::Clean),
        Some(FaultKind::Abort) => (piece(half(), 0), Ending::Abort),
        Some(FaultKind::Stall) => (piece(half(), 0), Ending::Stall),
        _ => (piece(text, tokens), Ending::Clean),
    }
}

/// Whether only half of the tokens are sent.
fn broken_off(fault: Option<FaultKind>) -> bool {
    use FaultKind::{Abort, InBandError, Malformed, Stall, Truncate};
    matches!(fault, Some(InBandError | Truncate | Abort | Stall | Malformed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &Value) -> Request {
        Request::parse(Api::Chat, body.to_string().as_bytes()).expect("a good request")
    }

    fn options() -> StubOptions {
        let ms = Duration::from_millis;
        StubOptions { ttft: ms(100), itl: ms(20), tokens: 5, tokens_per_event: 2, ..StubOptions::default() }
    }

    fn streaming() -> Request {
        request(
            &json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "a b"}]}),
        )
    }

    #[test]
    fn token_events_leave_at_fixed_times_and_carry_all_tokens() {
        let script = write("x", &streaming(), &options(), None);
        let tokens: Vec<(u128, u32)> = script
            .pieces
            .iter()
            .filter(|piece| piece.tokens > 0)
            .map(|piece| (piece.at.as_millis(), piece.tokens))
            .collect();
        assert_eq!(tokens, [(100, 2), (120, 2), (140, 1)]);
        let last = script.pieces.last().expect("has pieces");
        assert_eq!((last.at.as_millis(), last.text.as_str()), (140, "data: [DONE]\n\n"));
        assert!(script.pieces[script.pieces.len() - 2].text.contains("\"completion_tokens\":5"));
    }

    #[test]
    fn a_token_limit_of_the_request_shortens_the_answer_and_says_length() {
        let mut request = streaming();
        request.max_tokens = Some(3);
        let script = write("x", &request, &options(), None);
        assert_eq!(script.pieces.iter().map(|piece| piece.tokens).sum::<u32>(), 3);
        assert!(script.pieces.iter().any(|piece| piece.text.contains("\"finish_reason\":\"length\"")));
    }

    #[test]
    fn a_truncated_answer_has_neither_finish_reason_nor_end_mark() {
        let script = write("x", &streaming(), &options(), Some(FaultKind::Truncate));
        let all: String = script.pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert!(!all.contains("[DONE]") && !all.contains("stop"), "{all}");
        assert_eq!(script.ending, Ending::Clean);
        assert_eq!(script.pieces.iter().map(|piece| piece.tokens).sum::<u32>(), 2);
    }

    #[test]
    fn a_slow_answer_is_whole_and_ten_times_as_late() {
        let script = write("x", &streaming(), &options(), Some(FaultKind::Slow));
        assert_eq!(script.pieces.last().map(|piece| piece.at.as_millis()), Some(1400));
    }
}
