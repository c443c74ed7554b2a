//! What workers say to each other about tasks (6.3 to 6.8), and the question for the workers of a job (6.9).

use serde::{Serialize, Serializer};

use super::{
    ask::{decode_base64, encode_base64},
    object::{Object, WireError, message},
};
use crate::tasks::api::{InstanceInfo, MapTask, ReportTask, ReportWorker, StartTask, SubTask};

message!(StartTask);
message!(ReportTask);
message!(ReportWorker);
message!(MapTask);

/// Bytes in base64url, as 1.6 wants them.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode_base64(self.0))
    }
}

fn bytes(o: &Object, name: &str) -> Result<Option<Vec<u8>>, WireError> {
    let decode = |text: String| {
        decode_base64(&text).ok_or_else(|| WireError(format!("field `{name}` is not base64; base64url is accepted")))
    };
    o.opt_str(name)?.map(decode).transpose()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InfoOut<'a> {
    job_id: i64,
    instance_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    wf_instance_id: Option<i64>,
    execute_type: &'a str,
    processor_type: &'a str,
    processor_info: &'a str,
    time_expression_type: i32,
    #[serde(rename = "instanceTimeoutMS")]
    instance_timeout_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_params: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_params: Option<&'a str>,
    thread_concurrency: i32,
    task_retry_num: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_config: Option<&'a str>,
    // Workers before 4.3.8 refuse a property that they do not know, so it goes only where the server sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advanced_runtime_config: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartOut<'a> {
    task_tracker_address: &'a str,
    instance_info: InfoOut<'a>,
    task_id: &'a str,
    task_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_content: Option<Base64<'a>>,
    task_current_retry_nums: i32,
    sub_instance_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_config: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advanced_runtime_config: Option<&'a str>,
}

impl Serialize for StartTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let info = &*self.instance;
        StartOut {
            task_tracker_address: &self.task_tracker_address,
            instance_info: InfoOut {
                job_id: info.job_id,
                instance_id: info.instance_id,
                wf_instance_id: info.wf_instance_id,
                execute_type: &info.execute_type,
                processor_type: &info.processor_type,
                processor_info: &info.processor_info,
                time_expression_type: info.time_expression_type,
                instance_timeout_ms: info.instance_timeout_ms,
                job_params: info.job_params.as_deref(),
                instance_params: info.instance_params.as_deref(),
                thread_concurrency: info.thread_concurrency,
                task_retry_num: info.task_retry_num,
                log_config: info.log_config.as_deref(),
                advanced_runtime_config: info.advanced_runtime_config.as_deref(),
            },
            task_id: &self.task_id,
            task_name: &self.task_name,
            task_content: self.task_content.as_deref().map(Base64),
            task_current_retry_nums: self.task_current_retry_nums,
            sub_instance_id: self.sub_instance_id,
            log_config: self.log_config.as_deref(),
            advanced_runtime_config: self.advanced_runtime_config.as_deref(),
        }
        .serialize(serializer)
    }
}

impl InstanceInfo {
    fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            job_id: o.required_i64("jobId")?,
            instance_id: o.required_i64("instanceId")?,
            wf_instance_id: o.opt_i64("wfInstanceId")?,
            execute_type: o.str("executeType")?,
            processor_type: o.str("processorType")?,
            processor_info: o.str("processorInfo")?,
            time_expression_type: o.i32("timeExpressionType")?,
            instance_timeout_ms: o.i64("instanceTimeoutMS")?,
            job_params: o.opt_str("jobParams")?,
            instance_params: o.opt_str("instanceParams")?,
            thread_concurrency: o.i32("threadConcurrency")?,
            task_retry_num: o.i32("taskRetryNum")?,
            log_config: o.opt_str("logConfig")?,
            advanced_runtime_config: o.opt_str("advancedRuntimeConfig")?,
        })
    }
}

impl StartTask {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        let info = o
            .opt_object("instanceInfo")?
            .ok_or_else(|| WireError("field `instanceInfo` is missing; an object is needed".to_owned()))?;
        let info =
            InstanceInfo::read(&info).map_err(|WireError(why)| WireError(format!("in `instanceInfo`: {why}")))?;
        Ok(Self {
            task_tracker_address: o.required_str("taskTrackerAddress")?,
            sub_instance_id: o.opt_i64("subInstanceId")?.unwrap_or(info.instance_id),
            instance: info.into(),
            task_id: o.required_str("taskId")?,
            task_name: o.str("taskName")?,
            task_content: bytes(o, "taskContent")?,
            task_current_retry_nums: o.i32("taskCurrentRetryNums")?,
            log_config: o.opt_str("logConfig")?,
            advanced_runtime_config: o.opt_str("advancedRuntimeConfig")?,
            resumed: false,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportOut<'a> {
    instance_id: i64,
    sub_instance_id: i64,
    task_id: &'a str,
    status: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a str>,
    report_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    appended_wf_context: Option<&'a std::collections::BTreeMap<String, String>>,
}

impl Serialize for ReportTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ReportOut {
            instance_id: self.instance_id,
            sub_instance_id: self.sub_instance_id,
            task_id: &self.task_id,
            status: self.status,
            result: self.result.as_deref(),
            report_time: self.report_time,
            cmd: self.cmd,
            appended_wf_context: self.appended_wf_context.as_ref(),
        }
        .serialize(serializer)
    }
}

