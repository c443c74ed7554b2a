//! What trackers need of the worker around them.

use std::sync::Arc;

use crate::{
    JobLogger, RestartPolicy, StopSignal,
    core::Now,
    tasks::{
        api::{ClusterQuery, WorkerPeer},
        table::TaskStore,
        tracker::TrackerOptions,
    },
    wire::ServerScheduleJobReq,
};

/// The surroundings of all trackers of a lane.
#[derive(Clone)]
pub(crate) struct TrackerDeps {
    /// The lane; instances of several lanes share the table.
    pub(crate) lane: String,
    /// This worker, as the server and other workers know it.
    pub(crate) address: String,
    /// Tasks on disk.
    pub(crate) table: TaskStore,
    /// The way to workers: the own address leads to this process, others over HTTP.
    pub(crate) peers: Arc<dyn WorkerPeer>,
    /// The server's list of workers of a job.
    pub(crate) cluster: Arc<dyn ClusterQuery>,
    /// The time.
    pub(crate) clock: Arc<dyn Fn() -> Now + Send + Sync>,
    /// For how long no server has taken heartbeats of this worker, or reports of the instance, ms. Asked for frequent jobs.
    pub(crate) server_silent_ms: Arc<dyn Fn(i64) -> u64 + Send + Sync>,
    /// Whether an instance is open at this worker, whatever state it is in.
    pub(crate) is_open: Arc<dyn Fn(i64) -> bool + Send + Sync>,
    /// What the processor of a job makes of tasks that a restart cut.
    pub(crate) restart_policy: Arc<dyn Fn(&ServerScheduleJobReq) -> RestartPolicy + Send + Sync>,
    /// Numbers.
    pub(crate) options: TrackerOptions,
}

/// An instance to own.
pub(crate) struct TrackerStart {
    /// What was dispatched.
    pub(crate) request: Arc<ServerScheduleJobReq>,
    /// Which execution of the instance on this worker it is.
    pub(crate) attempt: u32,
    /// The worker was restarted and found it at work: go on from the table.
    pub(crate) resumed: bool,
    /// What is left of its time limit, ms. The limit of a frequent job is one of its runs and does not belong here.
    pub(crate) time_left_ms: Option<u64>,
    /// Its log.
    pub(crate) log: JobLogger,
    /// Raised when it must end.
    pub(crate) stop: StopSignal,
}
