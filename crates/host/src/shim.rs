//! The shim: the small parent of a host process, which outlives the agent.

use std::ffi::OsString;
use std::process::ExitCode;

/// Entry point of `testrig __shim SPEC`. Call it before any thread is started.
pub fn main(_args: impl Iterator<Item = OsString>) -> ExitCode {
    unimplemented!()
}
