//! Comparing, waiting, and masking what differs from run to run.

use std::time::{Duration, Instant};

use serde_json::Value;

/// How a case ends.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a case failed.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Fails unless both are equal.
pub(crate) fn same<A: PartialEq<B> + std::fmt::Debug, B: std::fmt::Debug>(
    what: &str,
    actual: &A,
    expected: &B,
) -> Outcome {
    if actual == expected {
        Ok(())
    } else {
        Err(Failure(format!("{what}\n  is       {actual:?}\n  expected {expected:?}")))
    }
}

/// Fails unless JSON texts are equal, the order of fields included.
pub(crate) fn same_json(what: &str, actual: &Value, expected: &Value) -> Outcome {
    same(what, &actual.to_string(), &expected.to_string())
}

/// Fails unless a condition holds.
pub(crate) fn holds(what: impl std::fmt::Display, condition: bool) -> Outcome {
    if condition { Ok(()) } else { Err(Failure(what.to_string())) }
}

/// Polls until there is something, at most for `limit`.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            return Err(Failure(format!("{what}: not seen within {limit:?}")));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Puts fixed words in the place of values that differ: every digit group of a date and time becomes zeros.
pub(crate) fn mask_times(text: &str) -> String {
    let mut masked: Vec<char> = text.chars().collect();
    let shape = "0000-00-00 00:00:00";
    let fits = |at: usize, masked: &[char]| {
        shape.chars().enumerate().all(|(offset, wanted)| {
            masked.get(at + offset).is_some_and(|found| {
                if wanted == '0' { found.is_ascii_digit() } else { *found == wanted || wanted == ' ' && *found == 'T' }
            })
        })
    };
    let mut at = 0;
    while at < masked.len() {
        if fits(at, &masked) {
            for (offset, wanted) in shape.chars().enumerate() {
                masked[at + offset] = wanted;
            }
            at += shape.len();
            if masked.get(at) == Some(&'.') {
                for digit in masked.iter_mut().skip(at + 1).take(3) {
                    *digit = '0';
                }
            }
        }
        at += 1;
    }
    masked.into_iter().collect()
}

/// Replaces the named fields, wherever they are, by `"*"` (null stays null: that something is there is part of the shape).
pub(crate) fn mask_fields(value: &Value, names: &[&str]) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let masked = if names.contains(&key.as_str()) && !value.is_null() {
                        Value::from("*")
                    } else {
                        mask_fields(value, names)
                    };
                    (key.clone(), masked)
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(|value| mask_fields(value, names)).collect()),
        other => other.clone(),
    }
}
