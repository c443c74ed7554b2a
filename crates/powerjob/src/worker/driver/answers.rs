//! What the answers of the server tell beside what the core makes of them.

use std::time::Instant;

use super::{Driver, SKEW_WARNING_EVERY, SKEW_WORTH_A_WARNING_MS};
use crate::{client::Found, core::Event};

impl Driver {
    pub(super) fn discovered(&mut self, found: Result<Found, String>) -> Event {
        let counters = &self.p.shared.counters;
        match found {
            Ok(found) => {
                counters.discoveries.one();
                if let Some(reading) = found.clock {
                    self.p.shared.clock.measured(reading);
                    self.note_skew();
                }
                self.p.shared.state.write().discovery_error = None;
                Event::Discovered(Ok(found.owner))
            }
            Err(why) => {
                counters.discoveries_failed.one();
                self.p.shared.state.write().discovery_error = Some(why.clone());
                Event::Discovered(Err(why))
            }
        }
    }

    fn note_skew(&mut self) {
        let off = self.p.shared.clock.skew_ms().filter(|skew| skew.abs() > SKEW_WORTH_A_WARNING_MS);
        if let Some(skew_ms) = off
            && self.skew_warned.is_none_or(|at| at.elapsed() > SKEW_WARNING_EVERY)
        {
            self.skew_warned = Some(Instant::now());
            tracing::warn!(
                skew_ms,
                "this host's clock is {} s {} the server's; heartbeats and reports carry the server's time, because it {}. \
                 Set both clocks by NTP: times in logs and results are this host's",
                skew_ms.abs() / 1000,
                if skew_ms < 0 { "behind" } else { "ahead of" },
                if skew_ms < 0 {
                    "takes a worker for dead whose own time is 60 s old"
                } else {
                    "would notice so much later that this worker is gone"
                }
            );
        }
    }

    pub(super) fn heartbeat_answered(&mut self, number: u64, ok: bool, overload: bool) {
        let counters = &self.p.shared.counters;
        if ok {
            counters.heartbeats.one();
            self.p.shared.silence.heartbeat(Instant::now());
            let mut state = self.p.shared.state.write();
            state.last_heartbeat = Some(Instant::now());
            // One that is older than what the server has is dropped there.
            if number > state.heartbeat_heard {
                state.heartbeat_heard = number;
                state.heartbeat_overload = overload;
            }
        } else {
            counters.heartbeats_failed.one();
        }
        if let Some(leaving) = &mut self.leaving {
            leaving.said_goodbye |= overload;
        }
    }
}
