//! Starting programs under a shim, and finding them again.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use super::handle::ProcessHandle;
use super::spec::ProcessSpec;
use crate::BoundaryId;

/// How the shim is called: the agent's own binary with its hidden subcommand. The path of the spec file is appended.
#[derive(Clone, Debug)]
pub struct ShimCommand {
    /// The binary.
    pub program: PathBuf,
    /// What comes before the path of the spec file, e.g. `__shim`.
    pub args: Vec<OsString>,
}

impl ShimCommand {
    /// `program __shim SPEC`.
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: vec!["__shim".into()],
        }
    }
}

/// Why a process could not be started, found or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program itself could not be started: not there, not executable, no such working directory, and so on.
    #[error("failed to start `{program}`: {detail}")]
    NotStarted {
        /// The program with its arguments.
        program: String,
        /// What the system said.
        detail: String,
    },
    /// The boundary exists already: adopt or empty it first.
    #[error("boundary `{0}` exists already: something was started under this name before")]
    Exists(BoundaryId),
    /// The shim failed, which is the agent's own fault or that of its state directory.
    #[error("failed to start the shim of boundary `{boundary}`: {detail}")]
    Shim {
        /// The boundary.
        boundary: BoundaryId,
        /// What went wrong.
        detail: String,
    },
    /// Processes of the boundary could not be ended.
    #[error("boundary `{boundary}` could not be emptied: {survivors} still there after SIGKILL")]
    Survivors {
        /// The boundary.
        boundary: BoundaryId,
        /// Pid and name of each.
        survivors: String,
    },
    /// A file of the state directory.
    #[error("failed to {doing} `{path}`")]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Starts and finds host processes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessRunner {
    #[expect(dead_code)]
    state_dir: PathBuf,
    #[expect(dead_code)]
    shim: ShimCommand,
}

impl ProcessRunner {
    /// A runner that keeps its directories under `state_dir`, which is created. Two agents must not share one.
    ///
    /// # Errors
    /// The directory cannot be created.
    pub fn new(state_dir: impl Into<PathBuf>, shim: ShimCommand) -> Result<Self, ProcessError> {
        Ok(Self {
            state_dir: state_dir.into(),
            shim,
        })
    }

    /// Starts a program. Store the boundary's name before: [`ProcessRunner::adopt`] needs it after a crash.
    ///
    /// # Errors
    /// [`ProcessError::NotStarted`] for what the caller named, [`ProcessError::Exists`] for a boundary that is in use.
    pub async fn spawn(&self, _spec: ProcessSpec) -> Result<ProcessHandle, ProcessError> {
        unimplemented!()
    }

    /// The process of a boundary that was started before, by this agent or by one that was killed; `None` proves that
    /// nothing was started under this name and nothing will be.
    ///
    /// # Errors
    /// Files of the state directory cannot be read.
    pub async fn adopt(
        &self,
        _boundary: &BoundaryId,
    ) -> Result<Option<ProcessHandle>, ProcessError> {
        unimplemented!()
    }

    /// All boundaries that have a directory: what was started and not forgotten.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn list(&self) -> Result<Vec<BoundaryId>, ProcessError> {
        unimplemented!()
    }
}
