//! Taking up what a tracker before this one left in the table.

use std::collections::HashMap;

use rusqlite::Result;

use super::{
    Output, Spec, Tracker,
    bugs::bug,
    run::{Flight, Run},
    state::{RunState, State},
};
use crate::{
    core::Now,
    processor::RestartPolicy,
    tasks::{
        api::TaskStatus,
        table::{Row, Table},
    },
};

/// Why the table has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// The worker was restarted: nothing that was at it is at work any more, and this is what its processor makes of that.
    Restarted(RestartPolicy),
    /// A transaction failed: the worker goes on as it was.
    Rolledback,
}

impl Tracker {
    /// The tracker of an instance that the table knows; `None` if it does not.
    ///
    /// # Errors
    /// The table's.
    pub(crate) fn recover(
        spec: Spec,
        table: &Table<'_>,
        now: Now,
        recovery: Recovery,
        out: &mut Output,
    ) -> Result<Option<Self>> {
        let Some(text) = table.tracker()? else { return Ok(None) };
        let state: State = read(&text)?;
        if state.attempt != spec.attempt {
            // A retry of the instance: what an earlier execution left, its end above all, is not this one's.
            return Ok(None);
        }
        let mut tracker = Self::with(spec, state, now);
        if tracker.state.end.is_some() {
            return Ok(Some(tracker));
        }
        tracker.load(table, now, recovery, out)?;
        Ok(Some(tracker))
    }

    fn load(&mut self, table: &Table<'_>, now: Now, recovery: Recovery, out: &mut Output) -> Result<()> {
        for (key, sub, text) in table.runs()? {
            self.load_run(table, key, sub, read(&text)?, now)?;
        }
        if recovery == Recovery::Rolledback {
            // What the own worker acknowledges is not in the rows.
            let own = self.spec.own.clone();
            let flights = self.runs.values_mut().flat_map(|run| run.flights.values_mut());
            flights.filter(|flight| flight.address == own).for_each(|flight| flight.received = true);
        }
        if self.spec.firings.is_some() {
            let waits_for_end =
                matches!(self.spec.firings, Some(super::spec::Firings::Delay(_))) && !self.runs.is_empty();
            self.next_firing = (!waits_for_end).then_some(now.mono_ms);
        }
        if let Recovery::Restarted(policy) = recovery {
            let (waiting, sent, running) = self.stages();
            out.info(format!(
                "the worker was restarted and goes on: {waiting} tasks wait, {} were at workers",
                sent + running
            ));
            self.restart(table, now, policy, out)?;
        }
        Ok(())
    }

    fn load_run(&mut self, table: &Table<'_>, key: i64, sub: i64, state: RunState, now: Now) -> Result<()> {
        let ran = u64::try_from(now.server_ms.saturating_sub(state.started_at)).unwrap_or(0);
        let mut run = Run {
            key,
            state,
            changed: false,
            started: now.mono_ms.saturating_sub(ran),
            free: 0,
            fixed: table.waiting_fixed(key)?,
            flights: HashMap::new(),
            held: HashMap::new(),
            retried: HashMap::new(),
            total: 0,
            succeeded: 0,
            failed: 0,
        };
        for (status, fixed, count) in table.counts(key)? {
            run.total += count;
            match status {
                TaskStatus::WaitingDispatch if !fixed => run.free += count,
                TaskStatus::Succeeded => run.succeeded += count,
                TaskStatus::Failed => run.failed += count,
                _ => {}
            }
        }
        for row in table.in_flight(key)? {
            let Row { n, id, name, address, status, failed, unanswered, .. } = row;
            let address = address.unwrap_or_else(|| self.spec.own.clone());
            if let Some(worker) = self.workers.get_mut(&address) {
                worker.sent(now.mono_ms);
            }
            self.sendings += 1;
            let received = status != TaskStatus::Dispatched;
            let (since, sending) = (now.mono_ms, self.sendings);
            let (held, before) = (false, None);
            let flight =
                Flight { n, name, address, failed, unanswered, held, before, received, since, sending, reported: -1 };
            run.flights.insert(id, flight);
        }
        self.runs.insert(sub, run);
        Ok(())
    }

    /// What was at this worker is cut.
    fn restart(&mut self, table: &Table<'_>, now: Now, policy: RestartPolicy, out: &mut Output) -> Result<()> {
        let own = self.spec.own.clone();
        if bug!(self, RestartForgotten) {
            return Ok(());
        }
        for (sub, id) in self.at(&own, |_| true) {
            match policy {
                RestartPolicy::Fail => {
                    let text = "the worker was restarted while this task was under way";
                    self.attempt_failed(table, sub, &id, text, -1, now, out)?;
                }
                RestartPolicy::Rerun => self.back(table, sub, &id, now)?,
                RestartPolicy::Resume => {
                    // What is to be taken up is here, and nowhere else.
                    self.state.cut.insert((sub, id.clone()));
                    self.changed = true;
                    self.back(table, sub, &id, now)?;
                }
            }
        }
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|why| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(why)))
}
