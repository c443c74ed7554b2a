//! The processors of testrig, RunLLMTest first: what turns a dispatched job into a run.

mod aggregate_metrics;
mod collect_logs;
mod environment;
mod figures;
mod jobs;
mod notify_result;
pub mod official;
mod outbound;
pub mod params;
mod platform_log;
pub mod preview;
mod registry;
mod related;
pub mod run_llm_test;
pub mod service_control;
#[cfg(test)]
mod task_rig;
#[cfg(test)]
mod testing;
#[cfg(test)]
#[path = "../tests/common/wrong.rs"]
mod wrong;

pub use aggregate_metrics::AggregateMetrics;
pub use collect_logs::CollectLogs;
pub use environment::{
    Access, Database, Denied, DiskLimits, Environment, MailServer, ObjectStore, PathDenied, Person, Root,
    ServiceDefaults,
};
pub use jobs::{NotStarted, StartJobs};
pub use notify_result::NotifyResult;
pub use official::Official;
pub use platform_log::PlatformLogs;
pub use registry::{MIGRATIONS, input_of, refused, registry, schema, tables};
