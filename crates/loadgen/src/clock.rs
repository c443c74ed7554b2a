//! The one clock of a run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Monotonic time since the start of a run, and the wall clock at that start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_unix_us: i64,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_unix_us: i64::try_from(since_epoch.as_micros()).unwrap_or(0) }
    }

    /// Microseconds since the start.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment `after` the start.
    pub(crate) fn at(&self, after: Duration) -> Instant {
        self.start + after
    }

    /// Wall clock of the moment `us` microseconds after the start, in milliseconds since 1970.
    pub(crate) fn unix_ms(&self, us: u64) -> i64 {
        self.start_unix_us.saturating_add(i64::try_from(us).unwrap_or(i64::MAX)).div_euclid(1000)
    }
}
