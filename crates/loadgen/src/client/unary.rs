//! An answer in one piece: not streamed, or vectors.

use reqwest::Response;
use serde_json::Value;

use super::answer::{Observation, empty, in_band_error, malformed};
use crate::{
    clock::Clock,
    failure::{ErrorClass, Failure, chain},
};

/// Largest body that is read.
const BODY_LIMIT: usize = 256 << 20;

pub(super) async fn read(
    mut response: Response,
    generates: bool,
    clock: &Clock,
    seen: &mut Observation,
) -> Result<(), Failure> {
    let result = body(&mut response).await;
    seen.end_us = Some(clock.now_us());
    let body = result?;
    let value: Value = serde_json::from_slice(&body).map_err(|error| not_json(&error, &body))?;
    if let Some(error) = in_band_error(&value) {
        return Err(error);
    }
    let content = seen.absorb(&value);
    if generates {
        if !value.get("choices").is_some_and(Value::is_array) {
            return Err(malformed("the body has no `choices`", &value.to_string()));
        }
        return if content { Ok(()) } else { Err(empty("a single token")) };
    }
    let Some(data) = value.get("data").and_then(Value::as_array) else {
        return Err(malformed("the body has no `data`", &value.to_string()));
    };
    let filled = |vector: &Value| match vector.get("embedding") {
        Some(Value::Array(numbers)) => !numbers.is_empty(),
        Some(Value::String(base64)) => !base64.is_empty(),
        _ => false,
    };
    if !data.is_empty() && data.iter().all(filled) { Ok(()) } else { Err(empty("a vector")) }
}

/// A body that is JSON as far as it goes was cut, even if the connection ended cleanly.
fn not_json(error: &serde_json::Error, body: &[u8]) -> Failure {
    if error.is_eof() && !body.is_empty() {
        return Failure::new(
            ErrorClass::Truncated,
            format!("the answer broke off after {} bytes: {error}", body.len()),
        );
    }
    malformed(&format!("the body is not JSON ({error})"), &String::from_utf8_lossy(body))
}

async fn body(response: &mut Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => return Ok(body),
            Err(error) => {
                let text = format!("the answer broke off after {} bytes: {}", body.len(), chain(&error));
                return Err(Failure::new(ErrorClass::Truncated, text));
            }
        }
        if body.len() > BODY_LIMIT {
            return Err(Failure::new(ErrorClass::Malformed, format!("the body is larger than {BODY_LIMIT} bytes")));
        }
    }
}
