//! Adds records up. The one implementation: for the run itself and for whoever reads its records later.

pub mod names;

use std::{borrow::Borrow, collections::BTreeMap};

use crate::{
    distribution::Distribution,
    failure::ErrorClass,
    plan::Slo,
    record::{Phase, Record},
};

/// Records that start within a span of wall-clock time; open at an end that is None.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// First millisecond since 1970.
    pub start_unix_ms: Option<i64>,
    /// Last millisecond since 1970.
    pub end_unix_ms: Option<i64>,
}

impl Window {
    /// Whether `record` starts in the window.
    #[must_use]
    pub fn contains(&self, record: &Record) -> bool {
        self.start_unix_ms.is_none_or(|start| start <= record.start_unix_ms)
            && self.end_unix_ms.is_none_or(|end| record.start_unix_ms <= end)
    }
}

/// Adds up all records of `window`.
pub fn summarize<R: Borrow<Record>>(records: impl IntoIterator<Item = R>, window: Window, slo: Slo) -> Summary {
    let mut summarizer = Summarizer::new(window, slo);
    for record in records {
        summarizer.add(record.borrow());
    }
    summarizer.finish()
}

/// What a run measured. Warm-up requests are only counted. [`Summary::metric`] finds every figure by its name.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Requests that were sent and measured.
    pub requests: u64,
    /// Those with a complete answer.
    pub succeeded: u64,
    /// All others, the cancelled ones too.
    pub failed: u64,
    /// Failures that we ended ourselves: stopped, or not done within the drain.
    pub cancelled: u64,
    /// Requests that were due but never sent because the concurrency cap was reached; not part of `requests`.
    pub not_sent: u64,
    /// Requests of the warm-up.
    pub warmup_requests: u64,
    /// Failures by class, `not_sent` too.
    pub failures: BTreeMap<&'static str, u64>,
    /// From the first due request to the last send or end, seconds. A cancelled request's end is not counted: it is ours.
    pub duration_seconds: f64,
    /// Input tokens of successful requests.
    pub input_tokens: u64,
    /// Output tokens of successful requests.
    pub output_tokens: u64,
    /// Sending to first token, successful streams.
    pub ttft: Distribution,
    /// Mean time per output token after the first, one value a request.
    pub tpot: Distribution,
    /// Times between neighbouring token events, all of them.
    pub itl: Distribution,
    /// Sending to end, successful requests.
    pub e2el: Distribution,
    /// Due time to end, successful requests: what a user felt who came when the plan said.
    pub e2el_from_intended: Distribution,
    /// Due time to sending, all requests that were sent.
    pub queue: Distribution,
    /// Answers that a scorer judged.
    pub scored: u64,
    /// Mean score of these.
    pub accuracy: Option<f64>,
    /// Successful requests that met all objectives; None when none was given.
    pub good: Option<u64>,
}

/// Adds records up one by one, in memory that does not grow with equal values.
#[derive(Debug)]
pub struct Summarizer {
    window: Window,
    slo: Slo,
    summary: Summary,
    timeline: Timeline,
    score_sum: f64,
}

impl Summarizer {
    /// For the records of `window`; `slo` says what goodput counts.
    #[must_use]
    pub fn new(window: Window, slo: Slo) -> Self {
        let summary = Summary { good: slo.is_given().then_some(0), ..Summary::default() };
        Self { window, slo, summary, timeline: Timeline::default(), score_sum: 0.0 }
    }

    /// Adds a record, if it is in the window.
    pub fn add(&mut self, record: &Record) {
        if !self.window.contains(record) {
            return;
        }
        let sum = &mut self.summary;
        if record.phase == Phase::Warmup {
            sum.warmup_requests += 1;
            return;
        }
        let class = match (record.ok, record.error_class) {
            (true, _) => None,
            (false, class) => Some(class.unwrap_or(ErrorClass::Other)),
        };
        self.timeline.add(record, class);
        if let Some(class) = class {
            *sum.failures.entry(class.as_str()).or_default() += 1;
        }
        if class == Some(ErrorClass::NotSent) {
            sum.not_sent += 1;
            return;
        }
        sum.requests += 1;
        if let Some(queue) = record.queue_us() {
            sum.queue.add_us(queue);
        }
        match class {
            Some(class) => {
                sum.failed += 1;
                sum.cancelled += u64::from(class == ErrorClass::Cancelled);
            }
            None => self.add_success(record),
        }
    }

