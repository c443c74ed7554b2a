//! A stand-in for an OpenAI-compatible service, with known timing and injected faults.
//!
//! It says what it did: every request leaves a [`Truth`] with its own times, against which a measurement can be held.
//! It does not pretend to be a model: its answers are counted words.

mod answer;
mod fault;
mod options;
mod script;
mod serve;
mod socket;
mod truth;

pub use answer::text;
pub use fault::{FaultKind, Faults};
pub use options::StubOptions;
pub use serve::{Ended, serve};
pub use truth::Truth;

#[cfg(test)]
mod tests;
