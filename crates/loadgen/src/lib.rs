//! LLM load generator, SSE reader, datasets, scoring, stand-in LLM service.
//!
//! A [`LoadPlan`] says what to send where and when; [`run`] sends it and writes one [`Record`] a request; [`summarize`] adds
//! records up to a [`Summary`], for the run itself and for whoever reads the records later. [`stub`] is an OpenAI-compatible
//! service with known timing and injected faults, against which all of it is held.
//!
//! What is measured:
//! - All times are on one monotonic clock since the start of the run. A request has a due time (`intended`), the moment just
//!   before it is written (`sent`), the arrival of the response's head, of the first and last event with tokens, and its end.
//! - TTFT, E2EL and TPOT count from `sent`; how late a request was sent is a distribution of its own (`queue`), and
//!   `e2el_from_intended` holds both, so that a generator that cannot keep up hides nothing.
//! - ITL is between neighbouring token events. A service may put several tokens into one event, and several events into one
//!   packet; the latter arrive at the same time and have an ITL of 0.
//! - Only complete answers with at least one token (or vector) are successes. Everything else has an [`ErrorClass`] and is in no
//!   latency.
//! - Percentiles are exact, by linear interpolation (numpy's default).
//! - Rates are over the time from the first due request to the last send or end of the measured requests.

mod arrival;
pub mod cli;
mod client;
mod clock;
pub mod dataset;
mod distribution;
mod failure;
mod plan;
mod readable;
mod record;
mod run;
mod score;
mod sink;
mod sse;
pub mod stub;
mod summary;

pub use arrival::Schedule;
pub use dataset::{Dataset, DatasetError};
pub use distribution::Distribution;
pub use failure::{ErrorClass, Failure};
pub use plan::{ARRIVAL_NAMES, Arrival, DEFAULT_OPEN_LOOP_CAP, LoadPlan, MAX_CONCURRENCY, PlanError, Scenario, Slo};
pub use record::{Phase, RECORD_VERSION, Record, Score, TokenSource};
pub use run::{LoadError, Progress, run};
pub use score::Scorer;
pub use sink::{RecordSink, WriteError};
pub use sse::{Event, LINE_LIMIT, LineTooLong, SseReader};
pub use summary::{Summarizer, Summary, Window, names, summarize};
