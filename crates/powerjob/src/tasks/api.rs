//! What the two roles say to each other, in this process or over HTTP, and what they say to the worker around them.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use crate::{ProcessResult, wire::ServerScheduleJobReq};

/// Name of the first task of a MAP, MAP_REDUCE, BROADCAST or frequent instance.
pub const ROOT_TASK: &str = "OMS_ROOT_TASK";
/// Name of the tasks that a BROADCAST root leads to.
pub const BROADCAST_TASK: &str = "OMS_BROADCAST_TASK";
/// Name of the reduce or post-processing task.
pub const LAST_TASK: &str = "OMS_LAST_TASK";

/// Status of a task; the numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum TaskStatus {
    /// Waits to be sent to a worker.
    WaitingDispatch = 1,
    /// Sent, not acknowledged.
    Dispatched = 2,
    /// The worker has it.
    Received = 3,
    /// At work.
    Processing = 4,
    /// Ended, failed.
    Failed = 5,
    /// Ended, succeeded.
    Succeeded = 6,
}

impl TaskStatus {
    /// The status of a wire number.
    pub fn of(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::WaitingDispatch,
            2 => Self::Dispatched,
            3 => Self::Received,
            4 => Self::Processing,
            5 => Self::Failed,
            6 => Self::Succeeded,
            _ => return None,
        })
    }

    /// Whether the task has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Succeeded)
    }
}

/// `InstanceInfo` of a startTask: what a processor tracker knows of the instance. `timeExpressionType` is a number here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Job id.
    pub job_id: i64,
    /// Instance id.
    pub instance_id: i64,
    /// Set iff the instance belongs to a workflow.
    pub wf_instance_id: Option<i64>,
    /// Enum name.
    pub execute_type: String,
    /// Enum name.
    pub processor_type: String,
    /// Processor name.
    pub processor_info: String,
    /// Enum number: 3 FIXED_RATE, 4 FIXED_DELAY..
    pub time_expression_type: i32,
    /// Time limit of the (sub-)instance, ms; never ≤ 0, "no limit" is 2147483647.
    pub instance_timeout_ms: i64,
    /// Parameters of the job or node.
    pub job_params: Option<String>,
    /// Parameters of the run, or the workflow context.
    pub instance_params: Option<String>,
    /// Tasks at once per worker.
    pub thread_concurrency: i32,
    /// Retries of a task.
    pub task_retry_num: i32,
    /// JSON text.
    pub log_config: Option<String>,
    /// JSON text, 4.3.8+.
    pub advanced_runtime_config: Option<String>,
}

/// `POST /processorTracker/startTask`, task tracker → processor tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartTask {
    /// Where to report.
    pub task_tracker_address: String,
    /// The instance.
    pub instance: Arc<InstanceInfo>,
    /// Task id: `0`, `0.3`, `9999`, `L4`..
    pub task_id: String,
    /// [`ROOT_TASK`], [`BROADCAST_TASK`], [`LAST_TASK`] or the name given to `map`.
    pub task_name: String,
    /// The sub-task's body as the worker that mapped it encoded it; opaque to a task tracker. Absent for root, broadcast, last.
    pub task_content: Option<Vec<u8>>,
    /// Failed executions so far.
    pub task_current_retry_nums: i32,
    /// The instance's id, or the number of the firing of a frequent job.
    pub sub_instance_id: i64,
    /// JSON text; the processor tracker logs by this one.
    pub log_config: Option<String>,
    /// JSON text, 4.3.8+.
    pub advanced_runtime_config: Option<String>,
    /// Never on the wire: this worker was restarted while the task was at work here, and its processor takes it up
    /// ([`RestartPolicy::Resume`](crate::RestartPolicy)).
    pub resumed: bool,
}

/// `POST /taskTracker/reportTaskStatus`, processor tracker → task tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportTask {
    /// Instance id.
    pub instance_id: i64,
    /// As in the startTask; always sent.
    pub sub_instance_id: i64,
    /// Task id.
    pub task_id: String,
    /// Wire number 3..6.
    pub status: i32,
    /// Only with 5 and 6.
    pub result: Option<String>,
    /// The reporting worker's clock, strictly increasing per task.
    pub report_time: i64,
    /// 1 = the pre-processing of a broadcast has ended.
    pub cmd: Option<i32>,
    /// With 5 and 6.
    pub appended_wf_context: Option<BTreeMap<String, String>>,
    /// Never on the wire, which has no word for it and whose old readers take no other words: the task would fail again the
    /// same way ([`ProcessResult::rejected`]), so that retries are not used up on it.
    pub rejected: bool,
}

