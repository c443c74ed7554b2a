//! What a worker reports of an instance: its status and its log.

use std::collections::BTreeMap;

use serde::Serialize;

use super::object::{Object, WireError, message};

/// `POST /server/reportInstanceStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskTrackerReportInstanceStatusReq {
    /// App id.
    pub app_id: i64,
    /// Job id.
    pub job_id: i64,
    /// Instance id.
    pub instance_id: i64,
    /// From the dispatch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wf_instance_id: Option<i64>,
    /// Entries for the workflow context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appended_wf_context: Option<BTreeMap<String, String>>,
    /// 3 RUNNING, 4 FAILED or 5 SUCCEED.
    pub instance_status: i32,
    /// Result text of a final state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Tasks in all.
    pub total_task_num: i64,
    /// Tasks that succeeded.
    pub succeed_task_num: i64,
    /// Tasks that failed.
    pub failed_task_num: i64,
    /// When the dispatch arrived, epoch ms.
    pub start_time: i64,
    /// When the run ended, epoch ms; final reports only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<i64>,
    /// Strictly greater than that of the last accepted report.
    pub report_time: i64,
    /// The address that the server dispatched to.
    pub source_address: String,
    /// Frequent jobs only.
    pub need_alert: bool,
    /// Frequent jobs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_content: Option<String>,
}

message!(TaskTrackerReportInstanceStatusReq);

impl TaskTrackerReportInstanceStatusReq {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            app_id: o.i64("appId")?,
            job_id: o.i64("jobId")?,
            instance_id: o.required_i64("instanceId")?,
            wf_instance_id: o.opt_i64("wfInstanceId")?,
            appended_wf_context: o.opt_string_map("appendedWfContext")?,
            instance_status: o.i32("instanceStatus")?,
            result: o.opt_str("result")?,
            total_task_num: o.i64("totalTaskNum")?,
            succeed_task_num: o.i64("succeedTaskNum")?,
            failed_task_num: o.i64("failedTaskNum")?,
            start_time: o.i64("startTime")?,
            end_time: o.opt_i64("endTime")?,
            report_time: o.i64("reportTime")?,
            source_address: o.required_str("sourceAddress")?,
            need_alert: o.bool("needAlert")?,
            alert_content: o.opt_str("alertContent")?,
        })
    }
}

/// `POST /server/reportLog` (8.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerLogReportReq {
    /// The reporting worker.
    pub worker_address: String,
    /// Lines.
    pub instance_log_contents: Vec<InstanceLogContent>,
}

message!(WorkerLogReportReq);

impl WorkerLogReportReq {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            worker_address: o.required_str("workerAddress")?,
            instance_log_contents: o
                .objects("instanceLogContents")?
                .iter()
                .map(InstanceLogContent::read)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceLogContent {
    /// Instance id.
    pub instance_id: i64,
    /// Epoch ms; the server sorts by it.
    pub log_time: i64,
    /// 1 DEBUG to 4 ERROR.
    pub log_level: i32,
    /// The text.
    pub log_content: String,
}

message!(InstanceLogContent);

impl InstanceLogContent {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            instance_id: o.required_i64("instanceId")?,
            log_time: o.i64("logTime")?,
            log_level: o.i32("logLevel")?,
            log_content: o.str("logContent")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the example and writes it back as the same JSON.
    fn round<T: for<'de> serde::Deserialize<'de> + Serialize>(text: &str) -> T {
        let message: T = serde_json::from_str(text).expect("the example of a real message");
        assert_eq!(
            serde_json::to_value(&message).expect("JSON"),
            serde_json::from_str::<serde_json::Value>(text).expect("JSON")
        );
        message
    }

    #[test]
    fn status_reports_have_exactly_the_documented_fields() {
        let running: TaskTrackerReportInstanceStatusReq = round(
            r#"{"appId":1,"jobId":11,"instanceId":739799728128000064,"instanceStatus":3,"totalTaskNum":1,"succeedTaskNum":0,
             "failedTaskNum":0,"startTime":1732158000100,"reportTime":1732158007345,"sourceAddress":"10.0.0.5:27777","needAlert":false}"#,
        );
        assert_eq!(running.result, None);
        let done: TaskTrackerReportInstanceStatusReq = round(
            r#"{"appId":1,"jobId":11,"instanceId":739799728128000064,"wfInstanceId":739799728127999936,
             "appendedWfContext":{"rows":"42"},"instanceStatus":5,"result":"done","totalTaskNum":1,"succeedTaskNum":1,"failedTaskNum":0,
             "startTime":1732158000100,"endTime":1732158003000,"reportTime":1732158003001,"sourceAddress":"10.0.0.5:27777","needAlert":false}"#,
        );
        assert_eq!(done.wf_instance_id, Some(739_799_728_127_999_936));
    }

    #[test]
    fn log_reports_have_exactly_the_documented_fields() {
        let report: WorkerLogReportReq = round(
            r#"{"workerAddress":"10.0.0.5:27777","instanceLogContents":[
             {"instanceId":739799728128000064,"logTime":1732158001000,"logLevel":2,"logContent":"using params: echo hello"},
             {"instanceId":739799728128000064,"logTime":1732158001002,"logLevel":4,"logContent":"execute failed!\njava.lang.RuntimeException: x\n\tat ..."}]}"#,
        );
        assert_eq!(report.instance_log_contents.len(), 2);
    }

    #[test]
    fn explicit_nulls_of_an_old_peer_read_as_absent() {
        let text = r#"{"appId":1,"jobId":1,"instanceId":2,"wfInstanceId":null,"appendedWfContext":null,"instanceStatus":3,
            "result":null,"sourceAddress":"a:1","endTime":null,"needAlert":null,"alertContent":null,"reportTime":"5"}"#;
        let report = TaskTrackerReportInstanceStatusReq::parse(text.as_bytes()).expect("tolerated");
        assert_eq!((report.wf_instance_id, report.end_time, report.report_time), (None, None, 5));
    }
}
