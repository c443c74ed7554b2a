//! What goes into the core and what comes out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    processor::{ProcessResult, StopReason},
    tasks,
};

/// The moment at which an event is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a monotonic clock with any origin. All waiting is measured on it.
    pub mono_ms: u64,
    /// Epoch milliseconds of this host's wall clock (it may step). Only what is stored or shown uses it.
    pub wall_ms: i64,
    /// Epoch milliseconds of the server's clock as far as it is known, else the wall clock's. What the server compares
    /// with other times uses it.
    pub server_ms: i64,
}

/// `ServerScheduleJobReq` as far as the core decides on it; the whole text is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Job id.
    pub job_id: i64,
    /// Instance id.
    pub instance_id: i64,
    /// Set iff the instance belongs to a workflow.
    pub wf_instance_id: Option<i64>,
    /// Enum name, e.g. `STANDALONE`.
    pub execute_type: String,
    /// Enum name, e.g. `API`.
    pub time_expression_type: String,
    /// Enum name, e.g. `BUILT_IN`.
    pub processor_type: String,
    /// Processor name.
    pub processor_info: String,
    /// Time limit in ms; `None` = none.
    pub timeout_ms: Option<u64>,
    /// Retries of the task on this worker.
    pub task_retry_num: u32,
    /// Parameters of the job or the node.
    pub job_params: Option<String>,
    /// Parameters of this run, or the workflow context.
    pub instance_params: Option<String>,
    /// `logConfig` as it came.
    pub log_config: Option<String>,
}

impl Dispatch {
    /// Whether the instance consists of tasks.
    pub fn is_heavy(&self) -> bool {
        tasks::api::heavy(&self.execute_type, &self.time_expression_type)
    }

    /// Whether the job fires again and again until it is stopped.
    pub fn is_frequent(&self) -> bool {
        tasks::api::is_frequent(&self.time_expression_type)
    }
}

/// Numbers of an instance's tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// All (of a frequent job: firings).
    pub total: i64,
    /// Succeeded ones.
    pub succeeded: i64,
    /// Failed ones.
    pub failed: i64,
}

/// Where an open instance stands. Stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Accepted, waits for a slot; RUNNING for the server.
    Queued,
    /// The processor is at work.
    Running,
    /// The processor has ended; its log is being drained to the server. RUNNING for the server.
    Draining(Outcome),
    /// The final report waits for the server's acceptance.
    Reporting(FinalReport),
    /// The server said stop (or lost interest): nothing is reported any more, the boundary is being emptied.
    Stopping,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// SUCCEED or FAILED.
    pub success: bool,
    /// Result text, already within the result limit.
    pub result: String,
    /// Entries for the workflow context (empty outside of workflows).
    pub appended_context: std::collections::BTreeMap<String, String>,
    /// When the run ended, epoch ms.
    pub end_time: i64,
    /// The tasks of an instance that has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskCounts>,
}

/// A final report, fixed at its first sending: every repeat carries the same `report_time`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalReport {
    /// What is reported.
    pub outcome: Outcome,
    /// `reportTime` of the first sending and of all repeats.
    pub report_time: i64,
}

/// All that is stored of an open instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// What was dispatched. Shared: it never changes, may be long, and a record is copied with each of its changes.
    #[serde(with = "shared")]
    pub dispatch: Arc<Dispatch>,
    /// Where it stands.
    pub stage: Stage,
    /// Which execution of the processor for this instance on this worker it is (while queued: will be), 1 = first.
    /// Goes on counting when the instance comes back after it was closed, so `(instance, attempt)` names one run.
    pub attempt: u32,
    /// Task retries used within this dispatch.
    pub retries_used: u32,
    /// Arrival of the dispatch, epoch ms (`startTime` of reports).
    pub received_at: i64,
    /// Start of the processor, epoch ms; the time limit counts from here.
    pub started_at: Option<i64>,
    /// Highest `reportTime` used; every other report uses a greater one.
    pub last_report_time: i64,
    /// Order of arrival, for the backlog.
    pub seq: u64,
    /// A processor was started and has not been seen to end: after a restart its boundary is taken up or emptied.
    pub boundary_open: bool,
    /// Time that the run had used when this record was written, ms on the monotonic clock.
    pub run_ms: u64,
    /// When this record was written, epoch ms.
    pub written_at: i64,
    /// A new dispatch of the id that arrived while the stage is [`Stage::Stopping`]; it starts when the boundary is empty.
    pub next: Option<Box<Dispatch>>,
}

