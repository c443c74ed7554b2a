//! What time does: tasks without an answer, workers that fell silent, workers that joined.

use rusqlite::Result;

use super::{Action, Output, Tracker, bugs::bug, machine::REPAIR_MS, spec::Kind, workers::Worker};
use crate::{
    core::Now,
    tasks::table::{Row, Table},
};

/// Result of a task whose worker is lost (5.4).
const WORKER_DOWN: &str = "maybe worker down";

/// A message that has not arrived after this time, ms, was given up by its sender.
const ON_ITS_WAY_MS: u64 = 5_000;

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
        if !bug!(self, UnansweredForgotten) {
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
                "{} tasks were sent and not acknowledged for {} s, {first} first; they are sent to the same workers again, \
                 and to others when those have spoken meanwhile or are lost",
                found.len(),
                limit / 1000
            ));
        }
        for (_, sub, id) in found {
            let flight = self.runs.get(&sub).and_then(|run| run.flights.get(&id));
            // The first time it is sent there once more whatever was heard: an acknowledgement of a Java worker comes but once.
            let there = flight
                .filter(|flight| !flight.held || self.may_have(&flight.address, flight.since))
                .map(|flight| flight.since);
            self.unanswered(table, sub, &id, 1, there, now, out)?;
        }
        Ok(())
    }

    /// Whether a worker may have a task that it has not acknowledged, of a sending at this time: then it must go nowhere else,
    /// or it would run twice. One that speaks so long afterwards without a word of it does not have it: ours tells nothing else
    /// while its acknowledgements do not arrive.
    pub(super) fn may_have(&self, address: &str, sent: u64) -> bool {
        let late = sent.saturating_add(ON_ITS_WAY_MS);
        self.workers.get(address).is_some_and(|worker| worker.heard.is_none_or(|heard| heard <= late))
    }

    /// A worker is given up: its tasks go to others, or have failed where that makes no sense.
    fn lose(&mut self, table: &Table<'_>, address: &str, why: &str, now: Now, out: &mut Output) -> Result<()> {
        self.workers.remove(address);
        self.state.workers.retain(|known| known != address);
        self.changed = true;
        let tasks = self.at(address, |_| true);
        out.warn(format!("worker {address} is lost: {why}; it had {} tasks of this instance", tasks.len()));
        if bug!(self, LostKeepsTasks) {
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
        self.lose_waiting(table, address, now, out)
    }

    /// What waits for a worker that is lost: held tasks go to others, those that have their place there have failed.
    fn lose_waiting(&mut self, table: &Table<'_>, address: &str, now: Now, out: &mut Output) -> Result<()> {
        let subs: Vec<i64> = self.runs.keys().copied().collect();
        for sub in subs {
            let Some(run) = self.runs.get_mut(&sub) else { continue };
            let rows: Vec<Row> = run.fixed.extract_if(.., |row| row.address.as_deref() == Some(address)).collect();
            for row in rows {
                let stays = self.stays(&row.name);
                let Some(run) = self.runs.get_mut(&sub) else { break };
                run.held.remove(&row.id);
                if stays {
                    let id = row.id.clone();
                    run.fixed.push(row);
                    self.end_task(table, sub, &id, false, WORKER_DOWN, -1, now, out)?;
                } else {
                    run.free += 1;
                    table.back(row.n, None, row.failed, row.unanswered, now.wall_ms)?;
                }
            }
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
