//! What a restarted worker does with the records it finds.

use super::{
    api::{Action, InstanceRecord, Now, Stage},
    ask::Ask,
    bugs::bug,
    instance::{Instance, Mono, mono},
    machine::Core,
    run::start_processor,
    stop::StopState,
};
use crate::processor::StopReason;

/// A queued instance gives the server this long to say that it was stopped meanwhile, before it starts.
const QUEUED_WAITS: Mono = 5_000;
/// A run whose time limit passed while the worker was dead may have ended in time: it is given this long to say so.
const LAST_WORD: Mono = 3_000;

impl Core {
    pub(super) fn recover(&mut self, mut records: Vec<InstanceRecord>, now: Now) {
        records.sort_by_key(|record| record.seq);
        self.next_seq = records.last().map_or(0, |record| record.seq + 1);
        for record in records {
            let id = record.dispatch.instance_id;
            let instance = self.revive(record, now);
            self.instances.insert(id, instance);
            self.take_up(now, id);
        }
        self.fill_slots(now);
    }

    fn revive(&self, record: InstanceRecord, now: Now) -> Instance {
        // A wall clock that was set back between the two processes gives no negative times.
        let since = |wall_ms: i64| now.wall_ms.saturating_sub(wall_ms).max(0);
        let (received, written) = (since(record.received_at), since(record.written_at));
        let used = Mono::try_from(record.run_ms).unwrap_or(i64::MAX / 4).saturating_add(written);
        let never_reported =
            record.last_report_time <= self.closed.get(record.dispatch.instance_id).map_or(0, |c| c.last_report_time);
        let mut instance = Instance::new(record, mono(now));
        instance.dirty = false;
        instance.arrived = mono(now) - received;
        instance.dispatched = instance.arrived;
        let earliest = instance.limit().map_or(Mono::MIN, |limit| mono(now) + LAST_WORD - limit);
        instance.started = instance.record.started_at.map(|_| (mono(now) - used).max(earliest));
        instance.first_line = !never_reported;
        instance.running.next = mono(now);
        instance.running.sent = if never_reported { 0 } else { 2 };
        instance.held = true;
        instance.ask = if bug!(RestartNotAsked) { Ask::Settled } else { Ask::Due { at: mono(now), tries: 0 } };
        match &instance.record.stage {
            Stage::Queued => instance.not_before = Some(mono(now) + QUEUED_WAITS),
            Stage::Stopping => {
                let stop = StopState::new(Some(mono(now) - written), mono(now));
                instance.held = !stop.sends_log();
                instance.stop = Some(stop);
            }
            Stage::Reporting(report) => instance.last.since = mono(now) - since(report.outcome.end_time),
            Stage::Running | Stage::Draining(_) => {}
        }
        instance
    }

    /// Processors are taken up without waiting for the server; reports and log lines wait for its answer.
    fn take_up(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get(&id) else { return };
        let (send, attempt, busy) = (!instance.held, instance.record.attempt, instance.record.boundary_open);
        let resume = start_processor(instance, mono(now), true);
        let stage = instance.record.stage.clone();
        self.out.actions.push(Action::OpenLog { instance_id: id, send });
        match stage {
            Stage::Queued => self.log(id, 3, "the worker was restarted; the instance is still queued".to_owned()),
            Stage::Running => {
                self.log(id, 3, format!("the worker was restarted; taking up attempt {attempt}"));
                self.out.actions.push(resume);
            }
            Stage::Draining(_) => self.out.actions.push(Action::DrainLog { instance_id: id, attempt, limit_ms: None }),
            Stage::Reporting(_) => {}
            Stage::Stopping if busy => {
                self.log(id, 3, "the worker was restarted; emptying what the stopped instance left".to_owned());
                self.out.actions.push(resume);
                self.out.actions.push(Action::StopProcessor { instance_id: id, reason: StopReason::Stopped });
            }
            Stage::Stopping => self.boundary_is_empty(now, id),
        }
    }
}
