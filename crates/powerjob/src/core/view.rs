//! What the core lets others see of itself.

use serde::Serialize;

/// One open instance, for status pages and `queryInstanceStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceView {
    /// Instance id.
    pub instance_id: i64,
    /// Job id.
    pub job_id: i64,
    /// Set iff it belongs to a workflow.
    pub wf_instance_id: Option<i64>,
    /// Processor name.
    pub processor: String,
    /// `queued`, `running`, `draining`, `reporting` or `stopping`.
    pub stage: &'static str,
    /// Which execution on this worker.
    pub attempt: u32,
    /// Place in the backlog, 1 = next; `None` unless queued.
    pub queue_position: Option<usize>,
    /// Arrival of the dispatch, epoch ms.
    pub received_at: i64,
    /// Start of the processor, epoch ms.
    pub started_at: Option<i64>,
    /// What is left of the time limit, ms.
    pub time_left_ms: Option<u64>,
    /// Highest `reportTime` used so far.
    pub last_report_time: i64,
    /// How often the final report was sent without being accepted, since this process started.
    pub final_report_failures: u32,
}

/// The worker as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    /// Processors that hold a slot.
    pub slots_used: usize,
    /// All slots.
    pub slots: usize,
    /// Instances in the backlog.
    pub queued: usize,
    /// Places in the backlog.
    pub backlog: usize,
    /// The overload flag as the next heartbeat carries it.
    pub overload: bool,
    /// New instances are refused.
    pub draining: bool,
    /// Open instances in every stage.
    pub open: usize,
    /// Monotonic ms of the last heartbeat that the server took, in the clock of [`super::Now`].
    pub last_heartbeat_ms: Option<u64>,
    /// Why there is no owner, or why the last exchange with it failed.
    pub trouble: Option<String>,
}
