//! Client of a PowerJob server's OpenAPI and of the few console pages a worker or a harness needs.
//!
//! Works on servers 4.3.9 and 5.1.1: a path that only one of them has is tried and its absence remembered. Several
//! addresses are tried in order, the one that answered last first. A call that must not happen twice (`runJob`,
//! `runWorkflow`, saving something new) moves on to the next address only when the connection was never made.

mod auth;
mod client;
mod console;
mod error;
mod instances;
mod jobs;
#[cfg(test)]
mod tests;
mod types;
mod workflows;

pub use client::{ApiCall, OpenApi, RawAnswer, SERVERS_HINT};
pub use console::{LogPage, ServerHello, WorkerRow};
pub use error::OpenApiError;
pub use types::{
    Edge, InstanceInfo, InstanceStatus, Job, JobSpec, NodeSpec, WfInstanceInfo, WfNodeState, WfStatus, WorkflowSpec,
};
