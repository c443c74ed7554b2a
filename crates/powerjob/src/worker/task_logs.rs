//! The logs of instances whose tasks run here. The driver owns all logs; what it has given out once is given out again without it.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::driver::Input;
use testrig_joblog::Level;

use crate::{JobLogger, tasks::InstanceLogs};

/// Loggers that were given out, with the settings they were asked for with.
#[derive(Clone, Default)]
pub(crate) struct Given(Arc<Mutex<HashMap<i64, Logger>>>);

/// The settings that it was asked for with, whether by a task of another worker's tracker, and the logger.
type Logger = (Option<String>, bool, JobLogger);

impl Given {
    pub(crate) fn note(&self, instance_id: i64, log_config: Option<String>, foreign: bool, logger: JobLogger) {
        self.0.lock().insert(instance_id, (log_config, foreign, logger));
    }

    /// The log was closed: whoever asks comes to the driver again.
    pub(crate) fn forget(&self, instance_id: i64) {
        self.0.lock().remove(&instance_id);
    }

    fn get(&self, instance_id: i64, log_config: Option<&str>, foreign: bool) -> Option<JobLogger> {
        let given = self.0.lock();
        let (config, known_as_foreign, logger) = given.get(&instance_id)?;
        (config.as_deref() == log_config && (*known_as_foreign || !foreign)).then(|| logger.clone())
    }
}

/// Asks the driver.
pub(crate) struct TaskLogs {
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) given: Given,
}

#[async_trait]
impl InstanceLogs for TaskLogs {
    async fn logger(&self, instance_id: i64, log_config: Option<&str>, foreign: bool) -> Result<JobLogger, String> {
        if let Some(logger) = self.given.get(instance_id, log_config, foreign) {
            return Ok(logger);
        }
        let ends = || "this worker is ending".to_owned();
        let (answer, answered) = oneshot::channel();
        let input = Input::TaskLog { instance_id, log_config: log_config.map(str::to_owned), foreign, answer };
        self.inbox.send(input).await.map_err(|_| ends())?;
        answered.await.map_err(|_| ends())?
    }

    async fn line(&self, instance_id: i64, log_config: Option<String>, level: Level, text: String) {
        // A closed channel means that the worker has ended.
        let _ = self.inbox.send(Input::TaskLine { instance_id, log_config, level, text }).await;
    }

    async fn release(&self, instance_id: i64) {
        // Before the driver hears of it: whoever asks for a logger from here on must come to the driver behind this.
        self.given.forget(instance_id);
        // A closed channel means that the worker has ended, and its logs with it.
        let _ = self.inbox.send(Input::ReleaseLog(instance_id)).await;
    }
}

#[cfg(test)]
mod tests {
    use testrig_joblog::{Journals, Limits};

    use super::*;

    #[tokio::test]
    async fn a_logger_that_is_asked_for_after_a_release_is_asked_of_the_driver_behind_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = testrig_store::Store::open_in_memory(testrig_joblog::MIGRATIONS).expect("a store");
        let journals = Journals::open(dir.path(), Limits::default(), store).expect("journals");
        let logger = JobLogger::new(journals.journal(7).expect("a journal"));
        let (inbox, mut inputs) = mpsc::channel(8);
        let logs = TaskLogs { inbox, given: Given::default() };
        logs.given.note(7, None, false, logger.clone());
        assert!(
            logs.logger(7, None, false).await.is_ok() && inputs.is_empty(),
            "what was given out is given out again"
        );
        logs.line(7, None, Level::Warn, "last".to_owned()).await;
        logs.release(7).await;
        let (asked, ()) = tokio::join!(logs.logger(7, None, false), async {
            assert!(matches!(inputs.recv().await, Some(Input::TaskLine { instance_id: 7, .. })));
            assert!(matches!(inputs.recv().await, Some(Input::ReleaseLog(7))));
            let Some(Input::TaskLog { instance_id: 7, answer, .. }) = inputs.recv().await else {
                panic!("the driver is asked");
            };
            assert!(answer.send(Ok(logger)).is_ok());
        });
        assert!(asked.is_ok());
    }
}
