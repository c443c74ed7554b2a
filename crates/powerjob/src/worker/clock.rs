//! The server's clock as this worker knows it: what is sent carries its time, whatever this host's clock says.
//!
//! The server judges by the times in the messages: a worker whose clock is 60 s behind is dead for it, and reports that are
//! older than those of another worker's attempt are dropped.

use parking_lot::Mutex;

use crate::{
    client::{Reading, now_ms},
    core::Owner,
};

/// Below this the difference is as likely to be one of the measurement.
const WORTH_A_CORRECTION_MS: i64 = 1_000;

/// Measured with every discovery.
#[derive(Debug, Default)]
pub(crate) struct ServerClock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    reading: Option<Reading>,
    /// The server process that heartbeats went to, and the time in the last one.
    last_heartbeat: Option<(String, Option<i64>, i64)>,
}

impl ServerClock {
    pub(crate) fn measured(&self, reading: Reading) {
        self.0.lock().reading = Some(reading);
    }

    /// This host's clock minus the server's, ms; `None` before it was measured.
    pub(crate) fn skew_ms(&self) -> Option<i64> {
        self.0.lock().reading.map(|reading| now_ms().saturating_sub(reading.now_ms()))
    }

    /// The server's clock; before it was measured, or when it is the same within a second, this host's.
    pub(crate) fn now_ms(&self) -> i64 {
        now_ms() - self.correction_ms()
    }

    /// What is to be taken off this host's times, ms.
    pub(crate) fn correction_ms(&self) -> i64 {
        self.skew_ms().filter(|skew| skew.abs() >= WORTH_A_CORRECTION_MS).unwrap_or(0)
    }

    /// The time for a heartbeat that leaves now: the server drops one that is older than the one it has, so it always grows
    /// for one and the same server process.
    pub(crate) fn heartbeat_time(&self, to: &Owner) -> i64 {
        let now = self.now_ms();
        let state = &mut *self.0.lock();
        let time = match &state.last_heartbeat {
            Some((transport, born, last)) if *transport == to.transport && *born == to.born_time => now.max(last + 1),
            _ => now,
        };
        state.last_heartbeat = Some((to.transport.clone(), to.born_time, time));
        time
    }

    /// The time in the last heartbeat.
    pub(crate) fn last_heartbeat_time(&self) -> Option<i64> {
        self.0.lock().last_heartbeat.as_ref().map(|(_, _, time)| *time)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn owner(born_time: i64) -> Owner {
        Owner { transport: "10.0.0.1:10010".into(), web: "10.0.0.1:7700".into(), born_time: Some(born_time), app_id: 1 }
    }

    fn clock(ahead_ms: i64) -> ServerClock {
        let clock = ServerClock::default();
        clock.measured(Reading::half_way(Instant::now(), now_ms() - ahead_ms));
        clock
    }

    #[test]
    fn a_clock_that_is_off_is_corrected_and_one_that_is_not_is_left_alone() {
        for ahead in [-3_600_000, -90_000, 90_000] {
            let clock = clock(ahead);
            let skew = clock.skew_ms().expect("measured");
            assert!((skew - ahead).abs() < 900, "{skew}");
            assert!((clock.now_ms() - (now_ms() - ahead)).abs() < 900);
        }
        let near = clock(200);
        assert_eq!(near.correction_ms(), 0);
        assert_eq!((ServerClock::default().skew_ms(), ServerClock::default().correction_ms()), (None, 0));
    }

    #[test]
    fn heartbeat_times_grow_for_one_server_process_whatever_its_clock_does() {
        let clock = clock(0);
        let first = clock.heartbeat_time(&owner(1));
        // The server's clock was set back by an hour: it keeps our newest heartbeat and drops what is older.
        clock.measured(Reading::half_way(Instant::now(), now_ms() - 3_600_000));
        let second = clock.heartbeat_time(&owner(1));
        assert_eq!(second, first + 1);
        assert_eq!(clock.last_heartbeat_time(), Some(second));
        // One that was born again knows nothing of them.
        let third = clock.heartbeat_time(&owner(2));
        assert!(third < first - 3_000_000, "{third} {first}");
    }
}
