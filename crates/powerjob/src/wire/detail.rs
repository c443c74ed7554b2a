//! `InstanceDetail`: what the console shows of a running instance.

use serde::Serialize;

use super::object::{Object, WireError, message};

/// Payload of the answer to `queryInstanceStatus`, with only the fields that every server reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceDetail {
    /// When the dispatch arrived, epoch ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual_trigger_time: Option<i64>,
    /// Always 3, RUNNING: finished instances are forgotten.
    pub status: i32,
    /// This worker.
    pub task_tracker_address: String,
    /// The console shows no parameters where a worker leaves them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_params: Option<String>,
    /// Numbers of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_detail: Option<TaskDetail>,
}

message!(InstanceDetail);

impl InstanceDetail {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            actual_trigger_time: o.opt_i64("actualTriggerTime")?,
            status: o.i32("status")?,
            task_tracker_address: o.str("taskTrackerAddress")?,
            job_params: o.opt_str("jobParams")?,
            task_detail: o.opt_object("taskDetail")?.as_ref().map(TaskDetail::read).transpose()?,
        })
    }
}

/// Numbers of tasks; a standalone instance has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDetail {
    /// All.
    pub total_task_num: i64,
    /// Succeeded.
    pub succeed_task_num: i64,
    /// Failed.
    pub failed_task_num: i64,
}

message!(TaskDetail);

impl TaskDetail {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            total_task_num: o.i64("totalTaskNum")?,
            succeed_task_num: o.i64("succeedTaskNum")?,
            failed_task_num: o.i64("failedTaskNum")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::AskResponse;

    #[test]
    fn the_recorded_answer_is_written_byte_for_byte() {
        let detail = InstanceDetail {
            actual_trigger_time: Some(1_732_158_000_123),
            status: 3,
            task_tracker_address: "10.0.0.5:27777".to_owned(),
            job_params: None,
            task_detail: Some(TaskDetail { total_task_num: 1, succeed_task_num: 0, failed_task_num: 0 }),
        };
        let text = r#"{"success":true,"data":"eyJhY3R1YWxUcmlnZ2VyVGltZSI6MTczMjE1ODAwMDEyMywic3RhdHVzIjozLCJ0YXNrVHJhY2tlckFkZHJlc3MiOiIxMC4wLjAuNToyNzc3NyIsInRhc2tEZXRhaWwiOnsidG90YWxUYXNrTnVtIjoxLCJzdWNjZWVkVGFza051bSI6MCwiZmFpbGVkVGFza051bSI6MH19"}"#;
        let answer = AskResponse::of(&detail).expect("JSON");
        assert_eq!(serde_json::to_string(&answer).expect("JSON"), text);
        assert_eq!(InstanceDetail::parse(&answer.data.expect("data")).expect("read back"), detail);
    }
}
