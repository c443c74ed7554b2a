//! Requests and answers. Enum fields are sent as names (a bare number would be read as a position) and come back as codes.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// InstanceStatus by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InstanceStatus {
    /// 1
    WaitingDispatch = 1,
    /// 2
    WaitingWorkerReceive = 2,
    /// 3
    Running = 3,
    /// 4
    Failed = 4,
    /// 5
    Succeed = 5,
    /// 9
    Canceled = 9,
    /// 10
    Stopped = 10,
}

impl InstanceStatus {
    /// The status with this code.
    pub fn from_code(code: i64) -> Option<Self> {
        Some(match code {
            1 => Self::WaitingDispatch,
            2 => Self::WaitingWorkerReceive,
            3 => Self::Running,
            4 => Self::Failed,
            5 => Self::Succeed,
            9 => Self::Canceled,
            10 => Self::Stopped,
            _ => return None,
        })
    }

    /// Its code.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// Its name on the wire, e.g. `SUCCEED`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WaitingDispatch => "WAITING_DISPATCH",
            Self::WaitingWorkerReceive => "WAITING_WORKER_RECEIVE",
            Self::Running => "RUNNING",
            Self::Failed => "FAILED",
            Self::Succeed => "SUCCEED",
            Self::Canceled => "CANCELED",
            Self::Stopped => "STOPPED",
        }
    }

    /// True when the server expects no more of it.
    pub fn is_final(self) -> bool {
        self.code() >= 4
    }
}

/// WorkflowInstanceStatus; its codes are others than those of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WfStatus {
    /// 1
    Waiting = 1,
    /// 2
    Running = 2,
    /// 3
    Failed = 3,
    /// 4
    Succeed = 4,
    /// 10
    Stopped = 10,
}

impl WfStatus {
    /// The status with this code.
    pub fn from_code(code: i64) -> Option<Self> {
        Some(match code {
            1 => Self::Waiting,
            2 => Self::Running,
            3 => Self::Failed,
            4 => Self::Succeed,
            10 => Self::Stopped,
            _ => return None,
        })
    }

    /// Its code.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// True when nothing more will happen without a retry.
    pub fn is_final(self) -> bool {
        self.code() >= 3
    }
}

/// `/openApi/saveJob`. Fields left `None` are not sent and get the server's defaults; `more` is added as it is.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names and meanings are those of saveJob of a PowerJob server")]
pub struct JobSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    pub app_id: i64,
    pub job_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_params: Option<String>,
    /// Enum name, e.g. `API`, `CRON`, `WORKFLOW`.
    pub time_expression_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_expression: Option<String>,
    /// Enum name, e.g. `STANDALONE`.
    pub execute_type: String,
    /// Enum name, e.g. `BUILT_IN`.
    pub processor_type: String,
    pub processor_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_instance_num: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    /// ms, 0 = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_time_limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_retry_num: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_retry_num: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub designated_workers: Option<String>,
    /// Always sent: a null would mean false.
    pub enable: bool,
    /// Further fields of saveJob by their wire names.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

impl JobSpec {
    /// A STANDALONE job for a built-in processor that runs only when told to (time type API).
    pub fn api(app_id: i64, name: &str, processor: &str) -> Self {
        Self {
            app_id,
            job_name: name.to_owned(),
            time_expression_type: "API".to_owned(),
            execute_type: "STANDALONE".to_owned(),
            processor_type: "BUILT_IN".to_owned(),
            processor_info: processor.to_owned(),
            enable: true,
            ..Self::default()
        }
    }

    /// The same with CRON (six or seven fields with seconds, server's time zone).
    pub fn cron(app_id: i64, name: &str, processor: &str, expression: &str) -> Self {
        Self {
            time_expression_type: "CRON".to_owned(),
            time_expression: Some(expression.to_owned()),
            ..Self::api(app_id, name, processor)
        }
    }

    /// Sets a field of saveJob by its wire name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }
}

/// A job as `/openApi/fetchJob` gives it: enums as codes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct Job {
    pub id: i64,
    pub job_name: String,
    pub app_id: i64,
    pub job_params: Option<String>,
    pub time_expression_type: Option<i32>,
    pub time_expression: Option<String>,
    pub execute_type: Option<i32>,
    pub processor_type: Option<i32>,
    pub processor_info: Option<String>,
    /// Switch status: 1 enabled, 2 disabled, 99 deleted.
    pub status: Option<i32>,
    /// Every other field.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// An instance as `/openApi/fetchInstanceInfo` gives it. Times are epoch ms.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct InstanceInfo {
    #[serde(deserialize_with = "id")]
    pub instance_id: i64,
    #[serde(deserialize_with = "id")]
    pub job_id: i64,
    #[serde(deserialize_with = "id")]
    pub app_id: i64,
    #[serde(default, deserialize_with = "optional_id")]
    pub wf_instance_id: Option<i64>,
    pub job_params: Option<String>,
    pub instance_params: Option<String>,
    /// InstanceStatus code.
    pub status: i32,
    pub result: Option<String>,
    pub expected_trigger_time: Option<i64>,
    pub actual_trigger_time: Option<i64>,
    pub finished_time: Option<i64>,
    /// The worker it was dispatched to.
    pub task_tracker_address: Option<String>,
    /// How often a worker has taken it up.
    pub running_times: Option<i64>,
}

