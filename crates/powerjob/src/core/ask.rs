//! Asking the server what it thinks of an instance. It tells a stop only once, so whoever may have missed it asks before
//! it reports: a late RUNNING turns STOPPED back into RUNNING.

use super::{
    api::{Action, InstanceInfo, Now, Stage},
    instance::{ANSWER_LIMIT, Instance, Mono, mono},
    machine::Core,
};

/// After so many attempts without an answer the instance is reported again.
const TRIES: u32 = 5;
/// The server stores a dispatch only after it was sent, so this soon the row may still look as before.
const DISPATCH_STORED: Mono = 5_000;
/// Between attempts.
const RETRY: Mono = 1_000;

/// Whether the server must be asked before the instance is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ask {
    /// No.
    #[default]
    Settled,
    /// Yes, not before `at`.
    Due { at: Mono, tries: u32 },
    /// The question is under way.
    InFlight { since: Mono, tries: u32 },
}

impl Ask {
    pub(super) fn retry_now(&mut self, now: Mono) {
        if let Self::Due { .. } = self {
            *self = Self::Due { at: now, tries: 0 };
        }
    }
}

impl Core {
    pub(super) fn ask_due(&self, instance: &Instance) -> Option<Mono> {
        // While heartbeats fail the answer would be old by the time that reports get through.
        if self.server.owner.is_none() || self.server.heartbeats_fail() || instance.record.stage == Stage::Stopping {
            return None;
        }
        match instance.ask {
            Ask::Settled => None,
            Ask::Due { at, .. } => Some(at),
            Ask::InFlight { since, .. } => Some(since + ANSWER_LIMIT),
        }
    }

    pub(super) fn ask_if_due(&mut self, now: Now, id: i64) {
        let due = self.instances.get(&id).and_then(|i| self.ask_due(i)).is_some_and(|at| at <= mono(now));
        let Some(instance) = self.instances.get_mut(&id).filter(|_| due) else { return };
        let (Ask::Due { tries, .. } | Ask::InFlight { tries, .. }) = instance.ask else { return };
        instance.ask = Ask::InFlight { since: mono(now), tries };
        self.out.actions.push(Action::AskInstanceInfo(id));
    }

    pub(super) fn instance_info(&mut self, now: Now, id: i64, info: Result<Option<InstanceInfo>, String>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Ask::InFlight { tries, .. } = instance.ask else { return };
        let tracks = instance.heavy && instance.record.stage == Stage::Running;
        match info {
            Ok(Some(info)) if is_to_be_dispatched_anew(&info) && mono(now) - instance.dispatched < DISPATCH_STORED => {
                instance.ask = Ask::Due { at: mono(now) + RETRY, tries };
            }
            Ok(Some(info)) if is_unwanted(&info, &self.config.address, tracks) || is_to_be_dispatched_anew(&info) => {
                self.stop_found(now, id, &info);
            }
            Ok(_) => self.settle(now, id),
            Err(_) if tries + 1 < TRIES => {
                instance.ask = Ask::Due { at: mono(now) + RETRY, tries: tries + 1 };
            }
            Err(why) => {
                self.warn(format!(
                    "could not ask the server whether instance {id} was stopped meanwhile ({TRIES} attempts, the last: {why}); \
                     going on with it"
                ));
                self.settle(now, id);
            }
        }
    }

    /// The server wants the instance: its log flows and it is reported at once.
    pub(super) fn settle(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.ask != Ask::Settled {
            instance.ask = Ask::Settled;
            instance.running.next = mono(now);
        }
        instance.not_before = None;
        if instance.held && instance.is_live() {
            instance.held = false;
            self.out.actions.push(Action::OpenLog { instance_id: id, send: true });
        }
    }

    /// Whoever may have missed a stop is asked for before it is reported, and its log is held till then.
    pub(super) fn ask_for_all(&mut self, now: Now) {
        for instance in self.instances.values_mut() {
            if let Ask::Settled = instance.ask {
                instance.ask = Ask::Due { at: mono(now), tries: 0 };
            }
            if instance.is_live() && !instance.held {
                instance.held = true;
                self.out
                    .actions
                    .push(Action::OpenLog { instance_id: instance.record.dispatch.instance_id, send: false });
            }
        }
    }
}

/// Whether the server waits for nothing (more) from the worker with the given address. A single run that the server has given
/// up as lost still tells how it ended; a tracker ends, because all its tasks may run again under another.
fn is_unwanted(info: &InstanceInfo, address: &str, tracks: bool) -> bool {
    const FAILED: i32 = 4;
    const CANCELED: i32 = 9;
    const STOPPED: i32 = 10;
    let elsewhere = info.task_tracker_address.as_deref().is_some_and(|other| !other.is_empty() && other != address);
    matches!(info.status, CANCELED | STOPPED) || (tracks && info.status == FAILED) || elsewhere
}

/// Whether the row waits for a dispatch and belongs to no worker: somebody has retried the finished instance by hand. Reports of the
/// earlier run would be acknowledged and dropped, and the dispatch may go to another worker.
fn is_to_be_dispatched_anew(info: &InstanceInfo) -> bool {
    const WAITING_DISPATCH: i32 = 1;
    info.status == WAITING_DISPATCH && info.task_tracker_address.as_deref().is_none_or(str::is_empty)
}
