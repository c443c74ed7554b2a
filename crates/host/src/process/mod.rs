//! Host processes under the shim, which outlives the agent.
//!
//! A directory per boundary under the runner's state directory is all that agent and shim share:
//!
//! | file | written by | meaning |
//! |---|---|---|
//! | `spec.json` | agent, before anything is started | permission to start; its removal is the withdrawal |
//! | `lock` | shim, locked as long as it lives | a shim is at work |
//! | `start.json` | shim, before the program is started | from here on the boundary may hold processes; names the cgroups |
//! | `pid.json` | shim, after the start | main process with its start time (a pid alone may be somebody else's by now) |
//! | `failed.json` | shim | the program could not be started, and why |
//! | `exit.json` | shim, when the main process ended | the exit status |
//!
//! All JSON files appear by rename, whole or not at all. [`ProcessRunner::adopt`] takes the lock to find out: if it is free,
//! no shim lives, and one that has yet to be scheduled finds its `spec.json` withdrawn once it gets the lock; if it is
//! taken, a shim lives and says soon what became of the program.
//!
//! What holds a boundary together is chosen once for an agent ([`Boundaries`]) and stands in the `start.json` of each.
//! Membership is found in three ways, together: the boundary's cgroups where they can be made, the descendants of the shim (which is the subreaper, so that orphans stay below it), and the marker [`ENV_BOUNDARY_DIR`] in
//! `/proc/*/environ`. The marker is the boundary's directory, not its name, because two agents on one host may use the
//! same instance ids.

pub(crate) mod cgroup;
mod choice;
mod empty;
pub(crate) mod files;
mod handle;
mod inside;
mod network;
pub(crate) mod proc;
mod runner;
mod script;
mod spec;
mod stats;

pub use choice::{Boundaries, BoundaryKind};
pub use handle::{ProcessHandle, StopReport};
pub use inside::{Inside, InsideSample};
pub use network::{NetworkBytes, network};
pub use runner::{ProcessError, ProcessRunner, ShimCommand};
pub use script::{ScriptOutcome, ScriptSpec};
pub use spec::ProcessSpec;
pub use stats::ProcessStats;

/// Environment variable with the boundary's directory: the marker that is searched for.
pub const ENV_BOUNDARY_DIR: &str = "TESTRIG_BOUNDARY_DIR";
