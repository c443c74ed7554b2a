//! Instances that consist of tasks, as the driver sees them: what runs for one is a task tracker.

use async_trait::async_trait;

use crate::{
    JobLogger, StopSignal,
    core::TaskCounts,
    tasks::api::{Progress, TrackerEnd},
    wire::ServerScheduleJobReq,
};

/// What a task tracker begins with.
#[cfg_attr(not(test), expect(dead_code, reason = "read by the task trackers"))]
pub(crate) struct TrackerStart {
    /// The dispatch as it came.
    pub(crate) request: ServerScheduleJobReq,
    /// A restarted worker takes the instance up again: its tasks are on disk.
    pub(crate) resumed: bool,
    /// What is left of the instance's time limit, ms.
    pub(crate) time_left_ms: Option<u64>,
    /// The instance's log.
    pub(crate) log: JobLogger,
    /// Raised when the instance must end.
    pub(crate) stop: StopSignal,
}

/// The task trackers of a worker.
#[async_trait]
pub(crate) trait Trackers: Send + Sync {
    /// Runs an instance to its end. Returns when nothing of it runs any more on this worker; raising the stop signal leads there.
    async fn run(&self, start: TrackerStart) -> TrackerEnd;
    /// How far an instance is; `None` when it is not tracked (yet, or any more).
    fn progress(&self, instance_id: i64) -> Option<Progress>;
    /// The alarm that the next report is to carry, at most once each.
    fn take_alert(&self, instance_id: i64) -> Option<String>;
    /// The report with this alarm was not taken.
    fn give_back_alert(&self, instance_id: i64, alert: String);
}

impl From<&Progress> for TaskCounts {
    fn from(progress: &Progress) -> Self {
        Self { total: progress.total, succeeded: progress.succeeded, failed: progress.failed }
    }
}
