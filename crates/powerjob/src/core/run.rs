//! The run itself: start, time limit, task retry, outcome.

use std::collections::BTreeMap;

use super::{
    admission::Before,
    api::{Action, Now, Outcome, Stage, TaskCounts},
    bugs::bug,
    instance::{Instance, Mono, mono},
    limits,
    machine::Core,
};
use crate::processor::{ProcessResult, StopReason};

/// What a run that used up its time limit is reported with.
const TIMED_OUT: &str = "instance execute timeout";

impl Core {
    /// Starts the processor of a queued instance.
    pub(super) fn start(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let waited = mono(now) - instance.arrived;
        let queued = instance.position_logged.is_some();
        instance.record.stage = Stage::Running;
        instance.record.started_at = Some(now.wall_ms);
        instance.record.boundary_open = true;
        instance.started = Some(mono(now));
        instance.dirty = true;
        let start = start_processor(instance, mono(now), false);
        if queued {
            self.log(id, 2, format!("a slot is free: starting after {} in the queue", duration(waited)));
        }
        self.out.actions.push(start);
    }

    /// When the time limit of a run ends.
    pub(super) fn limit_due(&self, instance: &Instance) -> Option<Mono> {
        instance.deadline().filter(|_| instance.record.stage == Stage::Running && !instance.timed_out)
    }

    pub(super) fn enforce_limit(&mut self, now: Now, id: i64) {
        let due =
            self.instances.get(&id).and_then(|instance| self.limit_due(instance)).is_some_and(|at| at <= mono(now));
        let Some(instance) = self.instances.get_mut(&id).filter(|_| due) else { return };
        instance.timed_out = true;
        let limit = instance.limit().map_or_else(String::new, duration);
        self.log(id, 4, format!("the time limit of {limit} is over: the processor is told to end"));
        self.out.actions.push(Action::StopProcessor { instance_id: id, reason: StopReason::TimedOut });
    }

    pub(super) fn processor_ended(
        &mut self,
        now: Now,
        id: i64,
        attempt: u32,
        result: &ProcessResult,
        context: BTreeMap<String, String>,
        tasks: Option<TaskCounts>,
    ) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.record.attempt != attempt || !instance.record.boundary_open {
            return;
        }
        instance.record.boundary_open = false;
        instance.tasks = tasks;
        instance.dirty = true;
        match instance.record.stage {
            Stage::Running => self.run_ended(now, id, result, context),
            Stage::Stopping => self.boundary_is_empty(now, id),
            Stage::Queued | Stage::Draining(_) | Stage::Reporting(_) => {}
        }
    }

    fn run_ended(&mut self, now: Now, id: i64, result: &ProcessResult, context: BTreeMap<String, String>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.timed_out {
            let said = if result.message.is_empty() { String::new() } else { format!(": {}", result.message) };
            self.finish(now, id, false, &format!("{TIMED_OUT}{said}"), context);
            return;
        }
        if instance.cancelled && !result.success {
            let said = if result.message.is_empty() {
                String::new()
            } else {
                format!(". The processor said: {}", result.message)
            };
            self.finish(now, id, false, &format!("{}{said}", self.cancelled_text("was running")), context);
            return;
        }
        let in_time = instance.deadline().is_none_or(|deadline| mono(now) < deadline);
        let record = &mut instance.record;
        // A task tracker has retried its tasks itself.
        let allowed = if instance.heavy && !bug!(TrackerRetried) { 0 } else { record.dispatch.task_retry_num };
        if result.success || !result.retryable || record.retries_used >= allowed || !in_time {
            self.finish(now, id, result.success, &result.message, context);
            return;
        }
        record.retries_used += 1;
        record.attempt = record.attempt.saturating_add(1);
        record.boundary_open = true;
        let text = format!(
            "failed: {}; starting task retry {} of {allowed} (attempt {})",
            result.message, record.retries_used, record.attempt
        );
        let start = start_processor(instance, mono(now), false);
        self.log(id, 3, text);
        self.out.actions.push(start);
    }

    /// The run has its outcome: it is fixed, and the log is drained before the server hears of it.
    pub(super) fn finish(
        &mut self,
        now: Now,
        id: i64,
        mut success: bool,
        message: &str,
        mut context: BTreeMap<String, String>,
    ) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let mut message = message.to_owned();
        let mut complaint = None;
        if instance.dispatch().wf_instance_id.is_none() {
            context.clear();
        } else if let Err(too_long) = limits::check_context(&context, self.config.context_limit) {
            context.clear();
            let text = too_long.to_string();
            message = format!("{text}. The run itself {}: {message}", if success { "succeeded" } else { "failed" });
            // The nodes behind this one would go on without what it was to tell them.
            success = false;
            complaint = Some(text);
        }
        let result = limits::truncate(&message, self.config.result_limit);
        let record = &mut instance.record;
        let end_time = now.wall_ms.max(record.received_at).max(record.started_at.unwrap_or(0));
        // The processor has told the rest itself: the result's further lines need not stand in the log again.
        let reason = if success { String::new() } else { format!(": {}", result.lines().next().unwrap_or_default()) };
        let outcome = Outcome { success, result, appended_context: context, end_time, tasks: instance.tasks };
        record.stage = Stage::Draining(outcome);
        instance.dirty = true;
        let attempt = record.attempt;
        let took = instance
            .started
            .map_or_else(|| "without a start".to_owned(), |start| format!("after {}", duration(mono(now) - start)));
        if let Some(text) = complaint {
            self.log(id, 4, text);
        }
        let (level, status) = if success { (2, "SUCCEED") } else { (4, "FAILED") };
        self.log(id, level, format!("{status} {took}{reason}"));
        self.out.actions.push(Action::DrainLog { instance_id: id, attempt, limit_ms: None });
    }

    /// A dispatch that came while the instance was being stopped takes its place.
    pub(super) fn start_remembered(&mut self, now: Now, id: i64) -> bool {
        let Some(instance) = self.instances.get_mut(&id) else { return false };
        let Some(next) = instance.record.next.take() else { return false };
        let before = Before::of(instance).still_to_ask(instance.ask);
        self.accept(now, *next, before);
        true
    }
}

/// The action that starts, or takes up, the current attempt.
pub(super) fn start_processor(instance: &Instance, now: Mono, resumed: bool) -> Action {
    Action::StartProcessor {
        instance_id: instance.id(),
        attempt: instance.record.attempt,
        resumed,
        time_left_ms: instance.time_left(now),
    }
}

/// A duration in seconds, as people read it.
pub(super) fn duration(ms: Mono) -> String {
    let ms = ms.max(0);
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}
