//! What goes into the machine and what comes out.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    processor::{ProcessResult, StopReason},
    tasks::api::{ReportTask, ReportWorker, StartTask},
};

/// Numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Longest result text in UTF-16 units.
    pub(crate) result_limit: usize,
    /// Longest appended workflow context as JSON in UTF-16 units.
    pub(crate) context_limit: usize,
    /// Tasks of one instance that wait for a slot; more are not acknowledged.
    pub(crate) queue: usize,
    /// Time between two LOAD reports, ms.
    pub(crate) load_every: u64,
    /// Without a task for so long, a tracker of another worker is left, ms.
    pub(crate) idle_after: u64,
    /// An outcome that its tracker has not accepted for so long is given up, ms.
    pub(crate) give_up_after: u64,
    /// Reports under way to one tracker for one instance.
    pub(crate) in_flight: usize,
    /// A mistake to make.
    #[cfg(test)]
    pub(crate) bug: Option<super::Bug>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            result_limit: 8192,
            context_limit: 8192,
            queue: 128,
            load_every: 10_000,
            idle_after: 120_000,
            give_up_after: 24 * 3_600_000,
            in_flight: 32,
            #[cfg(test)]
            bug: None,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Time passed.
    Tick,
    /// `startTask`.
    Start(StartTask),
    /// A processor has ended; always follows [`Action::Run`].
    Ended {
        /// Which execution.
        execution: u64,
        /// Its outcome.
        result: ProcessResult,
        /// What it appended to the workflow context.
        context: BTreeMap<String, String>,
    },
    /// A report was answered or not; always follows [`Action::Report`].
    Reported {
        /// Of which part.
        part: u64,
        /// Of which task.
        task_id: String,
        /// Its `report_time`.
        report_time: i64,
        /// What became of it.
        answered: Answered,
    },
    /// This worker's own tracker has ended the instance: nothing of it is wanted here any more. What is done for a tracker
    /// of another worker, which may have the instance now, goes on.
    Stop(i64),
    /// A tracker of another worker has stopped the instance. It may speak of an execution of before, while this worker's
    /// own tracker has the instance now: what is done for that one goes on.
    StopForOthers(i64),
    /// The worker is to empty itself, or takes tasks again: trackers of other workers are told that there is no room. What
    /// comes nevertheless (a broadcast has no other place) is done.
    Drain(bool),
    /// The worker ends without waiting: tasks of other workers' trackers end and are reported failed, and no more are taken.
    /// Those of the own tracker are stopped by it.
    Cancel,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Answered 200 (and `success:true` for an outcome).
    Accepted,
    /// Nobody answered, or the tracker knows nothing of the instance, or said no.
    Lost(String),
}

/// What follows from events.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// What must be durable before the actions are carried out.
    pub(crate) writes: Vec<Write>,
    /// In this order.
    pub(crate) actions: Vec<Action>,
}

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Run the processor; [`Event::Ended`] follows.
    Run {
        /// Names this execution.
        execution: u64,
        /// The task.
        task: Arc<StartTask>,
        /// It was cut by a restart and its processor takes it up.
        resumed: bool,
        /// Time left to it, ms.
        time_left_ms: Option<u64>,
    },
    /// Ask a processor to end.
    StopRun {
        /// Which execution.
        execution: u64,
        /// Why.
        reason: StopReason,
    },
    /// Send a report to the tracker; [`Event::Reported`] follows.
    Report {
        /// Goes back with the answer.
        part: u64,
        /// To whom.
        tracker: String,
        /// What.
        report: ReportTask,
    },
    /// Send the load to the tracker. Nobody waits for an answer.
    Load {
        /// To whom.
        tracker: String,
        /// What.
        report: ReportWorker,
    },
    /// Write a line into the instance's log; `error` tells its level, ERROR or WARN.
    Line {
        /// Instance.
        instance_id: i64,
        /// The log settings of the instance.
        log_config: Option<String>,
        /// ERROR instead of WARN.
        error: bool,
        /// Text.
        text: String,
    },
    /// No processor of the instance runs here any more, and none will: a stop has ended.
    Stopped(i64),
    /// Nothing is left of an instance of another worker's tracker: its log is sent and closed.
    Release(i64),
}

/// What is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// A task as it is now.
    Put(Box<Receipt>),
    /// A task that is done with.
    Remove {
        /// The task's tracker.
        tracker: String,
        /// Instance.
        instance_id: i64,
        /// Task.
        task_id: String,
    },
    /// All tasks of an instance of this tracker.
    RemoveAll {
        /// The tracker.
        tracker: String,
        /// Instance.
        instance_id: i64,
    },
}

/// What is stored of a task that another worker's tracker has given to this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The task as it came.
    pub(crate) start: StartTask,
    /// How far it is.
    pub(crate) stage: Stage,
    /// Highest report time used.
    pub(crate) last_time: i64,
    /// When the first task of the instance came from this tracker, epoch ms: its time limit counts from here.
    pub(crate) since: i64,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Waits for a slot.
    Waiting,
    /// Its processor was started.
    Started,
    /// Has ended; its tracker has not accepted this yet.
    Ended(Final),
}

/// The outcome of a task, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Final {
    /// SUCCEED or FAILED.
    pub(crate) success: bool,
    /// Within the limit.
    pub(crate) result: String,
    /// Within the limit.
    pub(crate) context: BTreeMap<String, String>,
    /// It would fail again the same way.
    #[serde(default)]
    pub(crate) rejected: bool,
    /// When, epoch ms.
    pub(crate) ended_at: i64,
}
