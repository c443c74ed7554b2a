//! Stops: told by the server, or found out by asking it. After one the instance is silent.

use super::{
    api::{Action, InstanceInfo, Now, Stage},
    ask::Ask,
    bugs::bug,
    instance::{Instance, Mono, mono},
    machine::Core,
};
use crate::processor::StopReason;

/// Log lines of a stopped instance are sent for this time; the server archives its log after 60 s and later lines hide it.
const LOG_SENT_FOR: Mono = 45_000;
/// A drain that is not answered this long after its limit counts as done.
const DRAIN_SLACK: Mono = 5_000;

/// What is left to do for a stopped instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopState {
    /// Until when its log may be sent.
    log_until: Mono,
    drain_asked: bool,
    drained: bool,
}

impl StopState {
    /// `since` = when the server finished the instance; `None` = not known, then nothing more is sent.
    pub(super) fn new(since: Option<Mono>, now: Mono) -> Self {
        let log_until = since.map_or(now, |since| since + LOG_SENT_FOR);
        Self { log_until, drain_asked: false, drained: log_until <= now }
    }

    /// The rest of a log is being sent already; that is to end by the given time.
    pub(super) fn draining(log_until: Mono) -> Self {
        Self { log_until, drain_asked: true, drained: false }
    }

    /// Whether its log may still be sent.
    pub(super) fn sends_log(&self) -> bool {
        !self.drained
    }

    /// Whether the rest of its log is on its way.
    pub(super) fn is_draining(&self) -> bool {
        self.drain_asked && !self.drained
    }
}

impl Core {
    pub(super) fn stop_told(&mut self, now: Now, id: i64) {
        if self.instances.contains_key(&id) {
            self.stop(now, id, Some(mono(now)), "stopped by the server");
        } else {
            self.early_stops.remember(id, mono(now));
        }
    }

    pub(super) fn stop_found(&mut self, now: Now, id: i64, info: &InstanceInfo) {
        let ago = info.finished_at.map(|at| now.server_ms - at).filter(|ago| *ago >= 0);
        let elsewhere = info.task_tracker_address.as_deref().filter(|a| !a.is_empty() && *a != self.config.address);
        let text = match elsewhere {
            Some(other) => {
                format!("the server has given this instance to {other} meanwhile: it ends here without a report")
            }
            None => format!(
                "the server ended this instance meanwhile (status {}): it ends here without a report",
                info.status
            ),
        };
        let ago = if bug!(LateLogSent) { Some(0) } else { ago };
        let since = ago.filter(|_| elsewhere.is_none()).map(|ago| mono(now) - ago);
        self.stop(now, id, since, &text);
    }

    /// The worker's operator ends it now: what waits or runs ends FAILED, which the server hears, and may retry elsewhere.
    pub(super) fn cancel(&mut self, now: Now) {
        for id in self.instances.values().map(|instance| instance.id()).collect::<Vec<_>>() {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            match instance.record.stage {
                Stage::Queued => {
                    let text = self.cancelled_text("was waiting for a slot");
                    self.finish(now, id, false, &text, Default::default());
                }
                Stage::Running if !instance.cancelled => {
                    instance.cancelled = true;
                    self.log(
                        id,
                        4,
                        "the worker's operator ends the worker and its runs: the processor is told to end".to_owned(),
                    );
                    self.out.actions.push(Action::StopProcessor { instance_id: id, reason: StopReason::Cancelled });
                }
                Stage::Stopping => {
                    // What was to follow the stop.
                    instance.dirty |= instance.record.next.take().is_some();
                }
                Stage::Running | Stage::Draining(_) | Stage::Reporting(_) => {}
            }
        }
    }

    /// Result text of a cancelled instance.
    pub(super) fn cancelled_text(&self, what: &str) -> String {
        format!(
            "cancelled by the agent's shutdown: the operator of {} ended it without waiting for its instances, and this one {what}; \
             run it again when a worker is there (with instance retries the server does so by itself)",
            self.config.address
        )
    }

    fn stop(&mut self, now: Now, id: i64, since: Option<Mono>, text: &str) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        match instance.record.stage {
            Stage::Stopping => {
                // A stop always means the newest dispatch.
                instance.dirty |= instance.record.next.take().is_some();
                return;
            }
            Stage::Reporting(_) => return self.close(id, "STOPPED"),
            Stage::Queued | Stage::Running | Stage::Draining(_) => {}
        }
        let stop = StopState::new(since, mono(now));
        instance.record.stage = Stage::Stopping;
        instance.ask = Ask::Settled;
        instance.stop = Some(stop);
        instance.dirty = true;
        let busy = instance.record.boundary_open;
        if instance.held == stop.sends_log() {
            instance.held = !stop.sends_log();
            self.out.actions.push(Action::OpenLog { instance_id: id, send: stop.sends_log() });
        }
        self.log(id, 3, text.to_owned());
        if busy {
            self.out.actions.push(Action::StopProcessor { instance_id: id, reason: StopReason::Stopped });
        } else {
            self.boundary_is_empty(now, id);
        }
    }

    /// Nothing of the stopped instance runs any more: a remembered dispatch starts, or the rest of the log goes out.
    pub(super) fn boundary_is_empty(&mut self, now: Now, id: i64) {
        let draining = self.instances.get(&id).and_then(|i| i.stop).is_some_and(|stop| stop.is_draining());
        if draining || self.start_remembered(now, id) {
            return;
        }
        let Some(stop) = self.instances.get_mut(&id).and_then(|instance| instance.stop.as_mut()) else { return };
        if stop.drained {
            return self.close(id, "STOPPED");
        }
        let left = stop.log_until - mono(now);
        self.drain_stopped(id, left);
    }

    fn drain_stopped(&mut self, id: i64, limit: Mono) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let attempt = instance.record.attempt;
        let Some(stop) = instance.stop.as_mut() else { return };
        stop.drain_asked = true;
        let limit_ms = Some(u64::try_from(limit).unwrap_or(0));
        self.out.actions.push(Action::DrainLog { instance_id: id, attempt, limit_ms });
    }

    pub(super) fn stopped_log_sent(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let busy = instance.record.boundary_open;
        if let Some(stop) = instance.stop.as_mut() {
            stop.drained = true;
        }
        if !busy && !self.start_remembered(now, id) {
            self.close(id, "STOPPED");
        }
    }

    /// When the log of a stopped instance must not be sent any longer, or its drain should have been answered.
    pub(super) fn stopping_due(&self, instance: &Instance) -> Option<Mono> {
        let stop = instance.stop.as_ref().filter(|stop| !stop.drained && instance.record.stage == Stage::Stopping)?;
        Some(if stop.drain_asked { stop.log_until + DRAIN_SLACK } else { stop.log_until })
    }

    pub(super) fn empty_stopped(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get(&id) else { return };
        if self.stopping_due(instance).is_none_or(|at| at > mono(now)) {
            return;
        }
        if instance.stop.is_some_and(|stop| stop.drain_asked) {
            self.stopped_log_sent(now, id);
        } else {
            self.drain_stopped(id, 0);
        }
    }
}