impl InstanceInfo {
    /// Its status, if the code is one of those known.
    pub fn status(&self) -> Option<InstanceStatus> {
        InstanceStatus::from_code(i64::from(self.status))
    }
}

/// One entry of `/openApi/addWorkflowNode`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct NodeSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    pub app_id: i64,
    /// 1 = job, 2 = decision, 3 = nested workflow.
    #[serde(rename = "type")]
    pub node_type: i32,
    pub job_id: i64,
    pub node_name: String,
    pub node_params: Option<String>,
    pub enable: bool,
    pub skip_when_failed: bool,
}

impl NodeSpec {
    /// An enabled job node.
    pub fn job(app_id: i64, job_id: i64, name: &str, params: Option<&str>) -> Self {
        Self {
            id: None,
            app_id,
            node_type: 1,
            job_id,
            node_name: name.to_owned(),
            node_params: params.map(str::to_owned),
            enable: true,
            skip_when_failed: false,
        }
    }
}

/// An edge of a workflow's graph, by node ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct Edge {
    pub from: i64,
    pub to: i64,
}

/// `/openApi/saveWorkflow`.
#[derive(Clone, Debug)]
pub struct WorkflowSpec {
    /// `Some` = update.
    pub id: Option<i64>,
    /// App id.
    pub app_id: i64,
    /// Name.
    pub name: String,
    /// `API` or `CRON`.
    pub time_expression_type: String,
    /// CRON text.
    pub time_expression: Option<String>,
    /// Runs at the same time; 0 = unlimited. The server's own default is 1.
    pub max_instances: i32,
    /// Node ids, as `addWorkflowNode` gave them.
    pub nodes: Vec<i64>,
    /// Edges between them.
    pub edges: Vec<Edge>,
}

impl WorkflowSpec {
    /// Nodes one behind the other, started through the API, any number of runs at a time.
    pub fn chain(app_id: i64, name: &str, nodes: &[i64]) -> Self {
        Self {
            id: None,
            app_id,
            name: name.to_owned(),
            time_expression_type: "API".to_owned(),
            time_expression: None,
            max_instances: 0,
            nodes: nodes.to_vec(),
            edges: nodes.windows(2).map(|pair| Edge { from: pair[0], to: pair[1] }).collect(),
        }
    }
}

/// A workflow instance; `nodes` is its graph, read out of the JSON text in `dag`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct WfInstanceInfo {
    #[serde(deserialize_with = "id")]
    pub wf_instance_id: i64,
    #[serde(deserialize_with = "id")]
    pub workflow_id: i64,
    /// WorkflowInstanceStatus code.
    pub status: i32,
    pub wf_init_params: Option<String>,
    pub wf_context: Option<String>,
    pub dag: Option<String>,
    pub result: Option<String>,
    pub actual_trigger_time: Option<i64>,
    pub finished_time: Option<i64>,
}

impl WfInstanceInfo {
    /// Its status, if the code is one of those known.
    pub fn status(&self) -> Option<WfStatus> {
        WfStatus::from_code(i64::from(self.status))
    }

    /// The nodes of its graph.
    ///
    /// # Errors
    /// What is wrong with `dag`.
    pub fn nodes(&self) -> Result<Vec<WfNodeState>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Dag {
            nodes: Vec<WfNodeState>,
        }
        self.dag.as_deref().map_or(Ok(Vec::new()), |text| serde_json::from_str::<Dag>(text).map(|dag| dag.nodes))
    }
}

/// A node of a running or finished workflow instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct WfNodeState {
    pub node_id: i64,
    pub node_name: Option<String>,
    #[serde(default, deserialize_with = "optional_id")]
    pub job_id: Option<i64>,
    pub node_params: Option<String>,
    /// Absent until the node was started.
    #[serde(default, deserialize_with = "optional_id")]
    pub instance_id: Option<i64>,
    /// InstanceStatus code; absent until the node was started.
    pub status: Option<i32>,
    pub result: Option<String>,
}

/// Ids are numbers in the OpenAPI and strings on console pages.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    optional_id(deserializer)?.ok_or_else(|| serde::de::Error::custom("an id is missing"))
}

pub(super) fn optional_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(number) => {
            number.as_i64().map(Some).ok_or_else(|| serde::de::Error::custom(format!("{number} is no id")))
        }
        Value::String(text) if text == "N/A" || text.is_empty() => Ok(None),
        Value::String(text) => {
            text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("{text:?} is no id")))
        }
        other => Err(serde::de::Error::custom(format!("{other} is no id"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_above_two_to_the_53_survive_as_number_and_as_text() {
        let row = |id: &str| format!(r#"{{"instanceId":{id},"jobId":1,"appId":1,"wfInstanceId":"N/A","status":5}}"#);
        for text in ["886543210123456789", "\"886543210123456789\""] {
            let info: InstanceInfo = serde_json::from_str(&row(text)).expect("read");
            assert_eq!(info.instance_id, 886_543_210_123_456_789);
            assert_eq!(info.wf_instance_id, None);
            assert_eq!(info.status(), Some(InstanceStatus::Succeed));
        }
    }

    #[test]
    fn a_job_is_sent_with_enum_names_and_without_what_was_not_set() {
        let job = serde_json::to_value(JobSpec::api(1, "j", "echo").with("tag", "t")).expect("written");
        assert_eq!(job["timeExpressionType"], "API");
        assert_eq!(job["tag"], "t");
        assert!(job.get("timeExpression").is_none() && job.get("id").is_none());
    }
}
