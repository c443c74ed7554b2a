//! The machine: all parts of a worker.

use std::{collections::HashMap, sync::Arc};

use super::{
    Action, Answered, Event, Options, Output,
    api::Final,
    bugs::bug,
    finals,
    part::{Job, JobStage, Part},
};
use crate::{
    core::Now,
    processor::{ProcessResult, StopReason},
    tasks::api::{StartTask, TaskStatus},
};

/// All that a worker does as processor tracker.
pub(crate) struct Machine {
    pub(super) address: String,
    pub(super) options: Options,
    pub(super) parts: HashMap<u64, Part>,
    by_key: HashMap<(i64, String), u64>,
    /// Executions and the parts that they belong to, also closed ones.
    executions: HashMap<u64, u64>,
    /// Closed parts whose processors have not ended.
    closing: HashMap<u64, Part>,
    numbers: u64,
    /// Instances that trackers of other workers stopped a moment ago, monotonic ms.
    pub(super) stopped: HashMap<i64, u64>,
    pub(super) draining: bool,
    pub(super) cancelled: bool,
}

impl Machine {
    /// A worker at this address that has nothing to do.
    pub(crate) fn new(address: impl Into<String>, options: Options) -> Self {
        Self {
            address: address.into(),
            options,
            parts: HashMap::new(),
            by_key: HashMap::new(),
            executions: HashMap::new(),
            closing: HashMap::new(),
            numbers: 0,
            stopped: HashMap::new(),
            draining: false,
            cancelled: false,
        }
    }

    /// What follows from an event at this moment.
    pub(crate) fn handle(&mut self, now: Now, event: Event) -> Output {
        let mut out = Output::default();
        match event {
            Event::Tick => self.tick(now, &mut out),
            Event::Start(task) => self.start(now, task, &mut out),
            Event::Ended { execution, result, context } => {
                self.ended(now, execution, result, context, &mut out);
            }
            Event::Reported { part, task_id, report_time, answered } => {
                self.reported(now, part, &task_id, report_time, answered, &mut out);
            }
            Event::Stop(instance_id) => self.stop(now, instance_id, true, &mut out),
            Event::StopForOthers(instance_id) => {
                self.remember_stop(now, instance_id);
                self.stop(now, instance_id, false, &mut out);
            }
            Event::Drain(on) => self.drain(now, on, &mut out),
            Event::Cancel => self.cancel(now, &mut out),
        }
        self.address_loads(&mut out);
        if bug!(self.options, NoReceipts) {
            out.writes.clear();
        }
        out
    }

    /// Loads carry this worker's address.
    pub(super) fn address_loads(&self, out: &mut Output) {
        for action in &mut out.actions {
            if let Action::Load { report, .. } = action {
                report.address.clone_from(&self.address);
            }
        }
    }

