//! A machine with its clock, and messages as trackers write them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ProcessResult, RestartPolicy,
    core::Now,
    tasks::{
        api::{InstanceInfo, ReportTask, ReportWorker, StartTask},
        processor::{Action, Answered, Event, Machine, Options, Output, Receipt, Stage, Write},
    },
};

pub(super) const OWN: &str = "10.0.0.1:27777";
pub(super) const OTHER: &str = "10.0.0.2:27777";
const WALL: i64 = 1_700_000_000_000;

pub(super) fn ok() -> ProcessResult {
    ProcessResult::success("ok")
}

pub(super) fn task(tracker: &str, instance_id: i64, id: &str) -> StartTask {
    StartTask {
        task_tracker_address: tracker.to_owned(),
        instance: Arc::new(InstanceInfo {
            job_id: 1,
            instance_id,
            execute_type: "MAP".to_owned(),
            processor_type: "BUILT_IN".to_owned(),
            processor_info: "p".to_owned(),
            time_expression_type: 1,
            instance_timeout_ms: i64::from(i32::MAX),
            thread_concurrency: 2,
            task_retry_num: 1,
            ..InstanceInfo::default()
        }),
        task_id: id.to_owned(),
        task_name: "SHARD".to_owned(),
        sub_instance_id: instance_id,
        ..StartTask::default()
    }
}

/// The same with another instance description.
pub(super) fn with(mut task: StartTask, change: impl FnOnce(&mut InstanceInfo)) -> StartTask {
    let mut info = (*task.instance).clone();
    change(&mut info);
    task.instance = Arc::new(info);
    task
}

/// A report that is under way.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) part: u64,
    pub(super) report: ReportTask,
}

pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) now: Now,
    pub(super) reports: Vec<Sent>,
    pub(super) loads: Vec<ReportWorker>,
    /// Started and not ended: execution, task id.
    pub(super) running: BTreeMap<u64, String>,
    pub(super) resumed: Vec<String>,
    pub(super) stop_asked: Vec<(u64, crate::StopReason)>,
    pub(super) lines: Vec<String>,
    pub(super) stopped: Vec<i64>,
    pub(super) released: Vec<i64>,
    pub(super) store: BTreeMap<(String, i64, String), Receipt>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with_options(Options::default())
    }

    pub(super) fn with_options(options: Options) -> Self {
        Self {
            machine: Machine::new(OWN, options),
            now: Now { mono_ms: 1_000_000, wall_ms: WALL, server_ms: WALL },
            reports: Vec::new(),
            loads: Vec::new(),
            running: BTreeMap::new(),
            resumed: Vec::new(),
            stop_asked: Vec::new(),
            lines: Vec::new(),
            stopped: Vec::new(),
            released: Vec::new(),
            store: BTreeMap::new(),
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        let output = self.machine.handle(self.now, event);
        self.take(output);
    }

    fn take(&mut self, output: Output) {
        for write in output.writes {
            match write {
                Write::Put(receipt) => {
                    let start = &receipt.start;
                    let key = (start.task_tracker_address.clone(), start.instance.instance_id, start.task_id.clone());
                    self.store.insert(key, *receipt);
                }
                Write::Remove { tracker, instance_id, task_id } => {
                    self.store.remove(&(tracker, instance_id, task_id));
                }
                Write::RemoveAll { tracker, instance_id } => {
                    self.store.retain(|key, _| (&key.0, key.1) != (&tracker, instance_id));
                }
            }
        }
        for action in output.actions {
            match action {
                Action::Run { execution, task, resumed, .. } => {
                    if resumed {
                        self.resumed.push(task.task_id.clone());
                    }
                    self.running.insert(execution, task.task_id.clone());
                }
                Action::StopRun { execution, reason } => self.stop_asked.push((execution, reason)),
                Action::Report { part, report, .. } => self.reports.push(Sent { part, report }),
                Action::Load { report, .. } => self.loads.push(report),
                Action::Line { text, .. } => self.lines.push(text),
                Action::Stopped(id) => self.stopped.push(id),
                Action::Release(id) => self.released.push(id),
            }
        }
    }

    /// Time passes, with all that falls due meanwhile.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now.mono_ms + ms;
        while let Some(at) = self.machine.wake_at().filter(|&at| at <= until) {
            self.forward(at.max(self.now.mono_ms + 1));
            self.handle(Event::Tick);
        }
        self.forward(until.max(self.now.mono_ms));
        self.handle(Event::Tick);
    }

    fn forward(&mut self, mono_ms: u64) {
        let ms = i64::try_from(mono_ms - self.now.mono_ms).expect("small");
        self.now.wall_ms += ms;
        self.now.server_ms += ms;
        self.now.mono_ms = mono_ms;
    }

    pub(super) fn start(&mut self, task: StartTask) {
        self.handle(Event::Start(task));
    }

    /// The clocks step.
    pub(super) fn clock_back(&mut self, ms: i64) {
        self.now.wall_ms -= ms;
        self.now.server_ms -= ms;
    }

    /// Answers the oldest report under way.
    pub(super) fn answer(&mut self, accepted: bool) -> ReportTask {
        let Sent { part, report } = self.reports.remove(0);
        let answered = if accepted { Answered::Accepted } else { Answered::Lost("nobody there".to_owned()) };
        let (task_id, report_time) = (report.task_id.clone(), report.report_time);
        self.handle(Event::Reported { part, task_id, report_time, answered });
        report
    }

    /// Answers everything until nothing is under way; what was said, in this order.
    pub(super) fn answer_all(&mut self) -> Vec<ReportTask> {
        let mut all = Vec::new();
        while !self.reports.is_empty() {
            all.push(self.answer(true));
        }
        all
    }

    pub(super) fn execution(&self, id: &str) -> u64 {
        let found = self.running.iter().find(|(_, task)| *task == id);
        *found.unwrap_or_else(|| panic!("{id} does not run")).0
    }

    pub(super) fn runs(&self) -> Vec<String> {
        self.running.values().cloned().collect()
    }

    pub(super) fn end(&mut self, id: &str, result: ProcessResult) {
        self.end_with(id, result, BTreeMap::new());
    }

    pub(super) fn end_with(&mut self, id: &str, result: ProcessResult, context: BTreeMap<String, String>) {
        let execution = self.execution(id);
        self.running.remove(&execution);
        self.handle(Event::Ended { execution, result, context });
    }

    /// `kill -9` and a start on the same store.
    pub(super) fn restart(&mut self, policy: RestartPolicy) {
        let receipts: Vec<Receipt> = self.store.values().cloned().collect();
        let (store, now) = (std::mem::take(&mut self.store), self.now);
        *self = Self::new();
        (self.store, self.now) = (store, now);
        let output = self.machine.recover(now, receipts, &|_| policy);
        self.take(output);
    }

    pub(super) fn stages(&self) -> Vec<(String, Stage)> {
        self.store.values().map(|receipt| (receipt.start.task_id.clone(), receipt.stage.clone())).collect()
    }
}

pub(super) fn statuses(reports: &[ReportTask]) -> Vec<(&str, i32)> {
    reports.iter().map(|report| (report.task_id.as_str(), report.status)).collect()
}
