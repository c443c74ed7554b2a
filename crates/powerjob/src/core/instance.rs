//! One open instance: its record and what need not survive a restart.

use super::{
    api::{Dispatch, InstanceRecord, Now, Stage, TaskCounts},
    ask::Ask,
    bugs::bug,
    report::{FinalReports, RunningReports},
    stop::StopState,
};

/// Milliseconds on the monotonic clock. Signed, because a recovered instance may have begun before the clock's origin.
pub(super) type Mono = i64;

/// The monotonic part of a moment.
pub(super) fn mono(now: Now) -> Mono {
    i64::try_from(now.mono_ms).unwrap_or(i64::MAX / 4)
}

/// A request that was sent at `0` and not answered yet counts as lost after this time, should a driver forget to answer.
pub(super) const ANSWER_LIMIT: Mono = 30_000;

#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) record: InstanceRecord,
    /// It consists of tasks: what runs for it is a task tracker, which takes no slot.
    pub(super) heavy: bool,
    /// The record must be written before the actions of this output.
    pub(super) dirty: bool,
    /// Arrival of the dispatch that it began with.
    pub(super) arrived: Mono,
    /// Arrival of the newest dispatch, duplicates included: the server may not have stored it yet.
    pub(super) dispatched: Mono,
    /// Start of the run, moved back by what it had used before a restart.
    pub(super) started: Option<Mono>,
    /// The processor was told that its time is over.
    pub(super) timed_out: bool,
    /// The processor was told that the worker ends.
    pub(super) cancelled: bool,
    /// The server has the first log line.
    pub(super) first_line: bool,
    /// The log's server sink is held.
    pub(super) held: bool,
    /// What its task tracker counted in the end.
    pub(super) tasks: Option<TaskCounts>,
    pub(super) running: RunningReports,
    pub(super) last: FinalReports,
    pub(super) ask: Ask,
    pub(super) stop: Option<StopState>,
    /// A queued instance of a restarted worker gives the server this long to say that it was stopped.
    pub(super) not_before: Option<Mono>,
    /// The place in the backlog that its log last spoke of.
    pub(super) position_logged: Option<usize>,
}

impl Instance {
    /// An instance that was just dispatched.
    pub(super) fn new(record: InstanceRecord, now: Mono) -> Self {
        Self {
            heavy: record.dispatch.is_heavy(),
            record,
            dirty: true,
            arrived: now,
            dispatched: now,
            started: None,
            timed_out: false,
            cancelled: false,
            first_line: false,
            held: false,
            tasks: None,
            running: RunningReports::default(),
            last: FinalReports::default(),
            ask: Ask::Settled,
            stop: None,
            not_before: None,
            position_logged: None,
        }
    }

    pub(super) fn id(&self) -> i64 {
        self.record.dispatch.instance_id
    }

    pub(super) fn dispatch(&self) -> &Dispatch {
        &self.record.dispatch
    }

    /// The time limit, when there is one. That of a frequent job is for each of its sub-instances.
    pub(super) fn limit(&self) -> Option<Mono> {
        let dispatch = self.dispatch();
        let limit = dispatch.timeout_ms.filter(|ms| *ms > 0 && !dispatch.is_frequent());
        limit.map(|ms| Mono::try_from(ms).unwrap_or(i64::MAX / 4))
    }

    /// When the time limit is over, once the run has started.
    pub(super) fn deadline(&self) -> Option<Mono> {
        Some(self.started?.saturating_add(self.limit()?))
    }

    /// What is left of the time limit.
    pub(super) fn time_left(&self, now: Mono) -> Option<u64> {
        let limit = self.limit()?;
        let left = self.deadline().map_or(limit, |deadline| deadline.saturating_sub(now));
        Some(u64::try_from(left).unwrap_or(0))
    }

    /// A `reportTime` greater than every one before, the server's time where that is possible.
    pub(super) fn next_report_time(&mut self, server_ms: i64) -> i64 {
        let least = if bug!(WallClockReports) { 0 } else { self.record.last_report_time.saturating_add(1) };
        let time = server_ms.max(least);
        self.record.last_report_time = time;
        self.dirty = true;
        time
    }

    /// Whether a processor holds a slot for it.
    pub(super) fn holds_slot(&self) -> bool {
        self.record.boundary_open && !self.heavy
    }

    /// Whether nothing runs of a stopped instance, and nothing of its log is on its way.
    pub(super) fn is_emptied(&self) -> bool {
        (!self.record.boundary_open || bug!(StopNotAwaited)) && self.stop.is_none_or(|stop| !stop.is_draining())
    }

    /// Keeps a dispatch that came too soon.
    pub(super) fn remember(&mut self, dispatch: Dispatch) {
        self.record.next = Some(Box::new(dispatch));
        self.ask = Ask::Settled;
        self.dirty = true;
    }

    /// Whether RUNNING is what the server should hear of it.
    pub(super) fn is_live(&self) -> bool {
        let stopping = bug!(StopIsNotSilence) && self.record.stage == Stage::Stopping;
        stopping || matches!(self.record.stage, Stage::Queued | Stage::Running | Stage::Draining(_))
    }
}
