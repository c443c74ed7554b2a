//! After a restart: tasks of other workers' trackers that this worker had acknowledged.

use super::{
    Machine, Output, Receipt, Stage,
    bugs::bug,
    finals,
    part::{Job, JobStage},
};
use crate::{core::Now, processor::RestartPolicy, tasks::api::StartTask};

/// What the tracker is told of a task that was cut.
const CUT: &str =
    "the worker was restarted while this task was under way, and its processor cannot take up a task that was cut";

impl Machine {
    /// Takes up what was stored: outcomes are sent again, what waited waits again, and what was at work fails or runs
    /// again, as its processor has it.
    pub(crate) fn recover(
        &mut self,
        now: Now,
        receipts: Vec<Receipt>,
        policy: &dyn Fn(&StartTask) -> RestartPolicy,
    ) -> Output {
        let mut out = Output::default();
        let mut numbers = Vec::new();
        for receipt in receipts {
            let Receipt { start, stage, last_time, since } = receipt;
            if stage == Stage::Waiting && bug!(self.options, WaitingForgotten) {
                continue;
            }
            let number = self.enter(now, &start, since);
            numbers.push(number);
            let Some(part) = self.parts.get_mut(&number) else { continue };
            let id = start.task_id.clone();
            let policy = policy(&start);
            let deadline = part.task_deadline(now);
            part.tasks.insert(id.clone(), Job::new(start, last_time, deadline));
            let Some(job) = part.tasks.get_mut(&id) else { continue };
            let mut told_before = false;
            match stage {
                Stage::Ended(end) => {
                    job.stage = JobStage::Ended(end);
                    told_before = true;
                }
                Stage::Started if policy == RestartPolicy::Fail => {
                    job.stage = JobStage::Ended(finals::failed(CUT, now));
                }
                Stage::Started => {
                    job.resumed = policy == RestartPolicy::Resume;
                    part.queue.push_back(id.clone());
                }
                Stage::Waiting => part.queue.push_back(id.clone()),
            }
            if told_before {
                // The tracker may have it, and knows it again by its time.
                job.time = last_time;
            } else {
                part.stamp(&id, now);
            }
            part.store(&id, &mut out);
            part.speak(&id);
        }
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            self.fill(now, number, &mut out);
        }
        self.address_loads(&mut out);
        out
    }
}
