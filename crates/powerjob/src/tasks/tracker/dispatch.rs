//! Which waiting task goes where.

use rusqlite::Result;

use super::{Action, Output, StartTicket, Tracker, run::Flight};
use crate::{
    core::Now,
    tasks::{
        api::{LAST_TASK, PeerError, StartTask},
        table::{Row, Table},
    },
};

/// Rows read at once.
const WINDOW: usize = 500;
/// A task that was sent so often without an answer has failed.
const MOST_UNANSWERED: i32 = 10;

impl Tracker {
    /// Sends what can be sent.
    pub(super) fn dispatch(&mut self, table: &Table<'_>, now: Now, out: &mut Output) -> Result<()> {
        let subs: Vec<i64> = self.runs.keys().copied().collect();
        for &sub in &subs {
            self.dispatch_fixed(table, sub, now, out)?;
        }
        for &sub in &subs {
            while self.dispatch_free(table, sub, now, out)? {}
        }
        Ok(())
    }

    /// Tasks whose place is fixed go there however busy it is.
    fn dispatch_fixed(&mut self, table: &Table<'_>, sub: i64, now: Now, out: &mut Output) -> Result<()> {
        let Some(run) = self.runs.get_mut(&sub).filter(|run| !run.fixed.is_empty()) else { return Ok(()) };
        let workers = &self.workers;
        let sendable = |row: &mut Row| {
            let worker = row.address.as_ref().and_then(|address| workers.get(address));
            worker.is_none_or(|worker| worker.sendable_at() <= now.mono_ms)
        };
        let ready: Vec<Row> = run.fixed.extract_if(.., sendable).collect();
        for row in ready {
            let address = row.address.clone().unwrap_or_else(|| self.spec.own.clone());
            self.send(table, sub, row, address, now, out)?;
        }
        Ok(())
    }

    /// Whether more may follow at once.
    fn dispatch_free(&mut self, table: &Table<'_>, sub: i64, now: Now, out: &mut Output) -> Result<bool> {
        let Some(run) = self.runs.get(&sub).filter(|run| run.free > 0) else { return Ok(false) };
        let mut places: Vec<(String, usize)> = self
            .workers
            .iter()
            .filter(|(address, _)| !(self.spec.paddling && **address == self.spec.own))
            .map(|(address, worker)| (address.clone(), worker.room(now.mono_ms, self.spec.concurrency)))
            .filter(|(_, room)| *room > 0)
            .collect();
        let room: usize = places.iter().map(|(_, room)| room).sum();
        if room == 0 {
            return Ok(false);
        }
        let rows = table.waiting(run.key, room.min(WINDOW))?;
        if rows.is_empty() {
            return Ok(false);
        }
        for row in rows {
            // In turn, leaving out those that are full.
            self.turn %= places.len();
            let (address, room) = &mut places[self.turn];
            let address = address.clone();
            *room -= 1;
            if *room == 0 {
                places.remove(self.turn);
            } else {
                self.turn += 1;
            }
            if let Some(run) = self.runs.get_mut(&sub) {
                run.free -= 1;
            }
            self.send(table, sub, row, address, now, out)?;
            if places.is_empty() {
                break;
            }
        }
        Ok(!places.is_empty())
    }

