//! The logs of instances that other workers own and whose tasks run here: opened with the first task, closed when nothing is
//! left of the instance.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::Driver;
use crate::{JobLogger, core::Owner};

/// The rest of a log may take this long; afterwards the server has archived it.
const REST: u64 = 45_000;
/// What a log is closed with whose instance ends elsewhere.
const RELEASED: &str = "RELEASED";

/// The logs of other workers' instances.
#[derive(Default)]
pub(super) struct Foreign {
    /// By instance: whether nothing is left of it and the rest of its log is being sent.
    open: HashMap<i64, bool>,
    /// The server that they go to.
    owner: Option<Owner>,
}

impl Driver {
    pub(super) fn task_log(
        &mut self,
        instance_id: i64,
        log_config: Option<String>,
        answer: oneshot::Sender<Result<JobLogger, String>>,
    ) {
        if !self.p.core.has(instance_id) {
            let released = self.foreign.open.insert(instance_id, false);
            if released == Some(true) {
                self.p.logs.take_back(instance_id);
            }
            self.p.logs.set_foreign(instance_id, log_config.clone());
            if released != Some(false) {
                self.p.logs.open(instance_id, true);
            }
        }
        let logger = self.p.logs.logger(instance_id).map_err(|why| format!("failed to open the log: {why}"));
        if let Ok(logger) = &logger {
            self.p.given.note(instance_id, log_config, logger.clone());
        }
        // The task may have been stopped meanwhile.
        let _ = answer.send(logger);
    }

    pub(super) fn release_log(&mut self, instance_id: i64) {
        let Some(released) = self.foreign.open.get_mut(&instance_id).filter(|released| !**released) else { return };
        *released = true;
        self.p.given.forget(instance_id);
        self.p.logs.drain(instance_id, 0, Some(REST));
    }

    /// The rest of a log was sent; true when it was one of another worker's instance.
    pub(super) fn released_log_sent(&mut self, instance_id: i64) -> bool {
        if self.foreign.open.get(&instance_id) != Some(&true) {
            return false;
        }
        self.foreign.open.remove(&instance_id);
        self.p.logs.close(instance_id, RELEASED);
        true
    }

    /// This worker owns the instance now.
    pub(super) fn own_log(&mut self, instance_id: i64) {
        self.foreign.open.remove(&instance_id);
    }

    /// Another server lacks what was sent to the one of before.
    pub(super) async fn rewind_foreign_logs(&mut self, owner: Option<&Owner>) {
        let Some(owner) = owner else { return };
        let before = self.foreign.owner.replace(owner.clone());
        if before.is_none_or(|before| !crate::core::is_another(&before, owner)) {
            return;
        }
        for instance_id in self.foreign.open.keys().copied().collect::<Vec<_>>() {
            self.p.logs.rewind(instance_id).await;
        }
    }
}