impl ReportTask {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        let instance_id = o.required_i64("instanceId")?;
        Ok(Self {
            instance_id,
            sub_instance_id: o.opt_i64("subInstanceId")?.unwrap_or(instance_id),
            task_id: o.required_str("taskId")?,
            status: o.i32("status")?,
            result: o.opt_str("result")?,
            report_time: o.i64("reportTime")?,
            cmd: o.opt_i32("cmd")?,
            appended_wf_context: o.opt_string_map("appendedWfContext")?,
            rejected: false,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkerOut<'a> {
    r#type: i32,
    instance_id: i64,
    time: i64,
    remain_task_num: i64,
    address: &'a str,
}

impl Serialize for ReportWorker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WorkerOut {
            r#type: self.kind,
            instance_id: self.instance_id,
            time: self.time,
            remain_task_num: self.remain_task_num,
            address: &self.address,
        }
        .serialize(serializer)
    }
}

impl ReportWorker {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            kind: o.i32("type")?,
            instance_id: o.required_i64("instanceId")?,
            time: o.i64("time")?,
            remain_task_num: o.i64("remainTaskNum")?,
            address: o.required_str("address")?,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MapOut<'a> {
    instance_id: i64,
    sub_instance_id: i64,
    task_name: &'a str,
    sub_tasks: Vec<SubOut<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubOut<'a> {
    task_id: &'a str,
    task_content: Base64<'a>,
}

impl Serialize for MapTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        MapOut {
            instance_id: self.instance_id,
            sub_instance_id: self.sub_instance_id,
            task_name: &self.task_name,
            sub_tasks: self
                .sub_tasks
                .iter()
                .map(|task| SubOut { task_id: &task.task_id, task_content: Base64(&task.content) })
                .collect(),
        }
        .serialize(serializer)
    }
}

impl MapTask {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        let instance_id = o.required_i64("instanceId")?;
        let sub_task = |o: Object| {
            Ok(SubTask { task_id: o.required_str("taskId")?, content: bytes(&o, "taskContent")?.unwrap_or_default() })
        };
        Ok(Self {
            instance_id,
            sub_instance_id: o.opt_i64("subInstanceId")?.unwrap_or(instance_id),
            task_name: o.str("taskName")?,
            sub_tasks: o.objects("subTasks")?.into_iter().map(sub_task).collect::<Result<_, WireError>>()?,
        })
    }
}

/// `POST /processorTracker/stopInstance`, task tracker → processor tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StopTasks {
    /// Instance id.
    pub instance_id: i64,
}

message!(StopTasks);

impl StopTasks {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self { instance_id: o.required_i64("instanceId")? })
    }
}

/// `POST /server/queryJobCluster`, worker → server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryJobCluster {
    /// The app that the job belongs to.
    pub app_id: i64,
    /// Job id.
    pub job_id: i64,
}

message!(QueryJobCluster);

impl QueryJobCluster {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self { app_id: o.required_i64("appId")?, job_id: o.required_i64("jobId")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = r#"{"taskTrackerAddress":"10.0.0.5:27777","instanceInfo":{"jobId":12,"instanceId":739799728128000064,"executeType":"MAP","processorType":"BUILT_IN","processorInfo":"com.example.MyMap","timeExpressionType":1,"instanceTimeoutMS":2147483647,"jobParams":"{}","threadConcurrency":5,"taskRetryNum":1,"logConfig":"{\"level\":2,\"type\":1}","advancedRuntimeConfig":"{}"},"taskId":"0.17","taskName":"SHARD","taskContent":"AwFzaGFyZC2x","taskCurrentRetryNums":0,"subInstanceId":739799728128000064,"logConfig":"{\"level\":2,\"type\":1}","advancedRuntimeConfig":"{}"}"#;
    const REPORT: &str = r#"{"instanceId":739799728128000064,"subInstanceId":739799728128000064,"taskId":"0.17","status":6,"result":"ok","reportTime":1732158009001,"appendedWfContext":{}}"#;
    const LOAD: &str = r#"{"type":2,"instanceId":739799728128000064,"time":1732158009000,"remainTaskNum":3,"address":"10.0.0.6:27777"}"#;
    const IDLE: &str = r#"{"type":1,"instanceId":739799728128000064,"time":1732158309000,"remainTaskNum":0,"address":"10.0.0.6:27777"}"#;
    const MAP: &str = r#"{"instanceId":739799728128000064,"subInstanceId":739799728128000064,"taskName":"SHARD","subTasks":[{"taskId":"0.0","taskContent":"AwFzaGFyZC2x"},{"taskId":"0.1","taskContent":"AwFoZWxs7w"}]}"#;

