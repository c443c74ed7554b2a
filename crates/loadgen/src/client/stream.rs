//! A streamed answer.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use super::answer::{Observation, empty, in_band_error, malformed};
use crate::{
    clock::Clock,
    failure::{ErrorClass, Failure, chain, excerpt},
    sse::{Event, SseReader},
};

/// How long the connection may take to end after `[DONE]` before it is given up instead of used again.
const TAIL_TIMEOUT: Duration = Duration::from_millis(200);

pub(super) async fn read(mut response: Response, clock: &Clock, seen: &mut Observation) -> Result<(), Failure> {
    let mut reader = SseReader::new();
    let result = events(&mut response, &mut reader, clock, seen).await;
    seen.end_us = Some(clock.now_us());
    if result? == End::Done {
        // Read up to the end of the body, so that the connection can be used again. The measurement is over.
        let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
        let _ = tokio::time::timeout(TAIL_TIMEOUT, rest).await;
    } else if reader.unfinished().is_none_or(|event| event.data.trim() != "[DONE]") && seen.finish_reason.is_none() {
        // A body that ends cleanly behind a finish reason is whole: some services leave out the end mark.
        return Err(truncated(seen, "the stream ended without a finish reason and without [DONE]"));
    }
    if seen.events == 0 {
        return Err(empty("a single token"));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The end mark came.
    Done,
    /// The body ended.
    Body,
}

async fn events(
    response: &mut Response,
    reader: &mut SseReader,
    clock: &Clock,
    seen: &mut Observation,
) -> Result<End, Failure> {
    loop {
        let part = match response.chunk().await {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(End::Body),
            Err(error) => return Err(truncated(seen, &chain(&error))),
        };
        // All events of one read arrived together.
        let now_us = clock.now_us();
        reader.push(&part).map_err(|error| Failure::new(ErrorClass::Malformed, error.to_string()))?;
        while let Some(event) = reader.next_event() {
            if event.data.trim() == "[DONE]" {
                return Ok(End::Done);
            }
            if take(&event, seen)? {
                seen.token_event(now_us);
            }
        }
    }
}

/// Takes one event in; true when it carries tokens.
fn take(event: &Event, seen: &mut Observation) -> Result<bool, Failure> {
    let parsed = serde_json::from_str::<Value>(&event.data);
    if event.name == "error" && !parsed.as_ref().is_ok_and(|value| in_band_error(value).is_some()) {
        let text = excerpt(&event.data, 400);
        return Err(Failure::new(ErrorClass::InBandError, format!("the service sent an error event: {text}")));
    }
    let value = parsed.map_err(|error| malformed(&format!("an event is not JSON ({error})"), &event.data))?;
    if let Some(error) = in_band_error(&value) {
        return Err(error);
    }
    if !value.is_object() {
        return Err(malformed("an event is no JSON object", &event.data));
    }
    Ok(seen.absorb(&value))
}

fn truncated(seen: &Observation, why: &str) -> Failure {
    Failure::new(ErrorClass::Truncated, format!("the answer broke off after {} token events: {why}", seen.events))
}
