//! The logs of instances whose tasks run here. The driver owns all logs; what it has given out once is given out again without it.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::driver::Input;
use crate::{JobLogger, tasks::InstanceLogs};

/// Loggers that were given out, with the settings they were asked for with.
#[derive(Clone, Default)]
pub(crate) struct Given(Arc<Mutex<HashMap<i64, Logger>>>);

/// The settings that it was asked for with, and the logger.
type Logger = (Option<String>, JobLogger);

impl Given {
    pub(crate) fn note(&self, instance_id: i64, log_config: Option<String>, logger: JobLogger) {
        self.0.lock().insert(instance_id, (log_config, logger));
    }

    /// The log was closed: whoever asks comes to the driver again.
    pub(crate) fn forget(&self, instance_id: i64) {
        self.0.lock().remove(&instance_id);
    }

    fn get(&self, instance_id: i64, log_config: Option<&str>) -> Option<JobLogger> {
        let given = self.0.lock();
        let (config, logger) = given.get(&instance_id)?;
        (config.as_deref() == log_config).then(|| logger.clone())
    }
}

/// Asks the driver.
pub(crate) struct TaskLogs {
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) given: Given,
}

#[async_trait]
impl InstanceLogs for TaskLogs {
    async fn logger(&self, instance_id: i64, log_config: Option<&str>) -> Result<JobLogger, String> {
        if let Some(logger) = self.given.get(instance_id, log_config) {
            return Ok(logger);
        }
        let ends = || "this worker is ending".to_owned();
        let (answer, answered) = oneshot::channel();
        let input = Input::TaskLog { instance_id, log_config: log_config.map(str::to_owned), answer };
        self.inbox.send(input).await.map_err(|_| ends())?;
        answered.await.map_err(|_| ends())?
    }

    async fn release(&self, instance_id: i64) {
        // A closed channel means that the worker has ended, and its logs with it.
        let _ = self.inbox.send(Input::ReleaseLog(instance_id)).await;
    }
}