/// `POST /taskTracker/reportProcessorTrackerStatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportWorker {
    /// 1 IDLE, 2 LOAD.
    pub kind: i32,
    /// Instance id.
    pub instance_id: i64,
    /// The reporting worker's clock.
    pub time: i64,
    /// Queued tasks, without those at work.
    pub remain_task_num: i64,
    /// The reporting worker.
    pub address: String,
}

/// One sub-task of a [`MapTask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubTask {
    /// `<parent>.<n>`.
    pub task_id: String,
    /// Encoded body.
    pub content: Vec<u8>,
}

/// `POST /taskTracker/mapTask`, processor tracker → task tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapTask {
    /// Instance id.
    pub instance_id: i64,
    /// As in the startTask of the mapping task.
    pub sub_instance_id: i64,
    /// Name of the new tasks.
    pub task_name: String,
    /// The new tasks.
    pub sub_tasks: Vec<SubTask>,
}

/// What a task ended with, as reduce and post-processing see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskResult {
    /// Task id.
    pub task_id: String,
    /// SUCCEED or FAILED.
    pub success: bool,
    /// Its result text.
    pub result: String,
}

/// The results of all ended tasks of a (sub-)instance, read page by page so that a million of them need no memory.
#[async_trait]
pub trait ResultSource: Send + Sync {
    /// Up to `limit` results after the one that `after` names (`None` = from the first), ordered by insertion. Empty = no more.
    async fn page(&self, after: Option<&TaskResult>, limit: usize) -> Result<Vec<TaskResult>, String>;
}

/// Why a peer could not be asked, or said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// Nobody answered, the answer was not 200, or (for asks) was empty: may be tried again.
    Unreachable(String),
    /// It answered `success:false`.
    Refused(String),
}

/// A worker that executes tasks (role processor tracker): this process's own, or another one over HTTP.
#[async_trait]
pub trait WorkerPeer: Send + Sync {
    /// Hands a task over. `Ok` means delivered; the task is acknowledged by a report of status 3.
    /// `results` goes with a last task, which always runs on the task tracker's own worker.
    async fn start_task(
        &self,
        address: &str,
        task: StartTask,
        results: Option<Arc<dyn ResultSource>>,
    ) -> Result<(), PeerError>;
    /// Tells the worker to drop everything of the instance. For the own worker: returns when nothing of it runs any more.
    async fn stop_instance(&self, address: &str, instance_id: i64) -> Result<(), PeerError>;
}

/// A worker that owns an instance (role task tracker): this process's own, or another one over HTTP.
#[async_trait]
pub trait TrackerPeer: Send + Sync {
    /// Reports a task; for status 5 and 6 `Ok` means that the tracker answered `success:true`.
    async fn report_task(&self, tracker: &str, report: ReportTask) -> Result<(), PeerError>;
    /// Reports load or idleness; nothing is answered.
    async fn report_worker(&self, tracker: &str, report: ReportWorker) -> Result<(), PeerError>;
    /// Adds sub-tasks, all or none; `Ok` only when the tracker has stored them.
    async fn map_task(&self, tracker: &str, map: MapTask) -> Result<(), PeerError>;
}

/// Asks the server for the workers of a job (`/server/queryJobCluster`).
#[async_trait]
pub trait ClusterQuery: Send + Sync {
    /// Addresses of the workers that may work for the job now.
    async fn workers(&self, job_id: i64) -> Result<Vec<String>, String>;
}

/// What RUNNING reports and queries need to know of an instance with tasks. Cheap to read, at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tasks, or firings of a frequent job.
    pub total: i64,
    /// Succeeded ones.
    pub succeeded: i64,
    /// Failed ones.
    pub failed: i64,
    /// Text of an alarm of a frequent job that no report has carried yet.
    pub alert: Option<String>,
}

/// How an instance with tasks ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerEnd {
    /// Outcome and result text.
    pub result: ProcessResult,
    /// Entries for the workflow context.
    pub appended_context: BTreeMap<String, String>,
    /// The last numbers, for the final report.
    pub progress: Progress,
}

/// Whether a dispatch is for a task tracker of this module ("heavy") and not one single run ("light"): everything but
/// STANDALONE jobs that are neither FIXED_RATE nor FIXED_DELAY.
pub fn is_heavy(dispatch: &ServerScheduleJobReq) -> bool {
    heavy(&dispatch.execute_type, &dispatch.time_expression_type)
}

/// [`is_heavy`] by the two enum names.
pub fn heavy(execute_type: &str, time_expression_type: &str) -> bool {
    execute_type != "STANDALONE" || is_frequent(time_expression_type)
}

/// Whether the job fires by itself, again and again, until it is stopped.
pub fn is_frequent(time_expression_type: &str) -> bool {
    matches!(time_expression_type, "FIXED_RATE" | "FIXED_DELAY")
}
