//! What the server sends to a worker: dispatch, stop, query.

use serde::Serialize;

use super::object::{Object, WireError, message};
use crate::core::Dispatch;

/// `POST /worker/runJob`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerScheduleJobReq {
    /// Candidate workers that are not overloaded, this one included.
    pub all_worker_address: Vec<String>,
    /// 0 or absent = unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_worker_count: Option<i32>,
    /// Job id.
    pub job_id: i64,
    /// Set iff the instance belongs to a workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wf_instance_id: Option<i64>,
    /// Instance id.
    pub instance_id: i64,
    /// Enum name; a name in this message, though a number elsewhere.
    pub execute_type: String,
    /// Enum name.
    pub processor_type: String,
    /// Processor name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor_info: Option<String>,
    /// Not positive = no limit. Only the worker enforces it.
    #[serde(rename = "instanceTimeoutMS")]
    pub instance_timeout_ms: i64,
    /// Parameters of the job or the workflow node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_params: Option<String>,
    /// Parameters of this run, or the workflow context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_params: Option<String>,
    /// Threads of distributed and frequent jobs.
    pub thread_concurrency: i32,
    /// Retries by the worker.
    pub task_retry_num: i32,
    /// Enum name.
    pub time_expression_type: String,
    /// CRON text or interval in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_expression: Option<String>,
    /// Concurrent sub-instances of a FIXED_RATE job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_instance_num: Option<i32>,
    /// JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_config: Option<String>,
    /// JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_config: Option<String>,
    /// JSON text, servers from 4.3.8 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advanced_runtime_config: Option<String>,
}

message!(ServerScheduleJobReq);

impl ServerScheduleJobReq {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            all_worker_address: o.strings("allWorkerAddress")?,
            max_worker_count: o.opt_i32("maxWorkerCount")?,
            job_id: o.required_i64("jobId")?,
            wf_instance_id: o.opt_i64("wfInstanceId")?,
            instance_id: o.required_i64("instanceId")?,
            execute_type: o.str("executeType")?,
            processor_type: o.str("processorType")?,
            processor_info: o.opt_str("processorInfo")?,
            instance_timeout_ms: o.i64("instanceTimeoutMS")?,
            job_params: o.opt_str("jobParams")?,
            instance_params: o.opt_str("instanceParams")?,
            thread_concurrency: o.i32("threadConcurrency")?,
            task_retry_num: o.i32("taskRetryNum")?,
            time_expression_type: o.str("timeExpressionType")?,
            time_expression: o.opt_str("timeExpression")?,
            max_instance_num: o.opt_i32("maxInstanceNum")?,
            alarm_config: o.opt_str("alarmConfig")?,
            log_config: o.opt_str("logConfig")?,
            advanced_runtime_config: o.opt_str("advancedRuntimeConfig")?,
        })
    }

    /// What the core decides on.
    pub fn into_dispatch(self) -> Dispatch {
        Dispatch {
            job_id: self.job_id,
            instance_id: self.instance_id,
            wf_instance_id: self.wf_instance_id,
            execute_type: self.execute_type,
            time_expression_type: self.time_expression_type,
            processor_type: self.processor_type,
            processor_info: self.processor_info.unwrap_or_default(),
            timeout_ms: u64::try_from(self.instance_timeout_ms).ok().filter(|&ms| ms > 0),
            task_retry_num: u32::try_from(self.task_retry_num).unwrap_or(0),
            job_params: self.job_params,
            instance_params: self.instance_params,
            log_config: self.log_config,
        }
    }
}

/// `POST /worker/stopInstance` (7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStopInstanceReq {
    /// Instance id.
    pub instance_id: i64,
}

message!(ServerStopInstanceReq);

impl ServerStopInstanceReq {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self { instance_id: o.required_i64("instanceId")? })
    }
}

/// `POST /worker/queryInstanceStatus` (7.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerQueryInstanceStatusReq {
    /// Instance id.
    pub instance_id: i64,
    /// A piece of SQL for the Java worker's task table (servers from 4.3.8 on); never executed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_query: Option<String>,
}

message!(ServerQueryInstanceStatusReq);

