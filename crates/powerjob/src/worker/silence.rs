//! How long the server has been silent, as a job that fires by itself has to count it: the server gives such a job to another
//! worker when no heartbeat of this one, or no report of the instance, was taken for a while, whatever discovery says.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// When the server took something last.
#[derive(Debug)]
pub(crate) struct Silence {
    since: Instant,
    inner: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    heartbeat: Option<Instant>,
    /// By instance: its last report, or when it was first looked for.
    reports: HashMap<i64, Instant>,
}

impl Silence {
    /// Nothing was taken yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, inner: Mutex::default() }
    }

    /// A heartbeat was taken.
    pub(crate) fn heartbeat(&self, now: Instant) {
        self.inner.lock().heartbeat = Some(now);
    }

    /// A report of an instance was taken.
    pub(crate) fn report(&self, instance_id: i64, now: Instant) {
        self.inner.lock().reports.insert(instance_id, now);
    }

    /// The instance has ended here.
    pub(crate) fn forget(&self, instance_id: i64) {
        self.inner.lock().reports.remove(&instance_id);
    }

    /// For how long the server has taken no heartbeat, or no report of the instance: whichever is longer.
    pub(crate) fn of(&self, instance_id: i64, now: Instant) -> Duration {
        let inner = &mut *self.inner.lock();
        let report = *inner.reports.entry(instance_id).or_insert(now);
        now.saturating_duration_since(inner.heartbeat.unwrap_or(self.since).min(report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_as_silent_as_the_one_of_heartbeats_and_reports_that_it_has_not_taken_for_longer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let silence = Silence::new(start);
        assert_eq!(silence.of(1, at(5)), Duration::from_secs(5), "it was never there");
        silence.heartbeat(at(10));
        assert_eq!(silence.of(1, at(11)), Duration::from_secs(6), "no report of it was taken since it was looked for");
        silence.report(1, at(20));
        silence.heartbeat(at(29));
        assert_eq!(silence.of(1, at(30)), Duration::from_secs(10), "heartbeats are taken and reports are refused");
        silence.report(1, at(50));
        assert_eq!(silence.of(1, at(50)), Duration::from_secs(21), "reports are taken and heartbeats are refused");
        silence.heartbeat(at(50));
        assert_eq!(silence.of(1, at(50)), Duration::ZERO);
        silence.forget(1);
        assert_eq!(silence.of(1, at(55)), Duration::from_secs(5));
        assert_eq!(silence.of(2, at(60)), Duration::from_secs(10), "of a new one nothing is overdue but the heartbeat");
    }
}
