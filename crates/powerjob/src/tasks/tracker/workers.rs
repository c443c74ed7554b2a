//! The workers of an instance, as its tracker sees them.

use std::collections::BTreeMap;

use super::TrackerOptions;

/// A Java worker queues up to 128 tasks beside those at work and drops the rest; no more than this wait at any worker.
const MOST_AHEAD: usize = 100;
/// A worker that says that more tasks wait at it gets none (6.6), unless they are there because it works so fast.
const BUSY: i64 = 20;
/// What a worker finishes in this time, ms, may wait at it.
const PACE_MS: u64 = 100;

/// One worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Worker {
    /// Tasks at it.
    pub(super) in_flight: usize,
    /// Tasks that ended at it, since the tracker is in memory.
    pub(super) done: u64,
    /// When it was heard last, or first sent to, monotonic ms; `None` while it has nothing to answer to.
    pub(super) heard: Option<u64>,
    /// The worker's own time of its newest report.
    newest: i64,
    /// Tasks that wait there by its own word, brought up to date with what we saw since.
    remaining: i64,
    /// Since when no request has reached it, how many failed, and when the next may be sent, monotonic ms.
    unreachable: Option<(u64, u32, u64)>,
    /// Tasks that ended in the current and in the last stretch of time.
    pace: (u64, usize, usize),
}

impl Worker {
    /// A report of it arrived.
    pub(super) fn heard(&mut self, now: u64, its_time: i64) {
        self.heard = Some(now);
        self.newest = self.newest.max(its_time);
    }

    /// Whether its report is newer than every other.
    pub(super) fn is_news(&self, its_time: i64) -> bool {
        its_time > self.newest
    }

    /// Its own word on its queue.
    pub(super) fn load(&mut self, remaining: i64) {
        self.remaining = remaining.max(0);
        self.unreachable = None;
    }

    /// A task goes there.
    pub(super) fn sent(&mut self, now: u64) {
        self.in_flight += 1;
        self.remaining += 1;
        self.heard.get_or_insert(now);
    }

    /// A task is no longer there.
    pub(super) fn gone(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.remaining = (self.remaining - 1).max(0);
    }

    /// A task ended there; [`Worker::gone`] is another matter.
    pub(super) fn ended(&mut self, now: u64) {
        self.done += 1;
        self.turn(now);
        self.pace.1 += 1;
        self.unreachable = None;
    }

    /// A request did not reach it.
    pub(super) fn failed(&mut self, now: u64) {
        let (since, failures, _) = self.unreachable.unwrap_or((now, 0, now));
        let pause = (500 << failures.min(5)).min(10_000);
        self.unreachable = Some((since, failures + 1, now + pause));
    }

    /// When something may be sent to it.
    pub(super) fn sendable_at(&self) -> u64 {
        self.unreachable.map_or(0, |(_, _, next)| next)
    }

    /// Why it is lost, if it is.
    pub(super) fn lost(&self, now: u64, options: &TrackerOptions) -> Option<String> {
        if let Some((since, failures, _)) = self.unreachable
            && failures >= 3
            && now >= since + options.unreachable_ms
            && self.heard.is_none_or(|heard| heard <= since)
        {
            return Some(format!("no request reached it for {} s", (now - since) / 1000));
        }
        let silent = now.saturating_sub(self.heard?);
        (silent > options.lost_ms).then(|| format!("it has said nothing for {} s", silent / 1000))
    }

    /// How many more tasks it may get now.
    pub(super) fn room(&self, now: u64, concurrency: usize) -> usize {
        if self.sendable_at() > now {
            return 0;
        }
        let pace = if now < self.pace.0 + 2 * PACE_MS { self.pace.1.max(self.pace.2) } else { 0 };
        // Twice the concurrency is Java's budget; whoever finishes more in no time gets more.
        let ahead = concurrency.max(pace).min(MOST_AHEAD);
        let busy = BUSY.max(i64::try_from(ahead + concurrency).unwrap_or(i64::MAX));
        if self.remaining >= busy {
            return 0;
        }
        (concurrency + ahead).saturating_sub(self.in_flight)
    }

    fn turn(&mut self, now: u64) {
        if now >= self.pace.0 + PACE_MS {
            let last = if now < self.pace.0 + 2 * PACE_MS { self.pace.1 } else { 0 };
            self.pace = (now, 0, last);
        }
    }
}

/// Workers by address.
pub(super) type Workers = BTreeMap<String, Worker>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_gets_twice_its_concurrency_and_more_only_if_it_is_fast() {
        let mut worker = Worker::default();
        assert_eq!(worker.room(0, 5), 10);
        for _ in 0..10 {
            worker.sent(0);
        }
        assert_eq!(worker.room(0, 5), 0);
        for _ in 0..10 {
            worker.ended(10);
            worker.gone();
        }
        assert_eq!(worker.room(10, 5), 15, "it did ten in ten milliseconds");
        assert_eq!(worker.room(1_000, 5), 10, "that was long ago");
    }

    #[test]
    fn no_worker_is_ever_flooded() {
        let mut worker = Worker::default();
        for _ in 0..100_000 {
            worker.sent(1);
            worker.ended(1);
            worker.gone();
        }
        assert_eq!(worker.room(1, 5), 105);
        assert_eq!(worker.room(1, 400), 500);
    }

    #[test]
    fn a_worker_with_a_long_queue_of_its_own_gets_nothing_until_it_shrinks() {
        let mut worker = Worker::default();
        worker.load(30);
        assert_eq!(worker.room(0, 5), 0);
        worker.load(19);
        assert_eq!(worker.room(0, 5), 10);
    }

    #[test]
    fn a_worker_is_lost_after_silence_and_never_before_it_had_anything_to_answer_to() {
        let options = TrackerOptions::default();
        let mut worker = Worker::default();
        assert_eq!(worker.lost(10_000_000, &options), None);
        worker.sent(10_000_000);
        assert_eq!(worker.lost(10_060_000, &options), None);
        assert!(worker.lost(10_060_001, &options).is_some());
        worker.heard(10_060_001, 1);
        assert_eq!(worker.lost(10_060_001, &options), None);
    }

    #[test]
    fn a_worker_that_no_request_reaches_is_lost_earlier_and_asked_less_and_less_often() {
        let options = TrackerOptions::default();
        let mut worker = Worker::default();
        let (mut now, mut tries) = (1_000, 0);
        worker.sent(now);
        while worker.lost(now, &options).is_none() {
            worker.failed(now);
            tries += 1;
            assert!(worker.sendable_at() > now && worker.room(now, 5) == 0);
            now = worker.sendable_at();
        }
        assert!((30_000..45_000).contains(&(now - 1_000)) && tries < 12, "{now} {tries}");
    }
}
