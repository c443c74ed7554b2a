//! Two bounded memories: closed instances, and stops of instances that are not there (yet).

use std::collections::{HashMap, VecDeque};

use super::{
    api::{CLOSED_KEPT, ClosedInstance},
    instance::Mono,
};

/// How long a stop of an unknown instance is remembered: `runJob` and `stopInstance` may overtake each other.
const STOP_REMEMBERED: Mono = 3_000;
/// How many such stops are remembered.
const STOPS_KEPT: usize = 1_024;

/// The newest closed instances.
#[derive(Clone, Debug, Default)]
pub(super) struct Closed {
    order: VecDeque<(u64, i64)>,
    by_id: HashMap<i64, (u64, ClosedInstance)>,
    counter: u64,
}

impl Closed {
    pub(super) fn insert(&mut self, closed: ClosedInstance) {
        self.counter += 1;
        self.order.push_back((self.counter, closed.instance_id));
        self.by_id.insert(closed.instance_id, (self.counter, closed));
        while self.by_id.len() > CLOSED_KEPT || self.order.len() > 2 * CLOSED_KEPT {
            let Some((counter, id)) = self.order.pop_front() else { break };
            if self.by_id.get(&id).is_some_and(|(newest, _)| *newest == counter) {
                self.by_id.remove(&id);
            }
        }
    }

    pub(super) fn get(&self, instance_id: i64) -> Option<&ClosedInstance> {
        self.by_id.get(&instance_id).map(|(_, closed)| closed)
    }
}

/// Stops that came for instances which are not there.
#[derive(Clone, Debug, Default)]
pub(super) struct EarlyStops {
    stops: VecDeque<(i64, Mono)>,
}

impl EarlyStops {
    pub(super) fn remember(&mut self, instance_id: i64, now: Mono) {
        self.stops.push_back((instance_id, now));
        while self.stops.len() > STOPS_KEPT {
            self.stops.pop_front();
        }
    }

    pub(super) fn contains(&mut self, instance_id: i64, now: Mono) -> bool {
        while self.stops.front().is_some_and(|(_, at)| now - at > STOP_REMEMBERED) {
            self.stops.pop_front();
        }
        self.stops.iter().any(|(id, _)| *id == instance_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(instance_id: i64, last_report_time: i64) -> ClosedInstance {
        ClosedInstance { instance_id, last_report_time, attempt: 1, status: "SUCCEED".into() }
    }

    #[test]
    fn the_newest_closed_instances_are_kept_and_the_rest_is_forgotten() {
        let mut memory = Closed::default();
        for id in 0..i64::try_from(CLOSED_KEPT).expect("small") + 5 {
            memory.insert(closed(id, id));
        }
        assert!(memory.get(4).is_none());
        assert!(memory.get(5).is_some());
        assert_eq!(memory.by_id.len(), CLOSED_KEPT);
    }

    #[test]
    fn an_instance_closed_again_keeps_the_newer_entry_and_its_place() {
        let mut memory = Closed::default();
        for round in 0..i64::try_from(3 * CLOSED_KEPT).expect("small") {
            memory.insert(closed(7, round));
        }
        assert_eq!(memory.get(7).map(|c| c.last_report_time), Some(29_999));
        assert!(memory.order.len() <= 2 * CLOSED_KEPT);
    }

    #[test]
    fn an_early_stop_is_forgotten_after_three_seconds_and_the_table_is_bounded() {
        let mut stops = EarlyStops::default();
        stops.remember(1, 0);
        assert!(stops.contains(1, 3_000));
        assert!(!stops.contains(1, 3_001));
        for id in 0..5_000 {
            stops.remember(id, 4_000);
        }
        assert_eq!(stops.stops.len(), STOPS_KEPT);
        assert!(stops.contains(4_999, 4_000));
    }
}