    /// When the next [`Event::Tick`] is due, monotonic ms.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        self.parts.values().map(|part| part.wake_at(&self.options)).min()
    }

    /// Whether a task of this tracker and instance would find a place.
    pub(crate) fn has_room(&self, instance_id: i64, tracker: &str) -> bool {
        self.part_of(instance_id, tracker).is_none_or(|part| part.has_room(&self.options))
    }

    /// Whether there is something of the instance from this tracker.
    pub(crate) fn has_part(&self, instance_id: i64, tracker: &str) -> bool {
        self.part_of(instance_id, tracker).is_some()
    }

    /// Tasks at work and waiting, and outcomes on their way. Those that their tracker does not take now are not counted:
    /// they are stored, and nobody can say when it will.
    pub(crate) fn open_tasks(&self) -> usize {
        self.parts.values().map(Part::open_tasks).sum::<usize>()
            + self.closing.values().map(|part| part.running.len()).sum::<usize>()
    }

    fn part_of(&self, instance_id: i64, tracker: &str) -> Option<&Part> {
        self.parts.get(self.by_key.get(&(instance_id, tracker.to_owned()))?)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The part that a task belongs to, made if need be.
    pub(super) fn enter(&mut self, now: Now, task: &StartTask, since: i64) -> u64 {
        let key = (task.instance.instance_id, task.task_tracker_address.clone());
        if let Some(&number) = self.by_key.get(&key) {
            return number;
        }
        let number = self.number();
        let own = task.task_tracker_address == self.address;
        let mut part = Part::new(number, task, own, since, now);
        part.closed_to_more = self.draining && !own;
        self.parts.insert(number, part);
        self.by_key.insert(key, number);
        number
    }

    fn start(&mut self, now: Now, mut task: StartTask, out: &mut Output) {
        if self.refuses(now, &task) {
            return;
        }
        let number = self.enter(now, &task, now.wall_ms);
        let options = self.options;
        let Some(part) = self.parts.get_mut(&number) else { return };
        // Many tasks of an instance carry its parameters: once is enough.
        if *part.info == *task.instance {
            task.instance = part.info.clone();
        }
        part.load(now, &options, out);
        let id = task.task_id.clone();
        if part.done.contains(&id, task.task_current_retry_nums, now.mono_ms) {
            // Sent twice, and what came first is done and told.
            return;
        }
        let (mut last_time, mut in_flight) = (part.last_time(&id), false);
        if let Some(job) = part.tasks.get_mut(&id) {
            let again = matches!(&job.stage, JobStage::Ended(end) if !end.success)
                && task.task_current_retry_nums > job.start.task_current_retry_nums;
            if !again {
                // Sent again because an acknowledgement was lost: it is told once more how far the task is.
                job.told = 0;
                if bug!(options, RunsTwice) {
                    part.queue.push_back(id.clone());
                    return self.fill(now, number, out);
                }
                part.speak(&id);
                return part.send(now, &options, out);
            }
            // The tracker has counted the failure, though its answer was lost, and wants the next try.
            (last_time, in_flight) = (job.last_time, job.in_flight);
            part.forget(&id, out);
        }
        if !part.has_room(&options) {
            // Not acknowledged: its tracker sends it again, to any worker.
            return;
        }
        let deadline = part.task_deadline(now);
        part.tasks.insert(id.clone(), Job { in_flight, ..Job::new(task, last_time, deadline) });
        part.queue.push_back(id.clone());
        part.stamp(&id, now);
        part.store(&id, out);
        part.speak(&id);
        self.fill(now, number, out);
    }

    /// Starts what has a slot, and sends what there is to say.
    pub(super) fn fill(&mut self, now: Now, number: u64, out: &mut Output) {
        let Some(instance_id) = self.parts.get(&number).map(|part| part.info.instance_id) else { return };
        let emptied = self.closing.values().all(|part| part.info.instance_id != instance_id);
        loop {
            let execution = self.number();
            let Some(part) = self.parts.get_mut(&number) else { return };
            let full = part.running.len() >= part.slots && !bug!(self.options, SlotsIgnored);
            if !emptied || full {
                break;
            }
            let Some(id) = part.queue.pop_front() else { break };
            let limit = part.deadline;
            let Some(job) = part.tasks.get_mut(&id) else { continue };
            job.stage = JobStage::Running(execution);
            let due = job.deadline.or(limit);
            out.actions.push(Action::Run {
                execution,
                task: job.start.clone(),
                resumed: std::mem::take(&mut job.resumed),
                time_left_ms: due.map(|due| due.saturating_sub(now.mono_ms)),
            });
            part.running.insert(execution, id.clone());
            self.executions.insert(execution, number);
            part.stamp(&id, now);
            part.store(&id, out);
            part.speak(&id);
        }
        if let Some(part) = self.parts.get_mut(&number) {
            part.load(now, &self.options, out);
            part.send(now, &self.options, out);
        }
    }

    fn ended(
        &mut self,
        now: Now,
        execution: u64,
        result: ProcessResult,
        context: std::collections::BTreeMap<String, String>,
        out: &mut Output,
    ) {
        let Some(number) = self.executions.remove(&execution) else { return };
        if let Some(closed) = self.closing.get_mut(&number) {
            closed.running.remove(&execution);
            let instance_id = closed.info.instance_id;
            return self.settle(now, instance_id, out);
        }
        let options = self.options;
        let Some(part) = self.parts.get_mut(&number) else { return };
        let Some(id) = part.running.remove(&execution) else { return };
        if let Some(job) = part.tasks.get(&id) {
            let end = finals::outcome(&self.address, part, job, result, context, now, &options, out);
            self.end(now, number, &id, end, out);
        }
        self.fill(now, number, out);
    }

    /// A task has ended: its outcome is stored and will be reported.
    pub(super) fn end(&mut self, now: Now, number: u64, id: &str, end: Final, out: &mut Output) {
        let Some(part) = self.parts.get_mut(&number) else { return };
        if let Some(job) = part.tasks.get_mut(id) {
            job.stage = JobStage::Ended(end);
        }
        part.stamp(id, now);
        part.store(id, out);
        part.speak(id);
    }

    fn reported(&mut self, now: Now, number: u64, id: &str, report_time: i64, answered: Answered, out: &mut Output) {
        let options = self.options;
        let heard = answered == Answered::Accepted || bug!(options, OutcomeOnce);
        let Some(part) = self.parts.get_mut(&number) else { return };
        part.in_flight = part.in_flight.saturating_sub(1);
        match answered {
            Answered::Lost(why) if !heard => part.missed(now, &why),
            Answered::Lost(_) | Answered::Accepted => part.heard(),
        }
        if let Some(job) = part.tasks.get_mut(id) {
            job.in_flight = false;
            let newest = job.time == report_time;
            if heard && newest && job.is_ended() {
                part.done.insert(id, job.start.task_current_retry_nums, now.mono_ms);
                part.forget(id, out);
            } else {
                if heard && newest {
                    job.told = job.status() as i32;
                }
                part.speak(id);
            }
        }
        if part.tasks.is_empty() {
            part.idle_since = now.mono_ms;
        }
        part.send(now, &options, out);
    }

    fn tick(&mut self, now: Now, out: &mut Output) {
        let mut numbers: Vec<u64> = self.parts.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(part) = self.parts.get_mut(&number) else { continue };
            if part.deadline.is_some_and(|at| now.mono_ms >= at) {
                let instance_id = part.info.instance_id;
                out.actions.push(Action::Line {
                    instance_id,
                    log_config: part.log_config(),
                    error: false,
                    text: format!(
                        "the time limit of the instance ({} ms) has passed: its tasks on this worker are stopped",
                        part.info.instance_timeout_ms
                    ),
                });
                self.close(number, StopReason::TimedOut, out);
                self.settle(now, instance_id, out);
                continue;
            }
            if !part.own && part.tasks.is_empty() && now.mono_ms >= part.idle_since + self.options.idle_after {
                part.tell_idle(now, out);
                let instance_id = part.info.instance_id;
                self.close(number, StopReason::Stopped, out);
                self.settle(now, instance_id, out);
                continue;
            }
            self.expire(now, number, out);
            self.fill(now, number, out);
        }
    }

    /// Tasks of frequent jobs whose time is over, and outcomes that nobody has wanted for a day.
    fn expire(&mut self, now: Now, number: u64, out: &mut Output) {
        let give_up = i64::try_from(self.options.give_up_after).unwrap_or(i64::MAX);
        let Some(part) = self.parts.get_mut(&number).filter(|part| part.is_frequent() || part.lost > 0) else { return };
        let (mut waiting, mut unwanted) = (Vec::new(), Vec::new());
        for (id, job) in &mut part.tasks {
            let due = !job.timed_out && job.deadline.is_some_and(|at| now.mono_ms >= at);
            match &job.stage {
                JobStage::Waiting if due => waiting.push(id.clone()),
                JobStage::Running(execution) if due => {
                    job.timed_out = true;
                    out.actions.push(Action::StopRun { execution: *execution, reason: StopReason::TimedOut });
                }
                JobStage::Ended(end) if now.wall_ms.saturating_sub(end.ended_at) > give_up => unwanted.push(id.clone()),
                _ => {}
            }
        }
        for id in unwanted {
            tracing::warn!(
                instance_id = part.info.instance_id,
                task = id,
                tracker = part.tracker,
                "the outcome of a task was not accepted for too long and is given up"
            );
            part.forget(&id, out);
        }
        waiting.sort_unstable();
        for id in waiting {
            let Some(part) = self.parts.get_mut(&number) else { return };
            part.queue.retain(|queued| *queued != id);
            let limit = part.info.instance_timeout_ms;
            let end =
                finals::failed(format!("the time limit ({limit} ms) passed while the task waited for a slot"), now);
            self.end(now, number, &id, end, out);
        }
    }

    fn stop(&mut self, now: Now, instance_id: i64, own: bool, out: &mut Output) {
        let mut closed = self.parts_of(instance_id);
        closed.retain(|number| self.parts.get(number).is_some_and(|part| part.own == own));
        for number in closed {
            self.close(number, StopReason::Stopped, out);
        }
        self.settle(now, instance_id, out);
    }

    /// Takes a part out of the way; [`Self::settle`] follows.
    fn close(&mut self, number: u64, reason: StopReason, out: &mut Output) {
        if let Some(mut part) = self.parts.remove(&number) {
            self.by_key.remove(&(part.info.instance_id, part.tracker.clone()));
            let before = out.actions.len();
            part.close(reason, out);
            if bug!(self.options, SilentStop) {
                out.actions.truncate(before);
            }
            self.closing.insert(number, part);
        }
    }

    /// Lets go of the closed parts of an instance when no processor of them runs any more.
    fn settle(&mut self, now: Now, instance_id: i64, out: &mut Output) {
        let of_it = |part: &Part| part.info.instance_id == instance_id;
        if self.closing.values().any(|part| of_it(part) && !part.running.is_empty()) {
            return;
        }
        let foreign = self.closing.values().any(|part| of_it(part) && !part.own);
        self.closing.retain(|_, part| !of_it(part));
        out.actions.push(Action::Stopped(instance_id));
        let others = self.parts_of(instance_id);
        if others.is_empty() && foreign {
            out.actions.push(Action::Release(instance_id));
        }
        // The instance has come again meanwhile.
        for number in others {
            self.fill(now, number, out);
        }
    }

    fn parts_of(&self, instance_id: i64) -> Vec<u64> {
        let parts = self.parts.values().filter(|part| part.info.instance_id == instance_id);
        let mut numbers: Vec<u64> = parts.map(|part| part.number).collect();
        numbers.sort_unstable();
        numbers
    }
}

impl Job {
    pub(super) fn new(start: StartTask, last_time: i64, deadline: Option<u64>) -> Self {
        Self {
            resumed: start.resumed,
            start: Arc::new(start),
            stage: JobStage::Waiting,
            told: TaskStatus::Dispatched as i32,
            in_flight: false,
            in_outbox: false,
            last_time,
            time: 0,
            deadline,
            timed_out: false,
            cancelled: false,
        }
    }
}
