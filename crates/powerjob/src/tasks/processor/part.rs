//! A part: what this worker does for one tracker of one instance.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Action, Options, Output, Receipt, Stage, Write, api::Final, done::Done};
use crate::{
    core::Now,
    processor::StopReason,
    tasks::api::{InstanceInfo, ROOT_TASK, ReportTask, ReportWorker, StartTask, TaskStatus},
};

/// From so many waiting tasks on a Java tracker sends nothing, until a LOAD tells of fewer.
const FULL_FOR_TRACKERS: usize = 20;
/// What a worker that is to empty itself tells.
const NO_ROOM: usize = 1000;
/// `type` of a worker's report.
const IDLE: i32 = 1;
const LOAD: i32 = 2;
/// `cmd` of the outcome of a broadcast's root.
const PRE_PROCESSED: i32 = 1;
/// `timeExpressionType` of jobs that fire by themselves.
const FREQUENT: std::ops::RangeInclusive<i32> = 3..=4;

pub(super) struct Part {
    pub(super) number: u64,
    pub(super) tracker: String,
    /// The tracker is this worker's own.
    pub(super) own: bool,
    pub(super) info: Arc<InstanceInfo>,
    pub(super) slots: usize,
    /// When its first task came, epoch ms.
    pub(super) since: i64,
    /// When its time is over, monotonic ms. Tasks of frequent jobs have their own.
    pub(super) deadline: Option<u64>,
    pub(super) tasks: HashMap<String, Job>,
    pub(super) queue: VecDeque<String>,
    /// Executions at work, also those of a part that is closed.
    pub(super) running: HashMap<u64, String>,
    /// Tasks with something to report.
    pub(super) outbox: VecDeque<String>,
    pub(super) in_flight: usize,
    /// Reports in a row that were lost.
    pub(super) lost: u32,
    pub(super) lost_since: Option<u64>,
    pub(super) retry_at: Option<u64>,
    pub(super) load_at: u64,
    /// The tracker is told that there is no room.
    pub(super) closed_to_more: bool,
    load_time: i64,
    told_full: bool,
    pub(super) idle_since: u64,
    /// Highest time seen, by the server's clock, which all workers have in common: what is stamped never goes back.
    clock: i64,
    /// Report times of accepted failures that are not past yet: the next try, which may come in the same moment, follows them.
    failed: HashMap<String, i64>,
    /// What is done and may come a second time.
    pub(super) done: Done,
}

/// One task of a part.
pub(super) struct Job {
    pub(super) start: Arc<StartTask>,
    pub(super) stage: JobStage,
    /// Highest status that the tracker was told.
    pub(super) told: i32,
    pub(super) in_flight: bool,
    pub(super) in_outbox: bool,
    pub(super) last_time: i64,
    /// Time of the report of its present status.
    pub(super) time: i64,
    pub(super) resumed: bool,
    /// When its own time is over, monotonic ms.
    pub(super) deadline: Option<u64>,
    pub(super) timed_out: bool,
    /// The worker's operator ended it.
    pub(super) cancelled: bool,
}

#[derive(Debug)]
pub(super) enum JobStage {
    Waiting,
    Running(u64),
    Ended(Final),
}

impl Job {
    pub(super) fn status(&self) -> TaskStatus {
        match &self.stage {
            JobStage::Waiting => TaskStatus::Received,
            JobStage::Running(_) => TaskStatus::Processing,
            JobStage::Ended(end) if end.success => TaskStatus::Succeeded,
            JobStage::Ended(_) => TaskStatus::Failed,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.stage, JobStage::Ended(_))
    }
}

impl Part {
    pub(super) fn new(number: u64, task: &StartTask, own: bool, since: i64, now: Now) -> Self {
        let info = task.instance.clone();
        let limit = time_limit(&info);
        let used = u64::try_from(now.wall_ms.saturating_sub(since)).unwrap_or(0);
        let deadline = if FREQUENT.contains(&info.time_expression_type) {
            None
        } else {
            limit.map(|limit| now.mono_ms.saturating_add(limit.saturating_sub(used)))
        };
        Self {
            number,
            tracker: task.task_tracker_address.clone(),
            own,
            slots: slots(&info),
            info,
            since,
            deadline,
            tasks: HashMap::new(),
            queue: VecDeque::new(),
            running: HashMap::new(),
            outbox: VecDeque::new(),
            in_flight: 0,
            lost: 0,
            lost_since: None,
            retry_at: None,
            load_at: now.mono_ms,
            closed_to_more: false,
            load_time: 0,
            told_full: false,
            idle_since: now.mono_ms,
            clock: now.server_ms,
            failed: HashMap::new(),
            done: Done::default(),
        }
    }

