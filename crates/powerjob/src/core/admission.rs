//! What becomes of a `runJob`, and who gets a slot.

use std::sync::Arc;

use super::{
    api::{Action, Dispatch, InstanceRecord, Now, Stage},
    ask::Ask,
    bugs::bug,
    instance::{Instance, Mono, mono},
    machine::Core,
    stop::StopState,
    unserved,
};

/// A burst is over when no dispatch came for this long.
const BURST_GAP: Mono = 500;
/// A lane that stays full is told of after this time, however fast the dispatches come.
const BURST_LASTS: Mono = 10_000;

/// Whether all slots are taken, and whether the server is to know it.
///
/// What the server keeps back because of the flag it sends only 30 to 40 s later, although a slot may be free at once. So a
/// burst goes into the backlog as a whole, and the flag rises when it is over: no dispatch for half a second, or the backlog
/// is full, or ten seconds have passed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fullness {
    since: Option<Mono>,
    last_dispatch: Option<Mono>,
    told: bool,
}

/// What a new record of an id takes over from an earlier one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    last_report_time: i64,
    attempt: u32,
    ask: Ask,
}

impl Before {
    pub(super) fn of(instance: &Instance) -> Self {
        Self { last_report_time: instance.record.last_report_time, attempt: instance.record.attempt, ask: Ask::Settled }
    }

    /// The new dispatch was remembered by an instance that the server has not been asked about yet.
    pub(super) fn still_to_ask(mut self, ask: Ask) -> Self {
        self.ask = ask;
        self
    }
}

impl Core {
    pub(super) fn run_job(&mut self, now: Now, dispatch: Dispatch) {
        let id = dispatch.instance_id;
        self.fullness.last_dispatch = Some(mono(now));
        let before = match self.instances.get_mut(&id) {
            None if self.early_stops.contains(id, mono(now)) => return,
            None => self.closed.get(id).filter(|_| !bug!(ClosedForgotten)).map_or_else(Before::default, |closed| {
                Before { last_report_time: closed.last_report_time, attempt: closed.attempt, ask: Ask::Settled }
            }),
            Some(instance) => match &instance.record.stage {
                Stage::Queued | Stage::Running | Stage::Draining(_) => return self.dispatched_again(now, id),
                Stage::Reporting(report) if report.outcome.success && !bug!(SucceededRunsAgain) => {
                    return self.report_again(now, id);
                }
                Stage::Stopping if instance.is_emptied() => Before::of(instance),
                // Whoever drains the worker waits for its end, and not for another run behind it.
                Stage::Stopping if self.draining => return,
                Stage::Stopping => return instance.remember(dispatch),
                Stage::Reporting(_) if instance.last.waits_for_log.is_some() => {
                    // Its log is on its way to a new owner, and the next run's lines go the same way.
                    instance.stop = instance.last.waits_for_log.map(StopState::draining);
                    instance.record.stage = Stage::Stopping;
                    return instance.remember(dispatch);
                }
                Stage::Reporting(_) => Before::of(instance),
            },
        };
        if !self.has_room(dispatch.is_heavy()) {
            // Not kept: the report would be taken for the outcome of the dispatch that is refused here.
            if self.instances.get(&id).is_some_and(|i| matches!(i.record.stage, Stage::Reporting(_))) {
                self.close(id, "FAILED");
            }
            self.server.heartbeat_now(mono(now));
            return;
        }
        self.accept(now, dispatch, before);
    }

    fn has_room(&self, heavy: bool) -> bool {
        if self.draining || self.host_full {
            return false;
        }
        if heavy {
            // Without any place it is taken, to be refused with a text.
            return self.config.heavy == 0 || self.instances.heavy() < self.config.heavy;
        }
        let free_slot = self.slots_used() < self.config.slots && self.queued() == 0;
        free_slot || self.queued() < self.config.backlog
    }

