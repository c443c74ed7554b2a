//! The logs of instances that other workers own and whose tasks run here: opened with the first task, closed when nothing is
//! left of the instance.

use std::collections::HashMap;

use testrig_joblog::Level;

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
    /// `foreign`: the task is of another worker's tracker. It may be so though this worker owns the instance as well: the server gave it to
    /// another one while the end of ours is still on its way.
    pub(super) fn task_log(
        &mut self,
        instance_id: i64,
        log_config: Option<String>,
        foreign: bool,
    ) -> Result<JobLogger, String> {
        let own = self.p.core.has(instance_id);
        if foreign || !own {
            let released = self.foreign.open.insert(instance_id, false);
            self.p.logs.set_foreign(instance_id, log_config.clone());
            if released == Some(true) {
                self.p.logs.take_back(instance_id);
            }
            if released != Some(false) && !own {
                self.p.logs.open(instance_id, true);
            }
        }
        let logger = self.p.logs.logger(instance_id).map_err(|why| format!("failed to open the log: {why}"));
        if let Ok(logger) = &logger {
            self.p.given.note(instance_id, log_config, foreign, logger.clone());
        }
        logger
    }

    pub(super) fn task_line(&mut self, instance_id: i64, log_config: Option<String>, level: Level, text: &str) {
        match self.task_log(instance_id, log_config, false) {
            Ok(log) => log.log(level, "agent", text),
            Err(why) => tracing::error!(instance_id, why, text, "failed to write into the log of an instance"),
        }
    }

    pub(super) fn release_log(&mut self, instance_id: i64) {
        if !self.has_foreign_tasks(instance_id) {
            return;
        }
        self.p.given.forget(instance_id);
        if self.p.core.has(instance_id) {
            // Its own end closes it.
            self.foreign.open.remove(&instance_id);
        } else {
            self.foreign.open.insert(instance_id, true);
            self.p.logs.drain(instance_id, 0, Some(REST));
        }
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

    /// This worker owns the instance now: what was about to be closed goes on.
    pub(super) fn own_log(&mut self, instance_id: i64) {
        if self.foreign.open.get(&instance_id) == Some(&true) {
            self.foreign.open.remove(&instance_id);
            self.p.logs.take_back(instance_id);
        }
    }

    /// This worker's own instance has ended: its log is closed, unless tasks of another worker's tracker write into it.
    pub(super) fn close_log(&mut self, instance_id: i64, status: &str) {
        if self.has_foreign_tasks(instance_id) {
            // What was sent is sent; a way for the rest.
            self.p.logs.open(instance_id, true);
            return self.p.logs_closed.push(instance_id);
        }
        self.foreign.open.remove(&instance_id);
        self.p.given.forget(instance_id);
        if self.p.logs.close(instance_id, status) {
            self.p.logs_closed.push(instance_id);
        }
    }

    fn has_foreign_tasks(&self, instance_id: i64) -> bool {
        self.foreign.open.get(&instance_id) == Some(&false)
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
