//! What the machine offers: containers, host processes, system figures, accelerators.
//!
//! Everything that an instance starts lives in a boundary ([`BoundaryId`]): one container, or one tree of host processes.
//! The name of a boundary is made from instance and attempt and is stored by the caller *before* the start, so that an
//! agent that was killed in between finds what it had started, or proves that there is nothing:
//!
//! * containers carry it as the label [`LABEL_BOUNDARY`] ([`docker::Docker::find_by_label`]);
//! * processes carry it as the environment variable [`ENV_BOUNDARY`], as the name of their cgroup and as the name of the
//!   shim's directory ([`process::ProcessRunner::adopt`]).
//!
//! Stopping means that the boundary is empty and that this was looked at, not that a signal was sent.
//!
//! The parts: [`docker`] (container engine), [`process`] (host processes under the shim, whose entry point is
//! [`shim::main`]), [`tail`] (reading growing output files), [`health`] (single probes, no policy), [`system`] (figures of
//! the host) and [`accelerators`] (inventory and leases).

pub mod accelerators;
mod boundary;
pub mod docker;
mod exit;
pub mod health;
pub mod process;
pub mod shim;
mod signal;
pub mod system;
pub mod tail;

pub use boundary::{
    BoundaryId, ENV_BOUNDARY, InvalidBoundaryId, LABEL_AGENT, LABEL_BOUNDARY, LABEL_INSTANCE, LABEL_PLATFORM_TASK,
};
pub use exit::{ExitStatus, Unseen};
pub use signal::{InvalidSignal, Signal};
