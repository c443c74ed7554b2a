//! A PowerJob worker SDK for Rust over HTTP.

pub mod core;
mod logger;
pub mod openapi;
mod processor;

pub use logger::JobLogger;
pub use processor::{ProcessResult, Processor, RestartPolicy, StopReason, StopSignal, TaskContext, WorkflowContext};
