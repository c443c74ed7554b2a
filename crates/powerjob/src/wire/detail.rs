//! `InstanceDetail`: what the console shows of a running instance.

use serde::Serialize;

use super::object::{Object, WireError, message};

/// Payload of the answer to `queryInstanceStatus`. Servers before 4.3.8 fail at a field that they do not know: the newer ones
/// are set only for a server that is known to be newer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Tasks that a person asked for, at most 10. Servers from 4.3.8 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queried_task_detail_info_list: Option<Vec<TaskDetailInfo>>,
    /// Firings of a frequent job, newest first, at most 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_instance_details: Option<Vec<SubInstanceDetail>>,
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
            queried_task_detail_info_list: many(o, "queriedTaskDetailInfoList", TaskDetailInfo::read)?,
            sub_instance_details: many(o, "subInstanceDetails", SubInstanceDetail::read)?,
        })
    }
}

/// A list, where there is one with something in it.
fn many<T>(
    o: &Object,
    name: &str,
    read: impl Fn(&Object) -> Result<T, WireError>,
) -> Result<Option<Vec<T>>, WireError> {
    let items = o.objects(name)?.iter().map(read).collect::<Result<Vec<T>, _>>()?;
    Ok(Some(items).filter(|items| !items.is_empty()))
}

/// Numbers of tasks; a standalone instance has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDetail {
    /// All.
    pub total_task_num: i64,
    /// Succeeded.
    pub succeed_task_num: i64,
    /// Failed.
    pub failed_task_num: i64,
    /// Not sent to a worker yet. Servers from 4.3.8 on, as the next ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_dispatch_task_num: Option<i64>,
    /// Sent, not acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_unreceived_task_num: Option<i64>,
    /// Acknowledged, not at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_task_num: Option<i64>,
    /// At work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_task_num: Option<i64>,
}

message!(TaskDetail);

impl TaskDetail {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            total_task_num: o.i64("totalTaskNum")?,
            succeed_task_num: o.i64("succeedTaskNum")?,
            failed_task_num: o.i64("failedTaskNum")?,
            waiting_dispatch_task_num: o.opt_i64("waitingDispatchTaskNum")?,
            worker_unreceived_task_num: o.opt_i64("workerUnreceivedTaskNum")?,
            received_task_num: o.opt_i64("receivedTaskNum")?,
            running_task_num: o.opt_i64("runningTaskNum")?,
        })
    }
}

/// One task, as a person sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDetailInfo {
    /// Task id.
    pub task_id: String,
    /// Task name.
    pub task_name: String,
    /// Its body, where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_content: Option<String>,
    /// Where it is or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor_address: Option<String>,
    /// TaskStatus.
    pub status: i32,
    /// The status in a word.
    pub status_str: String,
    /// Result text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Failed executions.
    pub failed_cnt: i32,
    /// Epoch ms.
    pub created_time: i64,
    /// Epoch ms.
    pub last_modified_time: i64,
    /// Epoch ms of the reporting worker; -1 = none.
    pub last_report_time: i64,
}

message!(TaskDetailInfo);

impl TaskDetailInfo {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            task_id: o.str("taskId")?,
            task_name: o.str("taskName")?,
            task_content: o.opt_str("taskContent")?,
            processor_address: o.opt_str("processorAddress")?,
            status: o.i32("status")?,
            status_str: o.str("statusStr")?,
            result: o.opt_str("result")?,
            failed_cnt: o.i32("failedCnt")?,
            created_time: o.i64("createdTime")?,
            last_modified_time: o.i64("lastModifiedTime")?,
            last_report_time: o.i64("lastReportTime")?,
        })
    }
}

/// One firing of a frequent job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubInstanceDetail {
    /// Its number.
    pub sub_instance_id: i64,
    /// Epoch ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    /// Epoch ms; 0 while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_time: Option<i64>,
    /// Result text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// InstanceStatus; 2 while it runs.
    pub status: i32,
}

message!(SubInstanceDetail);

impl SubInstanceDetail {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            sub_instance_id: o.i64("subInstanceId")?,
            start_time: o.opt_i64("startTime")?,
            finished_time: o.opt_i64("finishedTime")?,
            result: o.opt_str("result")?,
            status: o.i32("status")?,
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
            task_detail: Some(TaskDetail { total_task_num: 1, ..TaskDetail::default() }),
            ..InstanceDetail::default()
        };
        let text = r#"{"success":true,"data":"eyJhY3R1YWxUcmlnZ2VyVGltZSI6MTczMjE1ODAwMDEyMywic3RhdHVzIjozLCJ0YXNrVHJhY2tlckFkZHJlc3MiOiIxMC4wLjAuNToyNzc3NyIsInRhc2tEZXRhaWwiOnsidG90YWxUYXNrTnVtIjoxLCJzdWNjZWVkVGFza051bSI6MCwiZmFpbGVkVGFza051bSI6MH19"}"#;
        let answer = AskResponse::of(&detail).expect("JSON");
        assert_eq!(serde_json::to_string(&answer).expect("JSON"), text);
        assert_eq!(InstanceDetail::parse(&answer.data.expect("data")).expect("read back"), detail);
    }

    #[test]
    fn the_firings_of_a_frequent_job_are_written_as_documented() {
        let text = r#"{"actualTriggerTime":1732158000123,"status":3,"taskTrackerAddress":"10.0.0.5:27777","subInstanceDetails":[{"subInstanceId":8,"startTime":1732158040000,"finishedTime":1732158041000,"result":"ok","status":5}]}"#;
        let detail = InstanceDetail::parse(text.as_bytes()).expect("documented");
        assert_eq!(detail.sub_instance_details.as_ref().map(Vec::len), Some(1));
        assert_eq!(serde_json::to_string(&detail).expect("JSON"), text);
    }
}
