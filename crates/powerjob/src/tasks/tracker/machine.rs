//! The tracker itself: what it holds, how an event reaches it, when it wants to be woken.

use std::collections::BTreeMap;

use rusqlite::Result;

use super::{
    Action, Answer, End, Event, Firing, Output, Spec,
    alarm::AlarmRule,
    run::Run,
    state::State,
    workers::{Worker, Workers},
};
use crate::{
    core::Now,
    processor::StopReason,
    tasks::{api::Progress, table::Table},
};

/// Workers and unacknowledged tasks are looked at as often, ms.
pub(super) const REPAIR_MS: u64 = 1_000;

/// Owns one instance.
pub(crate) struct Tracker {
    pub(super) spec: Spec,
    pub(super) state: State,
    /// The state differs from its row.
    pub(super) changed: bool,
    /// Runs that have not ended, by the number of their firing (ordinary instances: by the instance's id).
    pub(super) runs: BTreeMap<i64, Run>,
    pub(super) workers: Workers,
    pub(super) sendings: u64,
    /// Where the next task of many goes.
    pub(super) turn: usize,
    pub(super) alarm: AlarmRule,
    /// All on the monotonic clock, ms.
    pub(super) next_repair: u64,
    pub(super) next_detect: u64,
    pub(super) next_progress: u64,
    pub(super) next_firing: Option<u64>,
    pub(super) told: (i64, i64, i64),
    pub(super) paused: bool,
    pub(super) stranded: bool,
}

impl Tracker {
    /// A tracker of a new instance, with its root task stored.
    ///
    /// # Errors
    /// The table's.
    pub(crate) fn start(spec: Spec, table: &Table<'_>, now: Now, out: &mut Output) -> Result<Self> {
        table.forget()?;
        let state = State {
            attempt: spec.attempt,
            started_at: now.server_ms,
            workers: spec.workers.clone(),
            ..State::default()
        };
        let mut tracker = Self::with(spec, state, now);
        tracker.changed = true;
        let several = if tracker.workers.len() == 1 { "" } else { "s" };
        let list = tracker.workers.keys().cloned().collect::<Vec<_>>().join(", ");
        out.info(format!("{} with {} worker{several}: {list}", tracker.spec.info.execute_type, tracker.workers.len()));
        if tracker.spec.firings.is_some() {
            tracker.next_firing = Some(now.mono_ms);
        } else {
            let sub = tracker.spec.info.instance_id;
            tracker.add_run(table, sub, now)?;
        }
        out.actions.push(Action::Sweep);
        Ok(tracker)
    }

    pub(super) fn with(spec: Spec, state: State, now: Now) -> Self {
        let interval = match spec.firings {
            Some(super::spec::Firings::Rate(ms, _) | super::spec::Firings::Delay(ms)) => ms,
            None => 0,
        };
        Self {
            alarm: AlarmRule::new(spec.alarm.as_deref(), interval),
            workers: state.workers.iter().map(|address| (address.clone(), Worker::default())).collect(),
            changed: false,
            runs: BTreeMap::new(),
            // Above those of a tracker of this process that was thrown away.
            sendings: now.mono_ms << 20,
            turn: 0,
            next_repair: now.mono_ms + REPAIR_MS,
            next_detect: now.mono_ms + spec.options.detect_ms,
            next_progress: now.mono_ms + spec.options.progress_ms,
            next_firing: None,
            told: (0, 0, 0),
            paused: false,
            stranded: false,
            spec,
            state,
        }
    }

    /// Takes one event in; [`Tracker::settle`] follows once for all of them.
    ///
    /// # Errors
    /// The table's.
    pub(crate) fn handle(&mut self, table: &Table<'_>, now: Now, event: Event, out: &mut Output) -> Result<Answer> {
        if self.state.end.is_some() {
            // Whoever reports to an ended instance must not repeat it.
            return Ok(Ok(()));
        }
        match event {
            Event::Report(report) => return self.report(table, now, report, out),
            Event::Worker(report) => self.worker_report(table, now, &report, out)?,
            Event::Map(map) => return self.map(table, now, &map, out),
            Event::StartFailed { ticket, error } => self.start_failed(table, now, &ticket, &error, out)?,
            Event::Cluster(answer) => self.cluster(answer, out),
            Event::Stop(reason) => self.stop(table, now, reason, out)?,
            Event::AlertTaken => {
                self.state.alarm.waiting = None;
                self.changed = true;
            }
            Event::AlertBack(text) => {
                self.state.alarm.waiting.get_or_insert(text);
                self.changed = true;
            }
        }
        Ok(Ok(()))
    }

    /// Does what follows from the events and from the time: repairs, firings, ends of runs, dispatches. Then the rows are
    /// true again.
    ///
    /// `server_silent_ms` says for how long no server was reachable, 0 while one is.
    ///
    /// # Errors
    /// The table's.
    pub(crate) fn settle(
        &mut self,
        table: &Table<'_>,
        now: Now,
        server_silent_ms: u64,
        out: &mut Output,
    ) -> Result<()> {
        if self.state.end.is_none() {
            self.repair(table, now, out)?;
            self.fire(table, now, server_silent_ms, out)?;
            self.advance(table, now, out)?;
        }
        if self.state.end.is_none() {
            self.dispatch(table, now, out)?;
            self.tell_progress(now, out);
        }
        for run in self.runs.values_mut().filter(|run| run.changed) {
            table.put_run(run.key, &json(&run.state)?)?;
            run.changed = false;
        }
        if self.changed && self.state.end.as_ref().is_none_or(|end| !end.stopped) {
            let ended = self.state.end.as_ref().map(|_| now.wall_ms);
            table.put_tracker(&json(&self.state)?, ended)?;
        }
        self.changed = false;
        Ok(())
    }

