#![doc = include_str!("../README.md")]

mod causes;
#[cfg(test)]
mod chance;
mod client;
pub mod core;
mod logger;
pub mod openapi;
mod processor;
mod results;
mod server;
mod supervise;
mod task;
pub mod tasks;
#[doc(hidden)]
pub mod untrusted;
pub mod wire;
mod worker;

pub use client::{ServerAddress, install_tls};
pub use core::ContextTooLong;
pub use logger::JobLogger;
pub use processor::{
    NO_PREPOST_TASK, ProcessResult, Processor, RestartPolicy, StopReason, StopSignal, TaskContext, WorkflowContext,
};
pub use results::{ResultCount, ResultsError, TaskResults};
pub use server::Cidr;
pub use task::{MapError, SubTaskSink, Task, TaskBody};
pub use tasks::api::{SubTask, TaskResult};
/// Journals, cursors and pumps: what the logs of instances are made of.
pub use testrig_joblog as joblog;
pub use testrig_joblog::{Journal, Journals, Level, Limits, Position};
/// The store: one SQLite file, one writer.
pub use testrig_store as store;
pub use testrig_store::{LockError, Migration, Store, StoreError};
pub use worker::{
    CountersStatus, HostNotice, InstanceStatus, Listing, MIGRATIONS, OwnerStatus, Shutdown, Worker, WorkerBuilder,
    WorkerConfig, WorkerError, WorkerHandle, WorkerStatus,
};
