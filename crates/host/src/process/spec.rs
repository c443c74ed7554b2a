//! What shall be started.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::Limits;
use crate::BoundaryId;

/// A program to be started in a boundary of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Name of the boundary; also the value of [`crate::ENV_BOUNDARY`] in the program's environment.
    pub boundary: BoundaryId,
    /// Program: a path, or a name that is looked up in the `PATH` of `env` (or of the agent).
    pub program: PathBuf,
    /// Arguments without the program itself.
    pub args: Vec<String>,
    /// Environment on top of the agent's; a later value of the same name wins.
    pub env: Vec<(String, String)>,
    /// Start with `env` alone instead of the agent's environment.
    #[serde(default)]
    pub clear_env: bool,
    /// Working directory; default: the agent's.
    pub work_dir: Option<PathBuf>,
    /// File that standard output is appended to; created if missing, its directory must exist.
    pub stdout: PathBuf,
    /// The same for standard error; default: `stdout`, in the order of writing.
    pub stderr: Option<PathBuf>,
    /// Memory limit of the whole boundary in bytes; needs a usable memory cgroup, otherwise the start fails.
    #[serde(default)]
    pub memory: Option<u64>,
    /// How many CPUs' worth of time the whole boundary may use, e.g. 1.5; needs a usable CPU cgroup, otherwise the start fails.
    #[serde(default)]
    pub cpus: Option<f64>,
}

impl ProcessSpec {
    /// A program whose output, both streams, goes to one file.
    pub fn new(boundary: BoundaryId, program: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        Self {
            boundary,
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            clear_env: false,
            work_dir: None,
            stdout: output.into(),
            stderr: None,
            memory: None,
            cpus: None,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { memory: self.memory, cpus: self.cpus }
    }

    /// Program and arguments, for messages.
    pub fn words(&self) -> String {
        let mut words = self.program.display().to_string();
        for arg in &self.args {
            words.push(' ');
            words.push_str(arg);
        }
        words
    }
}
