//! A small model of the PowerJob server, as strict as the real one where it matters to a worker: early reports are
//! acknowledged and dropped, so are old ones; silence is judged after 60 s; a RUNNING report resurrects a stopped row.

use std::collections::BTreeMap;

use super::{super::rig::ADDRESS, Sent};
use crate::core::{FinalReport, InstanceInfo};

pub(super) const WAITING_DISPATCH: i32 = 1;
pub(super) const WAITING_RECEIVE: i32 = 2;
pub(super) const RUNNING: i32 = 3;
pub(super) const FAILED: i32 = 4;
pub(super) const SUCCEED: i32 = 5;
pub(super) const STOPPED: i32 = 10;

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) status: i32,
    /// When it is to be dispatched (again), or was dispatched last.
    trigger: u64,
    modified: u64,
    last_report: i64,
    /// The dispatcher has written the worker's address.
    has_address: bool,
    pub(super) runs: u32,
    retries: u32,
    pub(super) result: Option<String>,
    pub(super) finished: u64,
    /// The server judged it, not the worker.
    pub(super) judged_silent: bool,
    /// A message from before the stop came after it: then nothing is promised.
    pub(super) overtaken: bool,
    /// When the worker took the stop in.
    pub(super) stop_taken: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) up: bool,
    pub(super) failovers: u8,
    pub(super) born: i64,
    pub(super) rows: BTreeMap<i64, Row>,
    pub(super) heartbeat: Option<(u64, bool)>,
    /// Instances that were reported once and then judged silent.
    pub(super) judged: u32,
}

impl Server {
    pub(super) fn create(&mut self, id: i64, retries: u32, now: u64) {
        let row = Row {
            status: WAITING_DISPATCH,
            trigger: now,
            modified: now,
            last_report: 0,
            has_address: false,
            runs: 0,
            retries,
            result: None,
            finished: 0,
            judged_silent: false,
            overtaken: false,
            stop_taken: None,
        };
        self.rows.insert(id, row);
    }

    /// What is dispatched now.
    pub(super) fn due(&mut self, now: u64) -> Vec<i64> {
        let ready = self.up && self.heartbeat.is_some_and(|(at, overload)| now < at + 60_000 && !overload);
        self.rows
            .iter_mut()
            .filter(|(_, row)| ready && row.status == WAITING_DISPATCH && row.trigger <= now)
            .map(|(id, row)| {
                // Looked at again by the overdue check, should the dispatch not be stored.
                row.trigger = now + 30_000;
                *id
            })
            .collect()
    }

    /// The dispatcher writes status and address, after the request left.
    pub(super) fn store_dispatch(&mut self, id: i64, now: u64) {
        let Some(row) = self.rows.get_mut(&id).filter(|row| row.status == WAITING_DISPATCH) else { return };
        row.status = WAITING_RECEIVE;
        row.has_address = true;
        row.trigger = now;
        row.stop_taken = None;
    }

    /// The loops that judge silent workers.
    pub(super) fn check(&mut self, now: u64) {
        for row in self.rows.values_mut().filter(|_| self.up) {
            match row.status {
                WAITING_RECEIVE if now >= row.trigger + 60_000 => {
                    row.status = WAITING_DISPATCH;
                    row.trigger = now;
                }
                RUNNING if now >= row.modified + 60_000 => {
                    self.judged += 1;
                    if row.runs < row.retries {
                        row.status = WAITING_DISPATCH;
                        row.trigger = now;
                    } else {
                        row.status = FAILED;
                        row.judged_silent = true;
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns whether a stop is to be sent.
    pub(super) fn stop(&mut self, id: i64, now: u64) -> bool {
        let Some(row) = self.rows.get_mut(&id).filter(|row| self.up && matches!(row.status, WAITING_RECEIVE | RUNNING))
        else {
            return false;
        };
        row.status = STOPPED;
        row.finished = now;
        row.stop_taken = None;
        true
    }

    /// Somebody starts a stopped or failed instance again.
    pub(super) fn retry(&mut self, id: i64, now: u64) -> bool {
        let Some(row) = self.rows.get_mut(&id).filter(|row| self.up && matches!(row.status, STOPPED | FAILED)) else {
            return false;
        };
        row.status = WAITING_DISPATCH;
        row.trigger = now;
        row.has_address = false;
        row.judged_silent = false;
        row.runs = 0;
        true
    }

    pub(super) fn info(&self, id: i64) -> Option<InstanceInfo> {
        let row = self.rows.get(&id)?;
        Some(InstanceInfo {
            status: row.status,
            task_tracker_address: row.has_address.then(|| ADDRESS.to_owned()),
            finished_at: None,
        })
    }

    /// Takes a report; `sure` = nothing is lost on the way, so that a process knows of every stop from before it began. Returns an error where the worker broke a promise.
    pub(super) fn report(
        &mut self,
        id: i64,
        time: i64,
        report: Option<&FinalReport>,
        (sent, sure): (Sent, bool),
        now: u64,
    ) -> Result<(), String> {
        let Some(row) = self.rows.get_mut(&id) else { return Err(format!("{id} was never dispatched")) };
        if !row.has_address || time <= row.last_report {
            return Ok(());
        }
        if row.status == STOPPED {
            if row.stop_taken.is_some_and(|at| sent.at >= at) {
                return Err(format!("{id} was reported (time {time}) after its stop"));
            }
            if sure && row.finished < sent.by {
                return Err(format!("{id} was reported (time {time}) by a process that began after its stop"));
            }
            row.overtaken = true;
        }
        if row.status == SUCCEED {
            return Err(format!("{id} was reported (time {time}) after it had succeeded (time {})", row.last_report));
        }
        row.last_report = time;
        row.modified = now;
        row.judged_silent = false;
        if row.status == WAITING_RECEIVE {
            row.runs += 1;
        }
        match report {
            None => row.status = RUNNING,
            Some(report) => {
                row.result = Some(report.outcome.result.clone());
                if report.outcome.success {
                    row.status = SUCCEED;
                } else if row.runs <= row.retries {
                    row.status = WAITING_DISPATCH;
                    row.trigger = now + 3_000;
                } else {
                    row.status = FAILED;
                }
            }
        }
        Ok(())
    }
}