/// What stays of a closed instance, because its id may come back (retry by the server or by hand): the next run must
/// report with greater times and under another attempt. The newest [`CLOSED_KEPT`] are enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedInstance {
    /// Instance id.
    pub instance_id: i64,
    /// Highest `reportTime` used.
    pub last_report_time: i64,
    /// Last attempt.
    pub attempt: u32,
    /// PowerJob status name with which its log was closed. A driver that finds at start a journal which is still open and
    /// belongs to no open instance closes it with this.
    pub status: String,
}

/// How many closed instances are remembered, in the core and in the store.
pub const CLOSED_KEPT: usize = 10_000;

/// What a restarted worker finds in its store. All empty on the first start.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Every record that was put and not closed.
    pub records: Vec<InstanceRecord>,
    /// The newest closed instances (at most [`CLOSED_KEPT`]), oldest first.
    pub closed: Vec<ClosedInstance>,
    /// The last [`Write::Owner`].
    pub owner: Option<Owner>,
}

/// Where the app's server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Transport address `ip:port` as `/server/acquire` gave it.
    pub transport: String,
    /// A web address that belongs to it or leads to it.
    pub web: String,
    /// `serverInfo.bornTime` of `/server/hello`, when known: another value means an empty online log.
    pub born_time: Option<i64>,
    /// The app's id.
    pub app_id: i64,
}

/// What the server says of an instance (`/openApi/fetchInstanceInfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceInfo {
    /// InstanceStatus code, e.g. 3 = RUNNING, 10 = STOPPED.
    pub status: i32,
    /// The address that the server waits for.
    pub task_tracker_address: Option<String>,
    /// When the server finished it, epoch ms of the server's clock: log lines of a stopped instance are sent only while
    /// this is known and less than 45 s ago.
    pub finished_at: Option<i64>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed: do what is due. Sent at or after [`Core::wake_at`](super::Core::wake_at), harmless at any time.
    Tick,
    /// `/worker/runJob`. The HTTP answer is given once the writes of this event are durable.
    RunJob(Dispatch),
    /// `/worker/stopInstance`.
    StopInstance(i64),
    /// Discovery ended: an owner, or why there is none.
    Discovered(Result<Owner, String>),
    /// A heartbeat was answered (200) or not.
    HeartbeatDone {
        /// Whether the server took it.
        ok: bool,
    },
    /// A RUNNING report was answered or not. Always follows [`Action::ReportRunning`]; the next report of the instance
    /// waits for it.
    RunningReportDone {
        /// Instance.
        instance_id: i64,
        /// Whether the server took it (200, and no body that says `success:false`).
        ok: bool,
    },
    /// The answer to a final report: `Ok(true)` accepted, `Ok(false)` refused by the server (text in `message`), or not delivered.
    FinalReportDone {
        /// Instance.
        instance_id: i64,
        /// Its `report_time`, to tell repeats of an earlier attempt apart.
        report_time: i64,
        /// Accepted by the server.
        accepted: bool,
        /// Why not.
        message: String,
    },
    /// The answer to [`Action::AskInstanceInfo`]; `Err` when the server cannot say (the core then goes on reporting).
    InstanceInfo {
        /// Instance.
        instance_id: i64,
        /// What the server says; `Ok(None)` = it does not know the instance.
        info: Result<Option<InstanceInfo>, String>,
    },
    /// The first line of the instance's log has been acknowledged by the server.
    FirstLineSent(i64),
    /// Every line of the instance's log has been acknowledged, or the time for it is over: the answer to
    /// [`Action::DrainLog`].
    LogDrained {
        /// Instance.
        instance_id: i64,
        /// The attempt of the [`Action::DrainLog`] that this answers.
        attempt: u32,
    },
    /// The processor ended (returned, panicked or was cut by a restart).
    ProcessorEnded {
        /// Instance.
        instance_id: i64,
        /// The attempt that ended.
        attempt: u32,
        /// How.
        result: ProcessResult,
        /// What it appended to the workflow context.
        appended_context: std::collections::BTreeMap<String, String>,
        /// Its tasks, if it was a task tracker.
        tasks: Option<TaskCounts>,
    },
    /// Refuse new instances (`true`) or take them again.
    Drain(bool),
    /// End everything that waits or runs; it is reported FAILED.
    Cancel,
    /// The host has no room for further instances (`true`) although slots may be free, or has some again.
    HostFull(bool),
}