    fn json<T: Serialize>(message: &T) -> String {
        serde_json::to_string(message).expect("JSON")
    }

    #[test]
    fn recorded_messages_are_read_and_written_back_byte_for_byte() {
        assert_eq!(json(&StartTask::parse(START.as_bytes()).expect("recorded")), START);
        assert_eq!(json(&ReportTask::parse(REPORT.as_bytes()).expect("recorded")), REPORT);
        for text in [LOAD, IDLE] {
            assert_eq!(json(&ReportWorker::parse(text.as_bytes()).expect("recorded")), text);
        }
        assert_eq!(json(&MapTask::parse(MAP.as_bytes()).expect("recorded")), MAP);
        let stop = r#"{"instanceId":739799728128000064}"#;
        assert_eq!(json(&StopTasks::parse(stop.as_bytes()).expect("recorded")), stop);
        let query = r#"{"appId":1,"jobId":12}"#;
        assert_eq!(json(&QueryJobCluster::parse(query.as_bytes()).expect("recorded")), query);
    }

    #[test]
    fn trap_18_what_a_peer_before_4_3_8_does_not_know_is_not_sent_when_it_did_not_come() {
        let mut start = StartTask::parse(START.as_bytes()).expect("recorded");
        start.advanced_runtime_config = None;
        start.instance = InstanceInfo { advanced_runtime_config: None, ..(*start.instance).clone() }.into();
        assert!(!json(&start).contains("advancedRuntimeConfig"));
        let report = ReportTask { status: 3, task_id: "0".to_owned(), ..ReportTask::default() };
        assert_eq!(json(&report), r#"{"instanceId":0,"subInstanceId":0,"taskId":"0","status":3,"reportTime":0}"#);
    }

    #[test]
    fn trap_19_nulls_absent_and_unknown_fields_are_tolerated() {
        let start = r#"{"taskTrackerAddress":"a:1","instanceInfo":{"jobId":1,"instanceId":2,"wfInstanceId":null,"executeType":"BROADCAST","instanceTimeoutMS":"5","new":[1]},
            "taskId":"0","taskName":"OMS_ROOT_TASK","taskContent":null,"subInstanceId":null,"logConfig":null,"meta":{}}"#;
        let start = StartTask::parse(start.as_bytes()).expect("tolerated");
        assert_eq!((start.sub_instance_id, start.instance.instance_timeout_ms), (2, 5));
        assert_eq!((start.task_content, start.log_config), (None, None));
        let report = br#"{"instanceId":1,"subInstanceId":null,"taskId":"0","status":6,"result":null,"cmd":null,"appendedWfContext":null}"#;
        let report = ReportTask::parse(report).expect("tolerated");
        assert_eq!((report.sub_instance_id, report.cmd, report.result), (1, None, None));
        let map = br#"{"instanceId":1,"taskName":"A","subTasks":[{"taskId":"0.0","taskContent":null}]}"#;
        assert_eq!(MapTask::parse(map).expect("tolerated").sub_tasks[0].content, Vec::<u8>::new());
    }

    #[test]
    fn trap_02_contents_in_both_alphabets_are_read_and_bad_ones_named() {
        let with = |content: &str| START.replace("AwFzaGFyZC2x", content);
        for text in ["-__-Pg", "+//+Pg=="] {
            let start = StartTask::parse(with(text).as_bytes()).expect("base64");
            assert_eq!(start.task_content.as_deref(), Some(&[0xfb, 0xff, 0xfe, 0x3e][..]));
            assert!(json(&start).contains(r#""taskContent":"-__-Pg""#));
        }
        let why = StartTask::parse(with("*").as_bytes()).expect_err("no base64").to_string();
        assert!(why.contains("`taskContent` is not base64"), "{why}");
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let why = StartTask::parse(br#"{"taskTrackerAddress":"a:1","instanceInfo":{"jobId":1},"taskId":"0"}"#);
        let why = why.expect_err("no instance").to_string();
        assert!(why.starts_with("in `instanceInfo`: field `instanceId` is missing"), "{why}");
        assert!(ReportTask::parse(br#"{"instanceId":1}"#).is_err());
    }
}
