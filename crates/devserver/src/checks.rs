//! The status checks: who has been silent for too long.

use crate::enums::{status, wf_status};
use crate::java::millis;
use crate::world::{Effect, World};

impl World {
    /// One round of all checks.
    pub(crate) fn check(&mut self, now: i64) {
        let timers = self.config.timers.clone();
        self.check_receive(now - millis(timers.receive_overdue), now);
        self.check_running(now - millis(timers.running_overdue), now);
        self.check_dispatch(now - millis(timers.dispatch_overdue));
        self.check_workflows(now - millis(timers.receive_overdue), now);
    }

    fn check_dispatch(&mut self, before: i64) {
        for instance_id in
            self.overdue(|instance| instance.status == status::WAITING_DISPATCH && instance.expected < before)
        {
            self.effects.push(Effect::Dispatch { instance_id, as_node: false });
        }
    }

    fn check_receive(&mut self, before: i64, now: i64) {
        let overdue = self.overdue(|instance| {
            instance.status == status::WAITING_WORKER_RECEIVE && instance.actual.is_some_and(|actual| actual < before)
        });
        for id in overdue {
            self.wait_again(id, now);
        }
    }

    fn check_running(&mut self, before: i64, now: i64) {
        for id in self.overdue(|instance| instance.status == status::RUNNING && instance.modified < before) {
            let Some(instance) = self.instances.get(&id) else {
                continue;
            };
            let again = self.jobs.get(&instance.job_id).is_some_and(|job| {
                job.status == 1 && !job.is_frequent() && instance.running_times < job.instance_retry_num
            });
            if again {
                self.wait_again(id, now);
            } else {
                let result = Some("worker report timeout, maybe TaskTracker down".to_owned());
                self.end_instance(id, status::FAILED, result, now, now);
            }
        }
    }

    fn check_workflows(&mut self, before: i64, now: i64) {
        let mut waiting: Vec<i64> = self
            .wf_instances
            .values()
            .filter(|run| run.status == wf_status::WAITING && run.expected < before)
            .map(|run| run.id)
            .collect();
        waiting.sort_unstable();
        for id in waiting {
            self.start_workflow(id, now);
        }
    }

    fn wait_again(&mut self, id: i64, now: i64) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.status = status::WAITING_DISPATCH;
            instance.modified = now;
        }
    }

    fn overdue(&self, wanted: impl Fn(&crate::model::Instance) -> bool) -> Vec<i64> {
        let mut ids: Vec<i64> =
            self.instances.values().filter(|instance| wanted(instance)).map(|instance| instance.id).collect();
        ids.sort_unstable();
        ids
    }
}
