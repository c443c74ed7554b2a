//! Instances that consist of tasks, as the driver sees them: what runs for one is a task tracker.

use async_trait::async_trait;

use crate::{
    core::TaskCounts,
    tasks::{
        TrackerHost, TrackerStart,
        api::{Progress, TrackerEnd},
    },
    wire::InstanceDetail,
};

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
    /// What the console shows of an instance, with the query that a person typed there.
    async fn detail(&self, instance_id: i64, custom_query: Option<&str>) -> Option<InstanceDetail>;
}

#[async_trait]
impl Trackers for TrackerHost {
    async fn run(&self, start: TrackerStart) -> TrackerEnd {
        Self::run(self, start).await
    }

    fn progress(&self, instance_id: i64) -> Option<Progress> {
        Self::progress(self, instance_id)
    }

    fn take_alert(&self, instance_id: i64) -> Option<String> {
        Self::take_alert(self, instance_id)
    }

    fn give_back_alert(&self, instance_id: i64, alert: String) {
        Self::give_back_alert(self, instance_id, alert);
    }

    async fn detail(&self, instance_id: i64, custom_query: Option<&str>) -> Option<InstanceDetail> {
        Self::detail(self, instance_id, custom_query).await
    }
}

impl From<&Progress> for TaskCounts {
    fn from(progress: &Progress) -> Self {
        Self { total: progress.total, succeeded: progress.succeeded, failed: progress.failed }
    }
}