    /// When [`Tracker::settle`] must be called at the latest, monotonic ms.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        if self.state.end.is_some() {
            return None;
        }
        let repair = (!self.runs.is_empty()).then_some(self.next_repair);
        let detect = self.spec.detects().then_some(self.next_detect);
        [repair, detect, self.next_firing].into_iter().flatten().min()
    }

    /// Tasks (or firings) in all, succeeded, failed; and the alarm that waits.
    pub(crate) fn progress(&self) -> Progress {
        let (total, succeeded, failed) = self.numbers();
        Progress { total, succeeded, failed, alert: self.state.alarm.waiting.clone() }
    }

    /// Ended runs of a frequent job and those at work, newest first, no more than ten.
    pub(crate) fn firings(&self) -> Vec<Firing> {
        let running = self.runs.iter().rev().map(|(&sub, run)| Firing {
            sub,
            started_at: run.state.started_at,
            finished_at: None,
            success: None,
            result: String::new(),
        });
        let mut firings: Vec<Firing> = running.chain(self.state.history.iter().rev().cloned()).collect();
        firings.sort_by_key(|firing| std::cmp::Reverse(firing.sub));
        firings.truncate(super::state::HISTORY);
        firings
    }

    /// Tasks that wait, were sent, are at work.
    pub(crate) fn stages(&self) -> (i64, i64, i64) {
        let mut stages = (0, 0, 0);
        for run in self.runs.values() {
            stages.0 += run.waiting();
            for flight in run.flights.values() {
                if flight.received { stages.2 += 1 } else { stages.1 += 1 }
            }
        }
        stages
    }

    /// When the instance began, epoch ms.
    pub(crate) fn started_at(&self) -> i64 {
        self.state.started_at
    }

    /// Whether it is a FIXED_RATE or FIXED_DELAY job.
    pub(crate) fn is_frequent(&self) -> bool {
        self.spec.firings.is_some()
    }

    /// Keys of the runs that have not ended.
    pub(crate) fn run_keys(&self) -> Vec<i64> {
        self.runs.values().map(|run| run.key).collect()
    }

    /// Workers that may have tasks of the instance or a place for them.
    pub(crate) fn used_workers(&self) -> &[String] {
        &self.state.used
    }

    /// How it ended, if it has.
    pub(crate) fn end(&self) -> Option<&End> {
        self.state.end.as_ref()
    }

    pub(super) fn numbers(&self) -> (i64, i64, i64) {
        if self.spec.firings.is_some() {
            return (self.state.firings, self.state.succeeded, self.state.failed);
        }
        match (&self.state.end, self.runs.values().next()) {
            (Some(end), _) => end.counts,
            (None, Some(run)) => (run.total, run.succeeded, run.failed),
            (None, None) => (0, 0, 0),
        }
    }

    fn stop(&mut self, table: &Table<'_>, now: Now, reason: StopReason, out: &mut Output) -> Result<()> {
        match reason {
            StopReason::Stopped => {
                self.finish(table, false, why_it_ends(reason).to_owned(), true, out)?;
                table.forget()
            }
            StopReason::Cancelled => {
                out.warn("the worker's operator ends the worker and its instances".to_owned());
                self.finish(table, false, why_it_ends(reason).to_owned(), false, out)
            }
            StopReason::TimedOut => {
                let ran = now.server_ms - self.state.started_at;
                out.warn(format!("the time limit of the instance has passed after {} s", ran / 1000));
                self.finish(table, false, why_it_ends(reason).to_owned(), false, out)
            }
        }
    }

    /// The instance has ended.
    pub(super) fn finish(
        &mut self,
        table: &Table<'_>,
        success: bool,
        result: String,
        stopped: bool,
        out: &mut Output,
    ) -> Result<()> {
        let (success, result, context) = match &self.state.context_too_long {
            // The nodes behind this one would go on without what it was to tell them.
            Some(why) => {
                let ended = if success { "succeeded" } else { "failed" };
                (false, format!("{why}. The run itself {ended}: {result}"), Default::default())
            }
            None => (success, result, self.state.context.clone()),
        };
        let end = End { success, result, stopped, counts: self.numbers(), context };
        for (_, run) in std::mem::take(&mut self.runs) {
            table.end_run(run.key, run.total)?;
        }
        self.state.end = Some(end.clone());
        self.changed = true;
        out.actions.push(Action::Sweep);
        out.actions.push(Action::Finish(end));
        Ok(())
    }

    fn tell_progress(&mut self, now: Now, out: &mut Output) {
        if now.mono_ms < self.next_progress {
            return;
        }
        self.next_progress = now.mono_ms + self.spec.options.progress_ms;
        let numbers = self.numbers();
        if numbers == std::mem::replace(&mut self.told, numbers) {
            return;
        }
        let (total, succeeded, failed) = numbers;
        if self.spec.firings.is_some() {
            out.info(format!("{total} firings: {succeeded} succeeded, {failed} failed, {} running", self.runs.len()));
            return;
        }
        let (waiting, sent, running) = self.stages();
        let at_work = self.workers.values().filter(|worker| worker.in_flight > 0).count();
        out.info(format!(
            "{} of {total} tasks have ended ({failed} failed), {waiting} wait, {} are at {at_work} workers",
            succeeded + failed,
            sent + running
        ));
    }
}

/// Result text of an instance that ends because it is told to. The text for a time limit is the Java worker's.
pub(crate) fn why_it_ends(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Stopped => "stopped",
        StopReason::Cancelled => "its tasks were told to end",
        StopReason::TimedOut => "instance execute timeout",
    }
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|why| rusqlite::Error::ToSqlConversionFailure(Box::new(why)))
}
