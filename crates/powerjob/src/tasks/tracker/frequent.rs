//! FIXED_RATE and FIXED_DELAY: when the next run begins.

use rusqlite::Result;

use super::{Output, Tracker, spec::Firings};
use crate::{core::Now, tasks::table::Table};

/// A job that could not fire for longer than so many intervals does not make up for them.
const MADE_UP: u64 = 10;
/// While no server is reachable it is looked again as often, ms.
const PAUSED_MS: u64 = 1_000;

impl Tracker {
    /// Begins the runs that are due.
    pub(super) fn fire(&mut self, table: &Table<'_>, now: Now, server_silent_ms: u64, out: &mut Output) -> Result<()> {
        let Some(firings) = self.spec.firings else { return Ok(()) };
        while let Some(due) = self.next_firing.filter(|&due| due <= now.mono_ms) {
            if self.hold(server_silent_ms, out) {
                self.next_firing = Some(now.mono_ms + PAUSED_MS);
                return Ok(());
            }
            self.state.firings += 1;
            self.changed = true;
            let sub = self.state.firings;
            match firings {
                Firings::Delay(_) => self.next_firing = None,
                Firings::Rate(interval, _) => {
                    let oldest = now.mono_ms.saturating_sub(interval.saturating_mul(MADE_UP));
                    self.next_firing = Some(if due < oldest { now.mono_ms } else { due } + interval);
                }
            }
            match firings {
                Firings::Rate(_, Some(most)) if self.runs.len() >= most => {
                    self.fired(sub, now.server_ms, false, "TOO_MUCH_INSTANCE".to_owned(), now, out);
                }
                _ => self.add_run(table, sub, now)?,
            }
        }
        Ok(())
    }

    /// Whether nothing may fire: no server has been reachable for so long that it may have started the job elsewhere.
    fn hold(&mut self, server_silent_ms: u64, out: &mut Output) -> bool {
        let paused = server_silent_ms >= self.spec.options.server_silent_ms;
        if paused != std::mem::replace(&mut self.paused, paused) {
            if paused {
                out.warn(format!(
                    "no server has taken reports for {} s: the job does not fire until one does, because the server may \
                     start it on another worker",
                    server_silent_ms / 1000
                ));
            } else {
                out.info("a server takes reports again: the job fires again");
            }
        }
        paused
    }
}
