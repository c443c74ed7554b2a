//! A started process: waiting for it, ending it, looking at it.

use std::time::Duration;

use super::runner::ProcessError;
use super::stats::ProcessStats;
use crate::{BoundaryId, ExitStatus, Signal};

/// A process that was started under a shim, alive or not. Cheap to clone; dropping it stops nothing.
#[derive(Clone, Debug)]
pub struct ProcessHandle {
    boundary: BoundaryId,
}

/// What stopping found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// How the main process ended.
    pub exit: ExitStatus,
    /// The main process ended within the grace time (or had before).
    pub graceful: bool,
    /// How many processes were killed with SIGKILL.
    pub killed: usize,
}

impl ProcessHandle {
    /// Name of the boundary.
    pub fn boundary(&self) -> &BoundaryId {
        &self.boundary
    }

    /// Pid of the main process; it may have ended.
    pub fn pid(&self) -> Option<i32> {
        unimplemented!()
    }

    /// When it was started, milliseconds since 1970.
    pub fn started_at_ms(&self) -> i64 {
        unimplemented!()
    }

    /// How the main process ended, if it has.
    ///
    /// # Errors
    /// Files of the state directory cannot be read.
    pub fn exit(&self) -> Result<Option<ExitStatus>, ProcessError> {
        unimplemented!()
    }

    /// Returns when the main process has ended. Others of the boundary may live on. Safe to cancel and to repeat.
    ///
    /// # Errors
    /// Files of the state directory cannot be read.
    pub async fn wait(&self) -> Result<ExitStatus, ProcessError> {
        unimplemented!()
    }

    /// Sends `signal` to the main process and its group, waits up to `grace` for the main process, then kills whatever is
    /// left in the boundary and looks until two scans in a row find nothing.
    ///
    /// # Errors
    /// [`ProcessError::Survivors`] if something cannot be ended.
    pub async fn stop(
        &self,
        _signal: Signal,
        _grace: Duration,
    ) -> Result<StopReport, ProcessError> {
        unimplemented!()
    }

    /// Pids in the boundary now.
    ///
    /// # Errors
    /// Files of the state directory cannot be read.
    pub async fn members(&self) -> Result<Vec<i32>, ProcessError> {
        unimplemented!()
    }

    /// What the boundary uses now; `None` when it is empty.
    ///
    /// # Errors
    /// Files of the state directory cannot be read.
    pub async fn stats(&self) -> Result<Option<ProcessStats>, ProcessError> {
        unimplemented!()
    }

    /// Removes the boundary's directory. It must be empty of processes.
    ///
    /// # Errors
    /// [`ProcessError::Survivors`] if it is not.
    pub async fn forget(&self) -> Result<(), ProcessError> {
        unimplemented!()
    }
}
