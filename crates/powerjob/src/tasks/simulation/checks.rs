//! What must hold in the end.

use super::world::{Faults, OWN, World};
use crate::tasks::{processor::Machine, tracker::End};

impl World {
    /// The instance has an outcome, and it is the right one.
    pub(super) fn instance_ended(&mut self, end: &End) {
        if self.traced {
            println!("{:>8} ended: {end:?}", self.now);
        }
        assert!(self.ended_at.is_none(), "it ends twice: {end:?}");
        self.ended_at = Some(self.now);
        assert_eq!(end.stopped, self.ordered_to_stop, "{end:?}");
        if end.stopped {
            return;
        }
        let (total, succeeded, failed) = end.counts;
        assert_eq!(total, succeeded + failed, "{end:?}");
        let broadcast = self.spec.info.execute_type == "BROADCAST";
        let last = i64::from(self.spec.has_last());
        let mapped = i64::try_from(self.mapped.len()).expect("small");
        assert!(broadcast || total == 1 + mapped + last, "{end:?} with {mapped} mapped tasks");
        let done = i64::try_from(self.ended.len()).expect("small");
        assert!(succeeded <= done, "{succeeded} tasks succeeded and {done} were executed with success");
        let Faults { loss, kills, crashes, brief, .. } = self.faults;
        // All work one after the other, and the ways between the steps.
        let time = self.worked + 100 * u64::try_from(total).expect("small") + 1_000;
        // Nothing waits for a timer unless something went wrong, and then not until somebody is taken for idle or lost.
        let more = match (loss, kills, crashes) {
            (0, 0, 0) => 0,
            (_, 0, 0) => 90_000,
            (0, _, 0) if brief => 50_000,
            _ => return,
        };
        assert!(self.now <= time + more, "it took {} ms, with {} ms of work", self.now, self.worked);
        if loss == 0 {
            assert!(kills > 0 || succeeded == done, "{end:?}");
            let again: Vec<_> = self.ended.iter().filter(|(_, times)| **times > 1).collect();
            assert!(again.is_empty(), "executed again after a success: {again:?}");
        }
    }

    /// Whether nothing of the instance is left anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.workers.values().all(|worker| worker.alive && worker.running.is_empty() && worker.machine.is_idle())
    }

    /// After the stop of an ended instance nothing is left, and nothing comes back.
    pub(super) fn check_end(mut self) {
        for worker in self.workers.values() {
            assert!(worker.store.is_empty(), "{} keeps {:?}", worker.address, worker.store.keys());
        }
        let now = self.core_now();
        for address in self.workers.keys().cloned().collect::<Vec<_>>() {
            let worker = self.workers.get_mut(&address).expect("a worker");
            let later = crate::core::Now { mono_ms: now.mono_ms + 1_000_000, ..now };
            let output = worker.machine.handle(later, crate::tasks::processor::Event::Tick);
            assert!(output.actions.is_empty(), "{address} goes on: {:?}", output.actions);
        }
        assert!(self.tracker.is_none() && self.workers.contains_key(OWN));
    }

    pub(super) fn open(&self) -> Vec<(String, Vec<String>, usize)> {
        let of = |worker: &super::worker::Worker| {
            let running = worker.running.values().map(|running| running.task.task_id.clone()).collect();
            (worker.address.clone(), running, worker.machine.open_tasks())
        };
        self.workers.values().map(of).collect()
    }
}

impl Machine {
    fn is_idle(&self) -> bool {
        self.wake_at().is_none() && self.open_tasks() == 0
    }
}
