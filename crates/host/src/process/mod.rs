//! Host processes under the shim, which outlives the agent.

mod handle;
mod runner;
mod script;
mod spec;
mod stats;

pub use handle::{ProcessHandle, StopReport};
pub use runner::{ProcessError, ProcessRunner, ShimCommand};
pub use script::{ScriptOutcome, ScriptSpec};
pub use spec::ProcessSpec;
pub use stats::ProcessStats;
