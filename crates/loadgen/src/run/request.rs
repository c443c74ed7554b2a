//! One request of a run, from its number to its record.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Run;
use crate::{
    client::{self, Observation},
    failure::{ErrorClass, Failure, excerpt},
    readable::ANSWER_EXCERPT,
    record::{Phase, RECORD_VERSION, Record, TokenSource},
    sink::Entry,
};

/// Gives requests their numbers and knows when there are enough.
#[derive(Debug)]
pub(super) struct Numbers {
    next: AtomicU64,
    measured: AtomicU64,
    limit: Option<u64>,
}

impl Numbers {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { next: AtomicU64::new(0), measured: AtomicU64::new(0), limit }
    }

    fn take(&self, phase: Phase) -> Option<u64> {
        if phase != Phase::Warmup
            && self.limit.is_some_and(|limit| self.measured.fetch_add(1, Ordering::Relaxed) >= limit)
        {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Run {
    /// The number of a request that is due at `intended_us`; None when the plan's limit is reached.
    pub(super) fn next_number(&self, intended_us: u64) -> Option<u64> {
        self.numbers.take(self.phase(intended_us))
    }

    pub(super) fn phase(&self, intended_us: u64) -> Phase {
        if Duration::from_micros(intended_us) < self.plan.warmup { Phase::Warmup } else { Phase::Load }
    }

    /// Sends a request and records it. The class of its failure if it failed; the outer None when records cannot be kept.
    pub(super) async fn perform(&self, number: u64, intended_us: u64) -> Option<Option<ErrorClass>> {
        let item = self.plan.dataset.item(number);
        let mut record = self.record(number, intended_us);
        let body = client::body(&self.plan, item);
        let mut seen = Observation::default();
        self.live.sent();
        let result = self.exchange(&record.id, body, &mut seen).await;
        record.end_us = seen.end_us.or_else(|| Some(self.clock.now_us()));
        let answer = std::mem::take(&mut seen.answer);
        self.fill(&mut record, seen);
        match result {
            Ok(()) => {
                record.ok = true;
                record.score = self.plan.scorer.score(&answer, item.reference.as_deref());
            }
            Err(failure) => {
                record.error_class = Some(failure.class);
                record.error = Some(failure.text);
            }
        }
        self.live.ended(&record);
        let class = record.error_class;
        let entry = Entry { record, answer: excerpt(&answer, ANSWER_EXCERPT) };
        self.writer.write(entry).await.then_some(class)
    }

    /// Records a request that was due but found no free slot.
    pub(super) async fn not_sent(&self, number: u64, intended_us: u64) {
        let mut record = self.record(number, intended_us);
        record.error_class = Some(ErrorClass::NotSent);
        record.error = Some(format!(
            "all {} slots of the concurrency cap were busy until the run ended",
            self.plan.arrival.slots()
        ));
        self.live.not_sent();
        // A writer that has failed ends the run by itself.
        let _ = self.writer.write(Entry { record, answer: String::new() }).await;
    }

    async fn exchange(&self, id: &str, body: bytes::Bytes, seen: &mut Observation) -> Result<(), Failure> {
        let limit = self.plan.request_timeout;
        tokio::select! {
            // An answer that is complete counts, even if a limit passed in the same moment.
            biased;
            result = self.client.exchange(id, body, &self.clock, seen) => result,
            () = self.abort.cancelled() => Err(Failure::new(ErrorClass::Cancelled, self.why_cancelled())),
            () = tokio::time::sleep(limit) => {
                Err(Failure::new(ErrorClass::Timeout, format!("not complete after {} s, the request's time limit", limit.as_secs_f64())))
            }
        }
    }

    fn why_cancelled(&self) -> String {
        if self.stop.is_cancelled() {
            "the run was stopped".to_owned()
        } else {
            format!("still in flight {} s after the last request was due", self.plan.drain.as_secs_f64())
        }
    }

    fn record(&self, number: u64, intended_us: u64) -> Record {
        Record {
            v: RECORD_VERSION,
            id: format!("{}{number:06}", self.plan.id_prefix),
            phase: self.phase(intended_us),
            scenario: self.plan.scenario.as_str().to_owned(),
            item: self.plan.dataset.item(number).id.clone(),
            start_unix_ms: self.clock.unix_ms(intended_us),
            intended_us: Some(intended_us),
            sent_us: None,
            first_byte_us: None,
            first_token_us: None,
            last_token_us: None,
            end_us: None,
            ok: false,
            error_class: None,
            error: None,
            http_status: None,
            finish_reason: None,
            prompt_tokens: None,
            completion_tokens: None,
            token_source: None,
            events: 0,
            itl_us: Vec::new(),
            score: None,
            tags: self.plan.tags.clone(),
        }
    }

    fn fill(&self, record: &mut Record, seen: Observation) {
        if let Some(sent) = seen.sent_us {
            record.start_unix_ms = self.clock.unix_ms(sent);
        }
        record.sent_us = seen.sent_us;
        record.first_byte_us = seen.first_byte_us;
        record.first_token_us = seen.first_token_us;
        record.last_token_us = seen.last_token_us;
        record.http_status = seen.http_status;
        record.finish_reason = seen.finish_reason;
        record.prompt_tokens = seen.prompt_tokens;
        // A service that counts no tokens although some arrived is not believed.
        (record.completion_tokens, record.token_source) = match seen.completion_tokens {
            Some(tokens) if tokens > 0 => (Some(tokens), Some(TokenSource::Usage)),
            _ if seen.events > 0 => (Some(seen.events), Some(TokenSource::Events)),
            tokens => (tokens, tokens.map(|_| TokenSource::Usage)),
        };
        record.events = seen.events;
        record.itl_us = seen.itl_us;
    }
}
