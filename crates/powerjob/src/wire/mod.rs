//! The messages of the worker protocol (PowerJob 4.3.0 to 5.1.1): exactly the documented fields, because servers before
//! 4.3.8 refuse unknown ones; nulls are left out on output and tolerated on input.

mod ask;
mod detail;
mod dispatch;
mod heartbeat;
mod log_config;
pub(crate) mod object;
mod report;
mod tasks;

pub use ask::{AskResponse, decode_base64, encode_base64};
pub use detail::{InstanceDetail, SubInstanceDetail, TaskDetail, TaskDetailInfo};
pub use dispatch::{ServerQueryInstanceStatusReq, ServerScheduleJobReq, ServerStopInstanceReq};
pub use heartbeat::{SystemMetrics, WorkerHeartbeat};
pub(crate) use log_config::LogSettings;
pub use object::WireError;
pub use report::{InstanceLogContent, TaskTrackerReportInstanceStatusReq, WorkerLogReportReq};
pub use tasks::{QueryJobCluster, StopTasks};