    /// Takes a dispatch: starts it, queues it, or ends it when its kind is not served.
    pub(super) fn accept(&mut self, now: Now, dispatch: Dispatch, before: Before) {
        let id = dispatch.instance_id;
        let refused = unserved::reason(&dispatch, self.config.heavy);
        let seq = self.next_seq;
        self.next_seq += 1;
        let record = InstanceRecord {
            dispatch: Arc::new(dispatch),
            stage: Stage::Queued,
            attempt: before.attempt.saturating_add(1),
            retries_used: 0,
            received_at: now.wall_ms,
            started_at: None,
            last_report_time: before.last_report_time,
            seq,
            boundary_open: false,
            run_ms: 0,
            written_at: now.wall_ms,
            next: None,
        };
        let mut instance = Instance::new(record, mono(now));
        instance.ask = before.ask;
        instance.held = instance.ask != Ask::Settled;
        let (send, first_line) = (!instance.held, first_line(&instance));
        self.instances.insert(id, instance);
        self.out.actions.push(Action::OpenLog { instance_id: id, send });
        self.log(id, 2, first_line);
        if let Some(reason) = refused {
            self.finish(now, id, false, &reason, Default::default());
            return;
        }
        if self.instances.get(&id).is_some_and(|instance| instance.heavy) {
            self.start(now, id);
            return;
        }
        self.fill_slots(now);
        self.log_position(id);
    }

    /// Starts what waits longest in every free slot.
    pub(super) fn fill_slots(&mut self, now: Now) {
        while self.slots_used() < self.config.slots {
            let Some(id) = self.instances.first_queued() else { return };
            let Some(next) = self.instances.get(&id) else { return };
            if next.not_before.is_some_and(|at| at > mono(now)) && next.ask != Ask::Settled {
                return;
            }
            if let Some(next) = self.instances.get_mut(&id) {
                next.not_before = None;
            }
            self.start(now, id);
        }
    }

    /// Says in the log of a queued instance where it stands, when that has changed.
    pub(super) fn log_position(&mut self, id: i64) {
        let Some(position) = self.position(id) else { return };
        let slots = self.config.slots;
        let Some(instance) = self.instances.get_mut(&id).filter(|i| i.position_logged != Some(position)) else {
            return;
        };
        instance.position_logged = Some(position);
        self.log(
            id,
            2,
            format!("waiting for a slot: position {position} in the queue, all {slots} slots of this worker are busy"),
        );
    }

    /// Place in the backlog, 1 = next.
    pub(super) fn position(&self, id: i64) -> Option<usize> {
        let own = self.instances.get(&id).filter(|i| i.record.stage == Stage::Queued)?.record.seq;
        Some(self.instances.queued_up_to(own))
    }

    pub(super) fn slots_used(&self) -> usize {
        self.instances.slots_used()
    }

    pub(super) fn queued(&self) -> usize {
        self.instances.queued()
    }

    /// The heartbeat's flag: no slot is free and the burst that filled the last one is over, the host is full, no
    /// further instance with tasks has room, or nothing new is taken.
    pub(super) fn overload(&self) -> bool {
        let heavy_full = self.config.heavy > 0 && self.instances.heavy() >= self.config.heavy;
        self.draining || self.host_full || self.fullness.told || heavy_full
    }

    /// Sees whether all slots are taken, after everything else that is due.
    pub(super) fn note_fullness(&mut self, now: Now) {
        if self.slots_used() < self.config.slots {
            self.fullness = Fullness { last_dispatch: self.fullness.last_dispatch, ..Fullness::default() };
            return;
        }
        self.fullness.since.get_or_insert(mono(now));
        self.fullness.told |= self.fullness_due().is_some_and(|at| at <= mono(now));
    }

    /// When the server is to know that all slots are taken, unless it is already.
    pub(super) fn fullness_due(&self) -> Option<Mono> {
        let Fullness { since, last_dispatch, told } = self.fullness;
        let since = since.filter(|_| !told)?;
        if self.queued() >= self.config.backlog {
            return Some(since);
        }
        Some(last_dispatch.map_or(since, |last| (last + BURST_GAP).min(since + BURST_LASTS)))
    }
}

fn first_line(instance: &Instance) -> String {
    let Dispatch { instance_id, job_id, wf_instance_id, processor_info, task_retry_num, .. } = instance.dispatch();
    let workflow = wf_instance_id.map_or_else(String::new, |wf| format!(" in workflow instance {wf}"));
    let limit = instance.limit().map_or_else(|| "none".to_owned(), super::run::duration);
    let attempt = instance.record.attempt;
    format!(
        "instance {instance_id} of job {job_id}{workflow} accepted: processor `{processor_info}`, attempt {attempt}, time limit {limit}, \
         {task_retry_num} task retries"
    )
}
