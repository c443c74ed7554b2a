//! A run: from its root task to its outcome.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use rusqlite::Result;

use super::{Action, Firing, Output, Tracker, bugs::bug, machine::json, spec::Firings, spec::Kind, state};
use crate::{
    core::Now,
    tasks::{
        api::{BROADCAST_TASK, LAST_TASK, ROOT_TASK},
        table::{NewTask, Row, Table},
    },
};

/// One run, as far as it must be known without reading its rows: no more than what is at workers.
pub(super) struct Run {
    pub(super) key: i64,
    pub(super) state: state::RunState,
    pub(super) changed: bool,
    /// Start on the monotonic clock, ms.
    pub(super) started: u64,
    /// Waiting tasks that may run anywhere.
    pub(super) free: i64,
    /// Waiting tasks whose place is fixed.
    pub(super) fixed: Vec<Row>,
    /// Tasks at workers, by id.
    pub(super) flights: HashMap<String, Flight>,
    /// Of waiting tasks that may be at a worker: when the last sending left that may have arrived, monotonic ms.
    pub(super) held: HashMap<String, u64>,
    /// The failure that a task is tried again after, until it has ended: its report may come once more.
    pub(super) retried: HashMap<String, LastFailure>,
    pub(super) total: i64,
    pub(super) succeeded: i64,
    pub(super) failed: i64,
}

/// By what a report of a failure is known again: the wire has no word for the try that it is about.
#[derive(Clone, Debug)]
pub(super) struct LastFailure {
    /// The worker that told it.
    pub(super) address: String,
    /// Time of the report.
    time: i64,
    /// Of its text.
    hash: u64,
    /// When it was counted, monotonic ms.
    pub(super) at: u64,
}

impl LastFailure {
    pub(super) fn of(address: &str, time: i64, text: &str, now: Now) -> Self {
        Self { address: address.to_owned(), time, hash: hash(text), at: now.mono_ms }
    }

    pub(super) fn is(&self, time: i64, text: &str) -> bool {
        self.time == time && self.hash == hash(text)
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A task at a worker.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) n: i64,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) failed: i32,
    pub(super) unanswered: i32,
    /// An earlier sending, which nobody answered, may have brought it there already.
    pub(super) held: bool,
    /// When the last one before this left that may have arrived, monotonic ms.
    pub(super) before: Option<u64>,
    /// The worker has acknowledged it.
    pub(super) received: bool,
    /// When it was sent, monotonic ms.
    pub(super) since: u64,
    pub(super) sending: u64,
    /// Newest report.
    pub(super) reported: i64,
}

impl Run {
    pub(super) fn waiting(&self) -> i64 {
        self.free + i64::try_from(self.fixed.len()).unwrap_or(0)
    }

    fn is_done(&self) -> bool {
        self.waiting() == 0 && self.flights.is_empty()
    }
}

impl Tracker {
    /// A new run with its root task, which stays at this worker.
    pub(super) fn add_run(&mut self, table: &Table<'_>, sub: i64, now: Now) -> Result<()> {
        let state = state::RunState { started_at: now.server_ms, last: false };
        let key = table.add_run(sub, &json(&state)?)?;
        let run = Run {
            key,
            state,
            changed: false,
            started: now.mono_ms,
            free: 0,
            fixed: Vec::new(),
            flights: HashMap::new(),
            held: HashMap::new(),
            retried: HashMap::new(),
            total: 0,
            succeeded: 0,
            failed: 0,
        };
        self.runs.insert(sub, run);
        let (id, own) = (self.spec.root_id(sub), self.spec.own.clone());
        self.add_fixed(table, sub, &id, ROOT_TASK, &own, now)
    }

    /// The root of a broadcast has succeeded: one task for every worker.
    pub(super) fn broadcast(&mut self, table: &Table<'_>, sub: i64, now: Now, out: &mut Output) -> Result<()> {
        let root = self.spec.root_id(sub);
        let addresses: Vec<String> = self.workers.keys().cloned().collect();
        for (i, address) in addresses.iter().enumerate() {
            self.add_fixed(table, sub, &format!("{root}.{i}"), BROADCAST_TASK, address, now)?;
        }
        out.info(format!("pre-processing has ended; one task for each of {} workers", addresses.len()));
        Ok(())
    }

    fn add_fixed(&mut self, table: &Table<'_>, sub: i64, id: &str, name: &str, address: &str, now: Now) -> Result<()> {
        let Some(run) = self.runs.get_mut(&sub) else { return Ok(()) };
        if table.add(run.key, &NewTask { id, name, content: None, address: Some(address) }, now.wall_ms)?
            && let Some(row) = table.find(run.key, id)?
        {
            run.fixed.push(row);
            run.total += 1;
        }
        Ok(())
    }

