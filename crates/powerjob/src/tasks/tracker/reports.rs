//! What workers say of their tasks.

use std::collections::BTreeMap;

use rusqlite::Result;

use super::{
    Answer, Output, Tracker,
    bugs::bug,
    run::{LastFailure, Run},
    spec::Kind,
};
use crate::{
    core::Now,
    tasks::{
        api::{BROADCAST_TASK, LAST_TASK, PeerError, ROOT_TASK, ReportTask, ReportWorker, TaskStatus},
        table::Table,
    },
};

/// `type` of a worker's report.
const IDLE: i32 = 1;
/// So long a failure that came twice is not taken for one of the next try.
const TOLD_AGAIN_MS: u64 = 60_000;

impl Run {
    /// Whether this looks like the failure once more that the task is tried again after: a worker that was restarted, or missed
    /// the answer, sends it again, and it says nothing of the try that another one has by now. Workers with clocks that go wrong may mean
    /// another one by it: they repeat what was not taken, and after [`TOLD_AGAIN_MS`] it counts. From the same worker it counts
    /// always: its own next report would otherwise wait behind this one.
    fn is_told_again(&self, report: &ReportTask, now: Now) -> bool {
        let id = &report.task_id;
        let (Some(counted), Some(flight)) = (self.retried.get(id), self.flights.get(id)) else { return false };
        counted.is(report.report_time, report.result.as_deref().unwrap_or_default())
            && counted.address != flight.address
            && now.mono_ms.saturating_sub(counted.at) < TOLD_AGAIN_MS
            && (!flight.received || flight.reported >= report.report_time)
    }
}

impl Tracker {
    pub(super) fn report(
        &mut self,
        table: &Table<'_>,
        now: Now,
        report: ReportTask,
        out: &mut Output,
    ) -> Result<Answer> {
        let Some(status) = TaskStatus::of(report.status).filter(|&status| status >= TaskStatus::Received) else {
            return Ok(Err(PeerError::Refused(format!(
                "task {} is reported with status {}; 3 to 6 are accepted",
                report.task_id, report.status
            ))));
        };
        let sub = self.sub_of(report.sub_instance_id);
        let Some(run) = self.runs.get_mut(&sub) else { return Ok(Ok(())) };
        let id = report.task_id.as_str();
        if status == TaskStatus::Failed && run.is_told_again(&report, now) {
            return Ok(Err(PeerError::Refused(format!(
                "this failure of task {id} counts already, and the task is tried again: say it once more if it is another one"
            ))));
        }
        if let Some(flight) = run.flights.get_mut(id) {
            let address = flight.address.clone();
            let old = flight.reported > report.report_time;
            flight.reported = flight.reported.max(report.report_time);
            let own = address == self.spec.own;
            if !status.is_final() {
                if !std::mem::replace(&mut flight.received, true) && !own {
                    // Of its own worker a restarted tracker knows anyway that nothing is at work.
                    table.received(flight.n, now.wall_ms)?;
                }
                if let Some(worker) = self.workers.get_mut(&address) {
                    worker.heard(now.mono_ms, report.report_time);
                }
                return Ok(Ok(()));
            }
            if old && bug!(self, OldFinalDropped) {
                return Ok(Ok(()));
            }
            if let Some(worker) = self.workers.get_mut(&address) {
                worker.heard(now.mono_ms, report.report_time);
                worker.ended(now.mono_ms);
            }
        } else if !self.still_counts(table, sub, id, status)? {
            return Ok(Ok(()));
        }
        if let Some(context) = report.appended_wf_context {
            self.append(context, id, out);
        }
        let text = report.result.unwrap_or_default();
        let succeeded = status == TaskStatus::Succeeded;
        if succeeded || report.rejected {
            self.end_task(table, sub, id, succeeded, &text, report.report_time, now, out)?;
        } else {
            self.attempt_failed(table, sub, id, &text, report.report_time, now, out)?;
        }
        Ok(Ok(()))
    }

