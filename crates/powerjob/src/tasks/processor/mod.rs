//! The role of the processor tracker: this worker executes tasks of instances that it or another worker owns.
//!
//! [`Machine`] decides and knows no sockets, clocks or threads; [`ProcessorTrackers`] drives it.
//!
//! ```text
//!  startTask ─► queue (128) ─► slot ─► processor ─► 5/6 asked until accepted
//!     │ 3, first LOAD at once       │ 4                   all of a task's reports one after the other
//! ```
//!
//! What it promises:
//!
//! - A task that was acknowledged (status 3) ends with an accepted 5 or 6, unless its tracker stops the instance, the
//!   instance's time is over, or the tracker is not heard of for a day. For tasks of other workers' trackers this survives
//!   `kill -9`: what was at work is then reported failed or runs again, as the processor's `RestartPolicy` says. Tasks of the
//!   own tracker are that tracker's to take up.
//! - A worker whose operator does not wait ends what it does for other workers' trackers at once and reports it failed, so that
//!   they give it to others.
//! - Nothing is reported for an instance after a stop; the stop has ended when no processor of it runs any more, and no new
//!   task of the instance begins before.

mod api;
mod bugs;
mod done;
mod emptying;
mod execute;
mod finals;
mod host;
mod logs;
mod machine;
mod part;
mod receipts;
mod recovery;
#[cfg(test)]
mod tests;

pub(crate) use api::{Action, Answered, Event, Options, Output, Receipt, Stage, Write};
#[cfg(test)]
pub(crate) use bugs::Bug;
pub(crate) use host::{ProcessorDeps, ProcessorTrackers};
pub(crate) use logs::InstanceLogs;
pub(crate) use machine::Machine;
pub(crate) use receipts::RECEIPTS;