impl ServerQueryInstanceStatusReq {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self { instance_id: o.required_i64("instanceId")?, custom_query: o.opt_str("customQuery")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API_JOB: &str = r#"{"allWorkerAddress":["127.0.0.1:27702"],"maxWorkerCount":0,"jobId":38,"instanceId":1004402621408084032,"executeType":"STANDALONE","processorType":"BUILT_IN","processorInfo":"echo","instanceTimeoutMS":60000,"jobParams":"{\"a\":1}","instanceParams":"{\"b\":\"ä\"}","threadConcurrency":3,"taskRetryNum":2,"timeExpressionType":"API","maxInstanceNum":0,"logConfig":"{\"level\":2,\"type\":1}","advancedRuntimeConfig":"{\"taskTrackerBehavior\":1}"}"#;
    const WORKFLOW_NODE: &str = r#"{"allWorkerAddress":["127.0.0.1:27702"],"maxWorkerCount":0,"jobId":38,"wfInstanceId":1004402731818942528,"instanceId":1004402731915411520,"executeType":"STANDALONE","processorType":"BUILT_IN","processorInfo":"echo","instanceTimeoutMS":60000,"jobParams":"np","instanceParams":"{\"k\":\"v\"}","threadConcurrency":3,"taskRetryNum":2,"timeExpressionType":"WORKFLOW","maxInstanceNum":0,"logConfig":"{\"level\":2,\"type\":1}","advancedRuntimeConfig":"{\"taskTrackerBehavior\":1}"}"#;

    #[test]
    fn recorded_dispatches_are_read_and_written_back_byte_for_byte() {
        for text in [API_JOB, WORKFLOW_NODE] {
            let req = ServerScheduleJobReq::parse(text.as_bytes()).expect("recorded");
            assert_eq!(serde_json::to_string(&req).expect("JSON"), text);
            assert_eq!(serde_json::from_str::<ServerScheduleJobReq>(text).expect("serde"), req);
        }
    }

    #[test]
    fn trap_21_types_are_names_in_a_dispatch() {
        let dispatch = ServerScheduleJobReq::parse(API_JOB.as_bytes()).expect("recorded").into_dispatch();
        assert_eq!((dispatch.execute_type.as_str(), dispatch.time_expression_type.as_str()), ("STANDALONE", "API"));
        assert_eq!(dispatch.instance_params.as_deref(), Some("{\"b\":\"ä\"}"));
        assert_eq!((dispatch.timeout_ms, dispatch.task_retry_num), (Some(60_000), 2));
    }

    #[test]
    fn trap_19_nulls_of_old_servers_unknown_fields_and_unknown_names_are_read() {
        let text = r#"{"jobId":1,"instanceId":2,"wfInstanceId":null,"executeType":"SOMETHING_NEW","processorType":null,
            "processorInfo":null,"instanceTimeoutMS":null,"jobParams":null,"instanceParams":null,"allWorkerAddress":null,
            "threadConcurrency":null,"taskRetryNum":null,"timeExpressionType":"API","meta":{"new":[1]},"logConfig":null}"#;
        let dispatch = ServerScheduleJobReq::parse(text.as_bytes()).expect("tolerated").into_dispatch();
        assert_eq!(dispatch.execute_type, "SOMETHING_NEW");
        assert_eq!((dispatch.timeout_ms, dispatch.wf_instance_id, dispatch.job_params), (None, None, None));
    }

    #[test]
    fn a_dispatch_without_an_instance_id_says_which_field_is_missing() {
        let why = ServerScheduleJobReq::parse(br#"{"jobId":1}"#).expect_err("no instance");
        assert_eq!(why.to_string(), "field `instanceId` is missing; an integer of 64 bits is needed");
    }

    #[test]
    fn stop_and_query_are_read_as_recorded() {
        let stop = ServerStopInstanceReq::parse(br#"{"instanceId":739799728128000064}"#).expect("recorded");
        assert_eq!(stop.instance_id, 739_799_728_128_000_064);
        let query = ServerQueryInstanceStatusReq::parse(
            br#"{"instanceId":739799728128000064,"customQuery":"status in (5, 6) order by last_modified_time desc"}"#,
        )
        .expect("recorded");
        assert!(query.custom_query.is_some());
    }
}
