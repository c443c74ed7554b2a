//! The logs of instances whose tasks run here.

use async_trait::async_trait;

use testrig_joblog::Level;

use crate::JobLogger;

/// Where the tasks of an instance write their lines: into the instance's journal, and from there to the server.
///
/// Lines and releases take effect in the order in which they were asked for: a line never opens a log again that was released
/// behind it, and a logger that is asked for after a release is one of the log that is opened anew.
#[async_trait]
pub(crate) trait InstanceLogs: Send + Sync {
    /// The log of an instance, opened if need be, with the settings that came with the task (`logConfig`, JSON text). `foreign`: the
    /// task is of another worker's tracker, and the log is needed until it is released.
    ///
    /// # Errors
    /// Why it cannot be opened.
    async fn logger(&self, instance_id: i64, log_config: Option<&str>, foreign: bool) -> Result<JobLogger, String>;

    /// Writes a line of the worker's own. Returns when its place behind what was asked before is certain.
    async fn line(&self, instance_id: i64, log_config: Option<String>, level: Level, text: String);

    /// Nothing of an instance that another worker owns is left here: the rest of its log is sent, then it is closed.
    /// Returns when its place is certain, as above.
    async fn release(&self, instance_id: i64);
}