    /// The run that a report means: old workers leave the number out where there is only one.
    pub(super) fn sub_of(&self, sub: i64) -> i64 {
        if self.spec.firings.is_none() { self.spec.info.instance_id } else { sub }
    }

    /// Whether the end of a task that is at no worker counts: it was taken back, waits, and has succeeded after all.
    fn still_counts(&mut self, table: &Table<'_>, sub: i64, id: &str, status: TaskStatus) -> Result<bool> {
        let twice = bug!(self, EndedTwice);
        let Some(run) = self.runs.get_mut(&sub).filter(|_| status.is_final()) else { return Ok(false) };
        let Some(row) = table.find(run.key, id)? else { return Ok(false) };
        if twice && row.status.is_final() {
            run.free += 1;
        }
        if !(row.status == TaskStatus::WaitingDispatch && status == TaskStatus::Succeeded
            || twice && row.status.is_final())
        {
            return Ok(false);
        }
        Ok(true)
    }

    /// An execution failed: once more, or the task has failed.
    #[expect(clippy::too_many_arguments, reason = "a task's end with the moment and the place where it is written")]
    pub(super) fn attempt_failed(
        &mut self,
        table: &Table<'_>,
        sub: i64,
        id: &str,
        text: &str,
        reported: i64,
        now: Now,
        out: &mut Output,
    ) -> Result<()> {
        let retries = self.spec.retries;
        let counted = !bug!(self, RetriesUncounted);
        let run = self.runs.get_mut(&sub);
        if let Some(run) = run
            && let Some(flight) = run.flights.get_mut(id)
            && flight.failed < retries
        {
            flight.failed += i32::from(counted);
            run.retried.insert(id.to_owned(), LastFailure::of(&flight.address, reported, text, now));
            out.warn(format!(
                "task {id} failed on {} and is tried again ({} of {retries}): {}",
                flight.address,
                flight.failed,
                short(text)
            ));
            return self.back(table, sub, id, now);
        }
        self.end_task(table, sub, id, false, text, reported, now, out)
    }

    /// A task waits again: the root, the last and those of a broadcast where they were, others anywhere.
    pub(super) fn back(&mut self, table: &Table<'_>, sub: i64, id: &str, now: Now) -> Result<()> {
        let flight = self.runs.get(&sub).and_then(|run| run.flights.get(id));
        let Some(stays) = flight.map(|flight| self.stays(&flight.name)) else { return Ok(()) };
        let cut = self.state.cut.contains(&(sub, id.to_owned()));
        self.wait_again(table, sub, id, stays || cut, now)
    }

    /// Whether tasks of this name have a place that nobody else may take.
    pub(super) fn stays(&self, name: &str) -> bool {
        self.spec.kind == Kind::Broadcast || matches!(name, ROOT_TASK | LAST_TASK | BROADCAST_TASK)
    }

    /// A task waits again, where it was or anywhere.
    pub(super) fn wait_again(&mut self, table: &Table<'_>, sub: i64, id: &str, stays: bool, now: Now) -> Result<()> {
        let Some(run) = self.runs.get_mut(&sub) else { return Ok(()) };
        let Some(flight) = run.flights.remove(id) else { return Ok(()) };
        let address = stays.then_some(flight.address.as_str());
        table.back(flight.n, address, flight.failed, flight.unanswered, now.wall_ms)?;
        if !stays {
            run.free += 1;
        } else if let Some(row) = table.find(run.key, id)? {
            run.fixed.push(row);
        }
        if let Some(worker) = self.workers.get_mut(&flight.address) {
            worker.gone();
        }
        Ok(())
    }

