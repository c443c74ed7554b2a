//! A worker that is to empty itself: it tells so, or ends what it does for other workers.

use super::{
    Action, Machine, Output, finals,
    part::{JobStage, Part},
};
use crate::{core::Now, processor::StopReason, tasks::api::StartTask};

/// So long a request can be under way: its sender gives it up then.
const UNDER_WAY_MS: u64 = 5_000;

impl Machine {
    /// Whether a task of another worker's tracker is not taken: because the worker ends now, or because the instance was stopped
    /// a moment ago and the task was on its way then. It is not acknowledged: a tracker that wants it done, be it for a further
    /// attempt of the instance, sends it again.
    pub(super) fn refuses(&self, now: Now, task: &StartTask) -> bool {
        let stopped = self.stopped.get(&task.instance.instance_id);
        let late = stopped.is_some_and(|at| now.mono_ms.saturating_sub(*at) < UNDER_WAY_MS);
        (self.cancelled || late) && task.task_tracker_address != self.address
    }

    /// Another worker's tracker has stopped an instance.
    pub(super) fn remember_stop(&mut self, now: Now, instance_id: i64) {
        if self.stopped.len() >= 1_000 {
            self.stopped.retain(|_, at| now.mono_ms.saturating_sub(*at) < UNDER_WAY_MS);
        }
        self.stopped.insert(instance_id, now.mono_ms);
    }

    pub(super) fn drain(&mut self, now: Now, on: bool, out: &mut Output) {
        if std::mem::replace(&mut self.draining, on) == on {
            return;
        }
        for part in self.parts_for_others() {
            part.closed_to_more = on;
            part.load_at = now.mono_ms;
        }
        let options = self.options;
        for part in self.parts_for_others() {
            part.load(now, &options, out);
        }
    }

    /// What waits for a slot has failed now, what is at work when its processor has ended. Their trackers hear why, and may
    /// give them to other workers.
    pub(super) fn cancel(&mut self, now: Now, out: &mut Output) {
        self.cancelled = true;
        self.drain(now, true, out);
        let mut waiting = Vec::new();
        for part in self.parts_for_others() {
            part.queue.clear();
            for (id, job) in &mut part.tasks {
                match &job.stage {
                    JobStage::Waiting => waiting.push((part.number, id.clone())),
                    JobStage::Running(execution) if !job.cancelled => {
                        job.cancelled = true;
                        out.actions.push(Action::StopRun { execution: *execution, reason: StopReason::Cancelled });
                    }
                    JobStage::Running(_) | JobStage::Ended(_) => {}
                }
            }
        }
        waiting.sort_unstable();
        let text = finals::cancelled(&self.address, "was waiting for a slot", "");
        for (number, id) in waiting {
            self.end(now, number, &id, finals::failed(text.clone(), now), out);
        }
        let options = self.options;
        for part in self.parts_for_others() {
            part.send(now, &options, out);
        }
    }

    fn parts_for_others(&mut self) -> Vec<&mut Part> {
        let mut parts: Vec<&mut Part> = self.parts.values_mut().filter(|part| !part.own).collect();
        parts.sort_unstable_by_key(|part| part.number);
        parts
    }
}