    /// The report time that the first one of a task must exceed.
    pub(super) fn last_time(&self, task_id: &str) -> i64 {
        self.failed.get(task_id).copied().unwrap_or(0)
    }

    /// The next report time of a task.
    pub(super) fn stamp(&mut self, task_id: &str, now: Now) {
        self.clock = self.clock.max(now.server_ms);
        let clock = self.clock;
        if let Some(job) = self.tasks.get_mut(task_id) {
            job.time = clock.max(job.last_time.saturating_add(1));
            job.last_time = job.time;
        }
    }

    /// The deadline of a task of a frequent job.
    pub(super) fn task_deadline(&self, now: Now) -> Option<u64> {
        let limit = time_limit(&self.info).filter(|_| FREQUENT.contains(&self.info.time_expression_type));
        limit.map(|limit| now.mono_ms.saturating_add(limit))
    }

    /// Has something to say about a task.
    pub(super) fn speak(&mut self, task_id: &str) {
        if let Some(job) = self.tasks.get_mut(task_id)
            && !job.in_outbox
            && !job.in_flight
        {
            job.in_outbox = true;
            self.outbox.push_back(task_id.to_owned());
        }
    }

    /// Sends what may be sent: while the tracker does not answer, one report at a time and not before its turn.
    pub(super) fn send(&mut self, now: Now, options: &Options, out: &mut Output) {
        loop {
            let free = match self.retry_at {
                Some(at) => self.in_flight == 0 && now.mono_ms >= at,
                None => self.in_flight < options.in_flight,
            };
            if !free {
                return;
            }
            let Some(task_id) = self.outbox.pop_front() else { return };
            let Some(job) = self.tasks.get_mut(&task_id) else { continue };
            job.in_outbox = false;
            if job.in_flight {
                // It stood there twice, once for a try before: its turn comes with the answer.
                continue;
            }
            let status = job.status();
            if job.told >= status as i32 {
                continue;
            }
            job.in_flight = true;
            let end = match &job.stage {
                JobStage::Ended(end) => Some(end),
                _ => None,
            };
            let pre_processed = self.info.execute_type == "BROADCAST" && job.start.task_name == ROOT_TASK;
            let report = ReportTask {
                instance_id: self.info.instance_id,
                sub_instance_id: job.start.sub_instance_id,
                task_id,
                status: status as i32,
                result: end.map(|end| end.result.clone()),
                report_time: job.time,
                cmd: end.filter(|_| pre_processed).map(|_| PRE_PROCESSED),
                appended_wf_context: end.map(|end| end.context.clone()),
                rejected: end.is_some_and(|end| end.rejected),
            };
            self.in_flight += 1;
            out.actions.push(Action::Report { part: self.number, tracker: self.tracker.clone(), report });
        }
    }

    /// Tasks that are not over, without outcomes that nobody takes now.
    pub(super) fn open_tasks(&self) -> usize {
        let stranded = |job: &&Job| self.lost > 0 && job.is_ended();
        self.tasks.len() - self.tasks.values().filter(stranded).count()
    }

    /// Whether one more task may wait. What the own tracker sends is bounded by the slots and shall not be sent again.
    pub(super) fn has_room(&self, options: &Options) -> bool {
        let most = if self.own { options.queue.max(2 * self.slots) } else { options.queue };
        self.queue.len() < most
    }

    /// Tells the load when it is time to, and at once when the tracker would otherwise send what finds no place, or
    /// believe for long that there is none.
    pub(super) fn load(&mut self, now: Now, options: &Options, out: &mut Output) {
        let waiting = self.queue.len();
        let turned = if self.told_full { waiting < FULL_FOR_TRACKERS / 2 } else { waiting >= FULL_FOR_TRACKERS };
        if now.mono_ms < self.load_at && !turned {
            return;
        }
        self.load_at = now.mono_ms + options.load_every;
        // A tracker that takes no outcome shall count this worker as lost.
        if self.lost == 0 {
            self.told_full = self.queue.len() >= FULL_FOR_TRACKERS;
            self.tell(LOAD, now, out);
        }
    }

    /// A report was accepted.
    pub(super) fn heard(&mut self) {
        self.lost = 0;
        self.lost_since = None;
        self.retry_at = None;
    }

    /// A report was lost: the next one waits, first 1 s, later 10 s, after ten minutes a minute.
    pub(super) fn missed(&mut self, now: Now, why: &str) {
        if self.lost == 0 {
            let (instance_id, tracker) = (self.info.instance_id, &self.tracker);
            tracing::warn!(instance_id, tracker, why, "a task tracker took no report; it is sent again until it does");
        }
        let since = *self.lost_since.get_or_insert(now.mono_ms);
        let wait = match now.mono_ms.saturating_sub(since) {
            600_000.. => 60_000,
            _ => (1_000_u64 << self.lost.min(4)).min(10_000),
        };
        self.lost = self.lost.saturating_add(1);
        self.retry_at = Some(now.mono_ms + wait);
    }

