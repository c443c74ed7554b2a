//! What time does: tasks without an answer, workers that fell silent, workers that joined.

use rusqlite::Result;

use super::{Action, Output, Tracker, bugs::Bug, machine::REPAIR_MS, spec::Kind, workers::Worker};
use crate::{core::Now, tasks::table::Table};

/// Result of a task whose worker is lost (5.4).
const WORKER_DOWN: &str = "maybe worker down";

impl Tracker {
    pub(super) fn repair(&mut self, table: &Table<'_>, now: Now, out: &mut Output) -> Result<()> {
        if self.spec.detects() && now.mono_ms >= self.next_detect {
            self.next_detect = now.mono_ms + self.spec.options.detect_ms;
            if self.spec.max_workers.is_none_or(|most| self.workers.len() < most) {
                out.actions.push(Action::AskCluster);
            }
        }
        if now.mono_ms < self.next_repair {
            return Ok(());
        }
        self.next_repair = now.mono_ms + REPAIR_MS;
        if !self.has_bug(Bug::UnansweredForgotten) {
            self.send_again(table, now, out)?;
        }
        let lost: Vec<(String, String)> = self
            .workers
            .iter()
            .filter(|(address, _)| **address != self.spec.own)
            .filter_map(|(address, worker)| Some((address.clone(), worker.lost(now.mono_ms, &self.spec.options)?)))
            .collect();
        for (address, why) in lost {
            self.lose(table, &address, &why, now, out)?;
        }
        self.warn_if_stranded(out);
        Ok(())
    }

    fn send_again(&mut self, table: &Table<'_>, now: Now, out: &mut Output) -> Result<()> {
        let limit = self.spec.options.unanswered_ms;
        let late = |since: u64| now.mono_ms.saturating_sub(since) >= limit;
        let mut found: Vec<(i64, i64, String)> = Vec::new();
        for (&sub, run) in &self.runs {
            let flights = run.flights.iter().filter(|(_, flight)| !flight.received && late(flight.since));
            found.extend(flights.map(|(id, flight)| (flight.n, sub, id.clone())));
        }
        found.sort_unstable();
        if let Some((_, _, first)) = found.first() {
            out.warn(format!(
                "{} tasks were sent and not acknowledged for {} s, {first} first; they are sent again",
                found.len(),
                limit / 1000
            ));
        }
        for (_, sub, id) in found {
            self.unanswered(table, sub, &id, 1, now, out)?;
        }
        Ok(())
    }

    /// A worker is given up: its tasks go to others, or have failed where that makes no sense.
    fn lose(&mut self, table: &Table<'_>, address: &str, why: &str, now: Now, out: &mut Output) -> Result<()> {
        self.workers.remove(address);
        self.state.workers.retain(|known| known != address);
        self.changed = true;
        let tasks = self.at(address, |_| true);
        out.warn(format!("worker {address} is lost: {why}; it had {} tasks of this instance", tasks.len()));
        if self.has_bug(Bug::LostKeepsTasks) {
            return Ok(());
        }
        let fails = self.spec.kind == Kind::Broadcast || self.spec.firings.is_some();
        for (sub, id) in tasks {
            if fails {
                self.end_task(table, sub, &id, false, WORKER_DOWN, -1, now, out)?;
            } else {
                self.back(table, sub, &id, now)?;
            }
        }
        let waiting: Vec<(i64, String)> = self
            .runs
            .iter()
            .flat_map(|(&sub, run)| run.fixed.iter().map(move |row| (sub, row)))
            .filter(|(_, row)| row.address.as_deref() == Some(address))
            .map(|(sub, row)| (sub, row.id.clone()))
            .collect();
        for (sub, id) in waiting {
            self.end_task(table, sub, &id, false, WORKER_DOWN, -1, now, out)?;
        }
        Ok(())
    }

    /// Tasks wait and there is nobody who may have them: a person should know.
    fn warn_if_stranded(&mut self, out: &mut Output) {
        let waiting = self.runs.values().any(|run| run.free > 0);
        let anybody = self.workers.keys().any(|address| !(self.spec.paddling && *address == self.spec.own));
        let stranded = waiting && !anybody;
        if stranded && !std::mem::replace(&mut self.stranded, stranded) {
            out.warn(
                "tasks wait and no worker may take them: the job keeps its tracker's own worker free and there is no \
                 other; start another worker of the app",
            );
        }
        self.stranded = stranded;
    }

    /// The server's list of workers: new ones take part from now on.
    pub(super) fn cluster(&mut self, answer: std::result::Result<Vec<String>, String>, out: &mut Output) {
        let addresses = match answer {
            Ok(addresses) => addresses,
            Err(why) => {
                tracing::debug!(instance_id = self.spec.info.instance_id, why, "workers of the job are unknown");
                return;
            }
        };
        for address in addresses {
            if self.spec.max_workers.is_some_and(|most| self.workers.len() >= most) {
                return;
            }
            if !self.workers.contains_key(&address) {
                out.info(format!("worker {address} has joined"));
                self.add_worker(&address);
            }
        }
    }

    pub(super) fn add_worker(&mut self, address: &str) {
        self.workers.insert(address.to_owned(), Worker::default());
        self.state.workers.push(address.to_owned());
        self.changed = true;
    }
}