    /// Ends runs that are done, or leads them to their last task; ends those of frequent jobs whose time is over.
    pub(super) fn advance(&mut self, table: &Table<'_>, now: Now, out: &mut Output) -> Result<()> {
        let limit = u64::try_from(self.spec.info.instance_timeout_ms).unwrap_or(u64::MAX);
        let subs: Vec<i64> = self.runs.keys().copied().collect();
        for sub in subs {
            let Some(run) = self.runs.get(&sub) else { continue };
            let early = bug!(self, LastTooEarly) && !run.state.last && run.waiting() == 0;
            if run.is_done() || early {
                if self.spec.has_last() && !run.state.last {
                    self.add_last(table, sub, now, out)?;
                } else {
                    let (success, result) = self.outcome(table, sub)?;
                    self.end_run(table, sub, success, result, now, out)?;
                }
            } else if self.spec.firings.is_some() && now.mono_ms.saturating_sub(run.started) > limit {
                self.end_run(table, sub, false, "RUNNING_TIMEOUT".to_owned(), now, out)?;
            }
        }
        Ok(())
    }

    fn add_last(&mut self, table: &Table<'_>, sub: i64, now: Now, out: &mut Output) -> Result<()> {
        let (id, own) = (self.spec.last_id(sub), self.spec.own.clone());
        self.add_fixed(table, sub, &id, LAST_TASK, &own, now)?;
        if let Some(run) = self.runs.get_mut(&sub) {
            run.state.last = true;
            run.changed = true;
            let step = if self.spec.kind == Kind::Broadcast { "post-processing" } else { "reduce" };
            if self.spec.firings.is_none() {
                out.info(format!("{} tasks have ended, {} failed; {step} begins", run.total - 1, run.failed));
            }
        }
        Ok(())
    }

    fn outcome(&self, table: &Table<'_>, sub: i64) -> Result<(bool, String)> {
        let Some(run) = self.runs.get(&sub) else { return Ok((false, String::new())) };
        let decides = match self.spec.kind {
            Kind::Map => {
                let text = format!("total:{},succeed:{},failed:{}", run.total, run.succeeded, run.failed);
                return Ok((run.failed == 0, text));
            }
            Kind::Standalone => self.spec.root_id(sub),
            Kind::Broadcast | Kind::MapReduce => self.spec.last_id(sub),
        };
        Ok(match table.find(run.key, &decides)? {
            Some(row) => (row.status == crate::tasks::api::TaskStatus::Succeeded, row.result.unwrap_or_default()),
            None => (false, "LAUNCH_FAILED".to_owned()),
        })
    }

    fn end_run(
        &mut self,
        table: &Table<'_>,
        sub: i64,
        success: bool,
        result: String,
        now: Now,
        out: &mut Output,
    ) -> Result<()> {
        if self.spec.firings.is_none() {
            self.say_who_did_what(out);
            return self.finish(table, success, result, false, out);
        }
        let Some(run) = self.runs.remove(&sub) else { return Ok(()) };
        for flight in run.flights.values() {
            if let Some(worker) = self.workers.get_mut(&flight.address) {
                worker.gone();
            }
        }
        if table.end_run(run.key, run.total)? {
            out.actions.push(Action::Sweep);
        }
        if let Some(Firings::Delay(interval)) = self.spec.firings {
            self.next_firing = Some(now.mono_ms + interval);
        }
        self.fired(sub, run.state.started_at, success, result, now, out);
        Ok(())
    }

    /// A run of a frequent job has ended.
    pub(super) fn fired(
        &mut self,
        sub: i64,
        started_at: i64,
        success: bool,
        result: String,
        now: Now,
        out: &mut Output,
    ) {
        if success {
            self.state.succeeded += 1;
        } else {
            self.state.failed += 1;
            out.warn(format!("firing {sub} failed: {result}"));
            self.alarm.failed(&mut self.state.alarm, &result, now.wall_ms);
        }
        let finished_at = Some(now.server_ms);
        self.state.history.push_back(Firing { sub, started_at, finished_at, success: Some(success), result });
        while self.state.history.len() > state::HISTORY {
            self.state.history.pop_front();
        }
        self.changed = true;
    }

    fn say_who_did_what(&self, out: &mut Output) {
        let done: Vec<String> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.done > 0)
            .map(|(address, worker)| format!("{address}: {}", worker.done))
            .collect();
        out.info(format!("all tasks have ended; tasks by worker: {}", done.join(", ")));
    }
}
