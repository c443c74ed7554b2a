//! The container engine, through its HTTP API (bollard).
//!
//! Nothing here decides what an ending means: calls return facts, and a fact that could not be had is an
//! [`DockerError::Unavailable`] ("unknown"), never a verdict.

mod client;
mod container;
mod error;
mod exec;
mod image;
mod lines;
mod logs;
mod pull;
mod pull_error;
mod pull_progress;
mod registry;
mod spec;
mod state;
mod stats;
mod wait;

pub use client::{Docker, EngineInfo};
pub use error::DockerError;
pub use exec::{ExecOutcome, ExecState};
pub use image::{ImageInfo, PullPolicy};
pub use lines::{LogLine, OutputStream};
pub use logs::LogStream;
pub use pull::PullSettings;
pub use pull_error::{Missing, PullError};
pub use registry::{RegistryAuth, registry_of};
pub use spec::{ContainerSpec, DeviceRequest, Mount, Network, PortPublish, Ulimit};
pub use state::{ContainerInfo, ContainerPhase, PublishedPort};
pub use stats::ContainerStats;
pub use wait::EngineNotice;