    /// A task has ended for good, from wherever it was.
    #[expect(clippy::too_many_arguments, reason = "a task's end with the moment and the place where it is written")]
    pub(super) fn end_task(
        &mut self,
        table: &Table<'_>,
        sub: i64,
        id: &str,
        success: bool,
        text: &str,
        reported: i64,
        now: Now,
        out: &mut Output,
    ) -> Result<()> {
        let kind = self.spec.kind;
        let Some(run) = self.runs.get_mut(&sub) else { return Ok(()) };
        run.retried.remove(id);
        let (n, name, place) = if let Some(flight) = run.flights.remove(id) {
            if let Some(worker) = self.workers.get_mut(&flight.address) {
                worker.gone();
            }
            (flight.n, flight.name, flight.address)
        } else {
            let Some(row) = table.find(run.key, id)? else { return Ok(()) };
            let fixed = run.fixed.len();
            run.fixed.retain(|waiting| waiting.n != row.n);
            if run.fixed.len() == fixed {
                run.free -= 1;
            }
            (row.n, row.name, row.address.unwrap_or_default())
        };
        // The results of a MAP are read by nobody (5.3).
        let kept = if kind == Kind::Map && success { "" } else { text };
        table.ended(n, success, kept, reported, now.wall_ms)?;
        if success {
            run.succeeded += 1;
            if kind == Kind::Broadcast && name == ROOT_TASK {
                self.broadcast(table, sub, now, out)?;
            }
        } else {
            run.failed += 1;
            if self.spec.firings.is_none() {
                out.warn(format!("task {id} failed on {place}: {}", short(text)));
            }
        }
        Ok(())
    }

    fn append(&mut self, new: BTreeMap<String, String>, id: &str, out: &mut Output) {
        if self.spec.info.wf_instance_id.is_none() || new.is_empty() {
            return;
        }
        let mut merged = self.state.context.clone();
        merged.extend(new);
        match crate::core::check_context(&merged, self.spec.options.context_limit) {
            Ok(()) => {
                self.state.context = merged;
                self.changed = true;
            }
            Err(too_long) => {
                let text = format!("with what task {id} appends, {too_long}");
                out.warn(text.clone());
                if self.state.context_too_long.is_none() {
                    self.state.context_too_long = Some(text);
                    self.changed = true;
                }
            }
        }
    }

    pub(super) fn worker_report(
        &mut self,
        table: &Table<'_>,
        now: Now,
        report: &ReportWorker,
        out: &mut Output,
    ) -> Result<()> {
        let address = report.address.as_str();
        let Some(worker) = self.workers.get_mut(address) else {
            // One that was given up, and still lives: whatever it had was taken back, but it may work again.
            if report.kind != IDLE && self.state.used.iter().any(|used| used == address) {
                out.info(format!("worker {address} is back"));
                self.add_worker(address);
            }
            return Ok(());
        };
        if !worker.is_news(report.time) {
            return Ok(());
        }
        worker.heard(now.mono_ms, report.time);
        worker.load(report.remain_task_num);
        if report.kind != IDLE {
            return Ok(());
        }
        worker.heard = None;
        for (sub, id) in self.at(address, |flight| flight.received) {
            let text = "SYSTEM: unreceived process result";
            self.attempt_failed(table, sub, &id, text, report.time, now, out)?;
        }
        if let Some(worker) = self.workers.get_mut(address)
            && worker.in_flight > 0
        {
            worker.heard = Some(now.mono_ms);
        }
        Ok(())
    }

    /// Tasks at a worker.
    pub(super) fn at(&self, address: &str, which: impl Fn(&super::run::Flight) -> bool) -> Vec<(i64, String)> {
        let mut found: Vec<(i64, i64, String)> = Vec::new();
        for (&sub, run) in &self.runs {
            for (id, flight) in run.flights.iter().filter(|(_, f)| f.address == address && which(f)) {
                found.push((flight.n, sub, id.clone()));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, sub, id)| (sub, id)).collect()
    }
}

/// The beginning of a text, for the log.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(300) {
        Some((cut, _)) => format!("{}...", &line[..cut]),
        None => line.to_owned(),
    }
}