    /// The settings that the instance is logged by.
    pub(super) fn log_config(&self) -> Option<String> {
        self.info.log_config.clone()
    }

    pub(super) fn tell_idle(&mut self, now: Now, out: &mut Output) {
        self.tell(IDLE, now, out);
    }

    fn tell(&mut self, kind: i32, now: Now, out: &mut Output) {
        self.clock = self.clock.max(now.server_ms);
        self.load_time = self.clock.max(self.load_time + 1);
        let waiting = self.queue.len();
        let remain = if self.closed_to_more && kind == LOAD { waiting.max(NO_ROOM) } else { waiting };
        let report = ReportWorker {
            kind,
            instance_id: self.info.instance_id,
            time: self.load_time,
            remain_task_num: i64::try_from(remain).unwrap_or(i64::MAX),
            // Filled in by the machine, which knows it.
            address: String::new(),
        };
        out.actions.push(Action::Load { tracker: self.tracker.clone(), report });
    }

    /// Stores how far a task is; tasks of the own tracker are in its table.
    pub(super) fn store(&self, task_id: &str, out: &mut Output) {
        if self.own {
            return;
        }
        let Some(job) = self.tasks.get(task_id) else { return };
        let stage = match &job.stage {
            JobStage::Waiting => Stage::Waiting,
            JobStage::Running(_) => Stage::Started,
            JobStage::Ended(end) => Stage::Ended(end.clone()),
        };
        let receipt = Receipt { start: (*job.start).clone(), stage, last_time: job.last_time, since: self.since };
        out.writes.push(Write::Put(Box::new(receipt)));
    }

    /// The outcome of a task was accepted, or is wanted no more.
    pub(super) fn forget(&mut self, task_id: &str, out: &mut Output) {
        let gone = self.tasks.remove(task_id);
        let clock = self.clock;
        if let Some(job) = gone.filter(|job| job.last_time >= clock && job.status() == TaskStatus::Failed) {
            self.failed.retain(|_, time| *time >= clock);
            self.failed.insert(task_id.to_owned(), job.last_time);
        }
        if !self.own {
            out.writes.push(Write::Remove {
                tracker: self.tracker.clone(),
                instance_id: self.info.instance_id,
                task_id: task_id.to_owned(),
            });
        }
    }

    /// Asks all its processors to end and forgets everything else.
    pub(super) fn close(&mut self, reason: StopReason, out: &mut Output) {
        for &execution in self.running.keys() {
            out.actions.push(Action::StopRun { execution, reason });
        }
        self.tasks.clear();
        self.queue.clear();
        self.outbox.clear();
        if !self.own {
            let (tracker, instance_id) = (self.tracker.clone(), self.info.instance_id);
            out.writes.push(Write::RemoveAll { tracker, instance_id });
        }
    }

    /// The next deadline of a task of a frequent job.
    fn first_deadline(&self) -> Option<u64> {
        if !self.is_frequent() {
            return None;
        }
        self.tasks.values().filter(|job| !job.timed_out && !job.is_ended()).filter_map(|job| job.deadline).min()
    }

    /// Its tasks have time limits of their own, not the part.
    pub(super) fn is_frequent(&self) -> bool {
        FREQUENT.contains(&self.info.time_expression_type)
    }

    /// When something is due.
    pub(super) fn wake_at(&self, options: &Options) -> u64 {
        let idle = (!self.own && self.tasks.is_empty()).then_some(self.idle_since + options.idle_after);
        let send = self.retry_at.filter(|_| self.in_flight == 0 && !self.outbox.is_empty());
        let dues = [self.deadline, idle, send, self.first_deadline()];
        dues.into_iter().flatten().fold(self.load_at, u64::min)
    }
}

/// The time limit in ms, if there is one: "none" travels as the greatest 32-bit number.
fn time_limit(info: &InstanceInfo) -> Option<u64> {
    u64::try_from(info.instance_timeout_ms).ok().filter(|&ms| ms > 0 && ms < u64::from(i32::MAX.unsigned_abs()))
}

/// Tasks of one instance at once, as the Java worker has it.
fn slots(info: &InstanceInfo) -> usize {
    let given = usize::try_from(info.thread_concurrency).unwrap_or(1).max(1);
    match info.execute_type.as_str() {
        "MAP" | "MAP_REDUCE" => given,
        _ if FREQUENT.contains(&info.time_expression_type) => given,
        _ if matches!(info.processor_type.as_str(), "SHELL" | "PYTHON") => 1,
        _ => 2,
    }
}