    fn send(
        &mut self,
        table: &Table<'_>,
        sub: i64,
        row: Row,
        address: String,
        now: Now,
        out: &mut Output,
    ) -> Result<()> {
        let held = row.address.is_some() && !self.stays(&row.name);
        let Some(run) = self.runs.get_mut(&sub) else { return Ok(()) };
        table.dispatched(row.n, &address, now.wall_ms)?;
        self.sendings += 1;
        if !self.state.used.contains(&address) {
            self.state.used.push(address.clone());
            self.changed = true;
        }
        if let Some(worker) = self.workers.get_mut(&address) {
            worker.sent(now.mono_ms);
        }
        let resumed = address == self.spec.own && self.state.cut.remove(&(sub, row.id.clone()));
        self.changed |= resumed;
        let info = &self.spec.info;
        let task = StartTask {
            task_tracker_address: self.spec.own.clone(),
            instance: info.clone(),
            task_id: row.id.clone(),
            task_name: row.name.clone(),
            task_content: row.content,
            task_current_retry_nums: row.failed,
            sub_instance_id: sub,
            log_config: info.log_config.clone(),
            advanced_runtime_config: info.advanced_runtime_config.clone(),
            resumed,
        };
        let results = (row.name == LAST_TASK).then(|| (run.key, self.spec.root_id(sub)));
        let ticket = StartTicket { sub, task_id: row.id.clone(), sending: self.sendings, address: address.clone() };
        let flight = Flight {
            n: row.n,
            name: row.name,
            address,
            failed: row.failed,
            unanswered: row.unanswered,
            held,
            before: run.held.remove(&row.id),
            received: false,
            since: now.mono_ms,
            sending: self.sendings,
            reported: -1,
        };
        run.flights.insert(row.id, flight);
        out.actions.push(Action::Start { ticket, task: Box::new(task), results });
        Ok(())
    }

    /// A task did not reach its worker.
    pub(super) fn start_failed(
        &mut self,
        table: &Table<'_>,
        now: Now,
        ticket: &StartTicket,
        error: &PeerError,
        out: &mut Output,
    ) -> Result<()> {
        if let Some(worker) = self.workers.get_mut(&ticket.address) {
            if worker.sendable_at() == 0 {
                let (PeerError::Unreachable(why) | PeerError::Refused(why)) = error;
                out.warn(format!("worker {} cannot be given tasks: {why}; it is tried again", ticket.address));
            }
            worker.failed(now.mono_ms);
        }
        let flight = self.runs.get(&ticket.sub).and_then(|run| run.flights.get(&ticket.task_id));
        let own = ticket.address == self.spec.own;
        // What this process itself did not take is not at work, even where a table that was read again says so.
        let meant = |flight: &Flight| {
            if own { flight.address == self.spec.own } else { flight.sending == ticket.sending && !flight.received }
        };
        let Some(flight) = flight.filter(|flight| meant(flight)) else { return Ok(()) };
        // This sending did not reach it, but one before it may have.
        let sent = flight.before.unwrap_or(flight.since);
        let there = (flight.held && !own && self.may_have(&flight.address, sent)).then_some(sent);
        // The own worker is never lost, so that a task that it never takes must end in another way.
        let unanswered = u32::from(own);
        self.unanswered(table, ticket.sub, &ticket.task_id, unanswered, there, now, out)
    }

    /// A task was sent and is not known to be at its worker: it waits again, for that worker if it may be `there` from a sending
    /// at this time, and has failed if that happened too often.
    #[expect(clippy::too_many_arguments, reason = "a task's fate with the moment and the place where it is written")]
    pub(super) fn unanswered(
        &mut self,
        table: &Table<'_>,
        sub: i64,
        id: &str,
        more: u32,
        there: Option<u64>,
        now: Now,
        out: &mut Output,
    ) -> Result<()> {
        let Some(flight) = self.runs.get_mut(&sub).and_then(|run| run.flights.get_mut(id)) else { return Ok(()) };
        flight.unanswered += i32::try_from(more).unwrap_or(0);
        if flight.unanswered < MOST_UNANSWERED {
            let Some(sent) = there else { return self.back(table, sub, id, now) };
            if let Some(run) = self.runs.get_mut(&sub) {
                run.held.insert(id.to_owned(), sent);
            }
            return self.wait_again(table, sub, id, true, now);
        }
        let text = format!(
            "the task was sent {MOST_UNANSWERED} times and no worker acknowledged it (the last one was {}); see the \
             log of that worker",
            flight.address
        );
        self.end_task(table, sub, id, false, &text, -1, now, out)
    }
}
