#![doc = include_str!("../README.md")]

mod client;
pub mod core;
mod logger;
pub mod openapi;
mod processor;
mod server;
pub mod tasks;
pub mod wire;
mod worker;

pub use client::{ServerAddress, install_tls};
pub use logger::JobLogger;
pub use processor::{ProcessResult, Processor, RestartPolicy, StopReason, StopSignal, TaskContext, WorkflowContext};
pub use server::Cidr;
pub use worker::{
    CountersStatus, InstanceStatus, MIGRATIONS, OwnerStatus, Shutdown, Worker, WorkerBuilder, WorkerConfig,
    WorkerError, WorkerHandle, WorkerStatus,
};
