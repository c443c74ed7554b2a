//! The logs of instances whose tasks run here.

use async_trait::async_trait;

use crate::JobLogger;

/// Where the tasks of an instance write their lines: into the instance's journal, and from there to the server.
#[async_trait]
pub trait InstanceLogs: Send + Sync {
    /// The log of an instance, opened if need be, with the settings that came with the task (`logConfig`, JSON text).
    ///
    /// # Errors
    /// Why it cannot be opened.
    async fn logger(&self, instance_id: i64, log_config: Option<&str>) -> Result<JobLogger, String>;

    /// Nothing of an instance that another worker owns is left here: the rest of its log is sent, then it is closed.
    async fn release(&self, instance_id: i64);
}
