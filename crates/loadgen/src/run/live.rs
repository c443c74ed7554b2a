//! Counters that a running load keeps for whoever watches it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::Run;
use crate::{
    plan::Arrival,
    record::{Phase, Record},
};

/// Where a run is. Counts are since its start, warm-up included; `qps`, `token_rate` and `ttft_ms` are of the time since the
/// last report.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Warm-up and run together.
    pub planned: Duration,
    /// Phase of a request that would be due now.
    pub phase: Phase,
    /// No more requests are sent; those in flight are waited for.
    pub draining: bool,
    /// Requests that have ended.
    pub done: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Requests that have been sent and not ended.
    pub in_flight: u64,
    /// Requests that were due and not sent.
    pub not_sent: u64,
    /// Successful requests a second.
    pub qps: f64,
    /// Output tokens a second, of requests that ended.
    pub token_rate: f64,
    /// Mean time to first token of requests that ended; None when none did.
    pub ttft_ms: Option<f64>,
    /// Slots of the arrival.
    pub slots: usize,
    /// Rate that an open loop sends at.
    pub target_qps: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct Live {
    sent: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    not_sent: AtomicU64,
    tokens: AtomicU64,
    ttft_sum_us: AtomicU64,
    ttft_count: AtomicU64,
}

impl Live {
    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    pub(super) fn not_sent(&self) {
        self.not_sent.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self, record: &Record) {
        if record.ok {
            self.tokens.fetch_add(record.completion_tokens.unwrap_or(0), Relaxed);
            if let Some(ttft) = record.ttft_us() {
                self.ttft_sum_us.fetch_add(ttft, Relaxed);
                self.ttft_count.fetch_add(1, Relaxed);
            }
        } else {
            self.failed.fetch_add(1, Relaxed);
        }
        self.done.fetch_add(1, Relaxed);
    }
}

/// Turns counters into rates since the last reading.
#[derive(Debug, Default)]
pub(super) struct Meter {
    at: Duration,
    succeeded: u64,
    tokens: u64,
    ttft_sum_us: u64,
    ttft_count: u64,
}

impl Meter {
    pub(super) fn read(&mut self, run: &Run) -> Progress {
        let live = &run.live;
        // Ended before sent, so that the difference is never negative.
        let failed = live.failed.load(Relaxed);
        let done = live.done.load(Relaxed).max(failed);
        let sent = live.sent.load(Relaxed).max(done);
        let now = Self {
            at: run.clock.elapsed(),
            succeeded: done - failed,
            tokens: live.tokens.load(Relaxed),
            ttft_sum_us: live.ttft_sum_us.load(Relaxed),
            ttft_count: live.ttft_count.load(Relaxed),
        };
        let seconds = (now.at.saturating_sub(self.at)).as_secs_f64().max(1e-9);
        let answers = now.ttft_count - self.ttft_count;
        let progress = Progress {
            elapsed: now.at,
            planned: run.sending(),
            phase: run.phase(run.clock.now_us()),
            draining: now.at >= run.sending(),
            done,
            failed,
            in_flight: sent - done,
            not_sent: live.not_sent.load(Relaxed),
            qps: now.succeeded.saturating_sub(self.succeeded) as f64 / seconds,
            token_rate: (now.tokens - self.tokens) as f64 / seconds,
            ttft_ms: (answers > 0).then(|| (now.ttft_sum_us - self.ttft_sum_us) as f64 / answers as f64 / 1e3),
            slots: run.plan.arrival.slots(),
            target_qps: match run.plan.arrival {
                Arrival::Closed { .. } => None,
                Arrival::Constant { qps, .. } | Arrival::Poisson { qps, .. } => Some(qps),
            },
        };
        *self = now;
        progress
    }
}
