//! The runtime around the [core](crate::core): sockets, clocks, tasks, store and logs.
//!
//! One task ([`driver`]) owns the core. Requests, answers and ends of processors come to it as inputs over one bounded
//! channel; what the core wants written is made durable in one transaction, then its actions are carried out in order.

mod address;
mod builder;
mod clock;
mod cluster;
mod config;
mod context;
mod driver;
mod handle;
mod heavy;
mod interfaces;
mod listing;
mod logs;
mod metrics;
mod records;
mod registry;
mod reports;
mod roles;
mod runs;
mod shared;
mod silence;
mod status;
mod task_logs;
#[cfg(test)]
mod tests;

pub use builder::{Worker, WorkerBuilder, WorkerError};
pub use config::{HostNotice, WorkerConfig};
pub(crate) use context::workflow_values;
pub use handle::{Shutdown, WorkerHandle};
pub use listing::Listing;
pub use records::MIGRATIONS;
pub(crate) use registry::Registry;
pub(crate) use status::Counters;
pub use status::{CountersStatus, InstanceStatus, OwnerStatus, WorkerStatus};