    fn add_success(&mut self, record: &Record) {
        let sum = &mut self.summary;
        sum.succeeded += 1;
        sum.input_tokens += record.prompt_tokens.unwrap_or(0);
        sum.output_tokens += record.completion_tokens.unwrap_or(0);
        let (ttft, tpot, e2el) = (record.ttft_us(), record.tpot_ns(), record.e2el_us());
        if let Some(ttft) = ttft {
            sum.ttft.add_us(ttft);
        }
        if let Some(tpot) = tpot {
            sum.tpot.add_ns(tpot);
        }
        record.itl_us.iter().for_each(|gap| sum.itl.add_us(*gap));
        if let Some(e2el) = e2el {
            sum.e2el.add_us(e2el);
            sum.e2el_from_intended.add_us(e2el + record.queue_us().unwrap_or(0));
        }
        if let Some(score) = &record.score {
            sum.scored += 1;
            self.score_sum += score.value;
        }
        if let Some(good) = &mut sum.good {
            let meets = |limit: Option<f64>, value_ms: Option<f64>| {
                limit.is_none_or(|limit| value_ms.is_some_and(|value| value <= limit))
            };
            let ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
            // One token has no time per further token, so it cannot miss that objective.
            let tpot_met =
                meets(self.slo.tpot_ms, tpot.map(|ns| ns as f64 / 1e6)) || record.completion_tokens == Some(1);
            let met = meets(self.slo.ttft_ms, ms(ttft)) && tpot_met && meets(self.slo.e2el_ms, ms(e2el));
            *good += u64::from(met);
        }
    }

    /// The sums.
    #[must_use]
    pub fn finish(self) -> Summary {
        let mut summary = self.summary;
        summary.duration_seconds = self.timeline.duration_us() as f64 / 1e6;
        summary.accuracy = (summary.scored > 0).then(|| self.score_sum / summary.scored as f64);
        summary
    }
}

/// First due time and last event over all records. Records of one run share a clock; those of another run are placed by their
/// wall clock.
#[derive(Debug, Default)]
struct Timeline {
    base: Option<Base>,
    span: Option<(i64, i64)>,
}

/// The run that the others are placed by: that of the first record.
#[derive(Debug, Clone, Copy)]
struct Base {
    start_unix_ms: i64,
    /// Wall clock of the start of its clock.
    origin_us: i64,
}

impl Timeline {
    /// Wall clocks in records are whole milliseconds, so that the origins of one run differ by less than this.
    const SAME_RUN_US: i64 = 2_000;

    fn add(&mut self, record: &Record, class: Option<ErrorClass>) {
        let Some(start) = record.sent_us.or(record.intended_us) else {
            return;
        };
        let signed = |us: u64| i64::try_from(us).unwrap_or(i64::MAX / 4);
        let start_unix_ms = record.start_unix_ms;
        let origin_us = start_unix_ms.saturating_mul(1000).saturating_sub(signed(start));
        let base = *self.base.get_or_insert(Base { start_unix_ms, origin_us });
        // Another program may write the start of its run into every record, or nothing.
        let same = start_unix_ms == base.start_unix_ms || (origin_us - base.origin_us).abs() < Self::SAME_RUN_US;
        let shift = if same { 0 } else { origin_us - base.origin_us };
        let first = signed(record.intended_us.unwrap_or(start)) + shift;
        let ours = matches!(class, Some(ErrorClass::Cancelled | ErrorClass::NotSent));
        let end = record.end_us.filter(|_| !ours);
        let last = signed(end.or(record.sent_us).or(record.intended_us).unwrap_or(start)) + shift;
        self.span = Some(match self.span {
            None => (first, last),
            Some((low, high)) => (low.min(first), high.max(last)),
        });
    }

    fn duration_us(&self) -> i64 {
        self.span.map_or(0, |(first, last)| last - first)
    }
}

#[cfg(test)]
mod tests;