/// What must become durable before the actions of the same output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Insert or replace the record of an open instance.
    Put(Box<InstanceRecord>),
    /// The instance is closed: forget its record and keep this in its place.
    Close(ClosedInstance),
    /// The owner to which the open logs now go. Comes after the [`Action::RewindLog`]s that a new one asks for.
    Owner(Owner),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find the app's server; answer with [`Event::Discovered`]. Never two at once.
    Discover {
        /// The owner in use, for `currentServer`.
        current: Option<String>,
    },
    /// Send a heartbeat now; answer with [`Event::HeartbeatDone`]. Never two at once to the same owner.
    SendHeartbeat {
        /// The overload flag.
        overload: bool,
        /// Open instances that are one run each.
        light_task_trackers: u32,
        /// Open instances that consist of tasks.
        heavy_task_trackers: u32,
    },
    /// Tell the server that the instance is RUNNING; answer with [`Event::RunningReportDone`]. If a stop of the instance
    /// arrives while it is under way, abort it.
    ReportRunning {
        /// Instance.
        instance_id: i64,
        /// Strictly increasing per instance.
        report_time: i64,
    },
    /// Send the final report; answer with [`Event::FinalReportDone`].
    ReportFinal {
        /// Instance.
        instance_id: i64,
        /// The report.
        report: FinalReport,
    },
    /// Ask the server what it thinks of the instance; answer with [`Event::InstanceInfo`].
    AskInstanceInfo(i64),
    /// Open the journal of the instance (a further attempt goes on in the same journal; open already is no error).
    OpenLog {
        /// Instance.
        instance_id: i64,
        /// `true`: let its server sink run; [`Event::FirstLineSent`] follows when the server has the first line (again at
        /// once if it has it already). `false`: hold the sink, nothing goes to the server until the next `OpenLog` with
        /// `true`, because the server may have finished the instance and late lines hide its archived log. The journal
        /// takes lines either way; a [`Action::DrainLog`] without limit waits while the sink is held and goes on
        /// afterwards. Never `true` for a new attempt while a drain is under way.
        send: bool,
    },
    /// Write a line of the agent's own into the instance's log.
    LogLine {
        /// Instance.
        instance_id: i64,
        /// PowerJob level number: 2 INFO, 3 WARN, 4 ERROR.
        level: u8,
        /// One line.
        text: String,
    },
    /// Run the processor; [`Event::ProcessorEnded`] follows, always, and only when its boundary is empty.
    StartProcessor {
        /// Instance.
        instance_id: i64,
        /// The attempt.
        attempt: u32,
        /// A restarted worker found it running: apply the processor's restart policy. When the instance was being
        /// stopped, a [`Action::StopProcessor`] follows in the same output: take up the boundary only to empty it.
        resumed: bool,
        /// What is left of the time limit, ms.
        time_left_ms: Option<u64>,
    },
    /// Raise the processor's stop signal.
    StopProcessor {
        /// Instance.
        instance_id: i64,
        /// Why.
        reason: StopReason,
    },
    /// Send what is left; [`Event::LogDrained`] follows when all is acknowledged, or after `limit_ms`, and from then on nothing
    /// more goes to the server. Another one for the instance replaces it. With a limit of 0 it means: stop sending now.
    DrainLog {
        /// Instance.
        instance_id: i64,
        /// The attempt, for the answer.
        attempt: u32,
        /// Give up after this time (a stopped instance: 45 s); `None` = never.
        limit_ms: Option<u64>,
    },
    /// The server's copy of this log is gone: send it again from line 0.
    RewindLog(i64),
    /// Close the journal (opening it if need be) and end its sinks' work: its readers see `status` (the PowerJob status
    /// name) as the end.
    CloseLog {
        /// Instance.
        instance_id: i64,
        /// `SUCCEED`, `FAILED`, `STOPPED`..
        status: &'static str,
    },
    /// Something an operator should read in the agent's own log.
    Warn(String),
}

/// What one or more events led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Durable first.
    pub writes: Vec<Write>,
    /// Then these, in order.
    pub actions: Vec<Action>,
}

/// What the core must know beforehand.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// This worker's address, the same everywhere.
    pub address: String,
    /// How many processors run at once.
    pub slots: usize,
    /// How many accepted instances may wait behind the slots.
    pub backlog: usize,
    /// How many instances with tasks may be open.
    pub heavy: usize,
    /// Longest result text, UTF-16 units.
    pub result_limit: usize,
    /// Longest appended workflow context as JSON, UTF-16 units.
    pub context_limit: usize,
}

/// A shared value is stored like the value itself.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}
