//! Rows of the in-memory database.

use std::collections::BTreeMap;

use serde_json::Value;

/// An app.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) password: String,
}

/// A job; enums as codes, embedded configurations as the JSON text that a dispatch carries.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) app_id: i64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) params: Option<String>,
    pub(crate) time_type: i32,
    pub(crate) time_expression: Option<String>,
    pub(crate) execute_type: i32,
    pub(crate) processor_type: i32,
    pub(crate) processor_info: String,
    pub(crate) max_instance_num: i64,
    pub(crate) concurrency: i64,
    pub(crate) instance_time_limit: i64,
    pub(crate) instance_retry_num: i64,
    pub(crate) task_retry_num: i64,
    pub(crate) min_cpu_cores: f64,
    pub(crate) min_memory_space: f64,
    pub(crate) min_disk_space: f64,
    /// 1 enabled, 2 disabled, 99 deleted.
    pub(crate) status: i32,
    pub(crate) next_trigger_time: Option<i64>,
    pub(crate) designated_workers: Option<String>,
    pub(crate) max_worker_count: i64,
    pub(crate) notify_user_ids: Option<String>,
    pub(crate) extra: Option<String>,
    pub(crate) dispatch_strategy: i32,
    pub(crate) dispatch_strategy_config: Option<String>,
    pub(crate) lifecycle: String,
    pub(crate) alarm_config: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) log_config: Option<String>,
    pub(crate) advanced_runtime_config: Option<String>,
    pub(crate) created: i64,
    pub(crate) modified: i64,
}

impl Job {
    pub(crate) fn is_frequent(&self) -> bool {
        use crate::enums::time_type::{FIXED_DELAY, FIXED_RATE};
        matches!(self.time_type, FIXED_RATE | FIXED_DELAY)
    }
}

/// An instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: i64,
    pub(crate) job_id: i64,
    pub(crate) app_id: i64,
    pub(crate) wf_instance_id: Option<i64>,
    pub(crate) job_params: Option<String>,
    pub(crate) instance_params: Option<String>,
    pub(crate) status: i32,
    pub(crate) result: Option<String>,
    pub(crate) expected: i64,
    pub(crate) actual: Option<i64>,
    pub(crate) finished: Option<i64>,
    pub(crate) last_report: i64,
    pub(crate) address: Option<String>,
    pub(crate) running_times: i64,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    /// A dispatch was issued and is not written down yet.
    pub(crate) in_dispatch: bool,
    /// Waits in memory for its time (a delayed run): cancelled there, forgotten by a restart.
    pub(crate) in_timer: bool,
}

/// A worker as its last heartbeat described it.
#[derive(Clone, Debug)]
pub(crate) struct WorkerRecord {
    pub(crate) address: String,
    pub(crate) last_active: i64,
    pub(crate) protocol: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) light: i64,
    pub(crate) heavy: i64,
    pub(crate) last_overload: i64,
    pub(crate) overloading: bool,
    pub(crate) metrics: Value,
    pub(crate) containers: Value,
}

/// A node of the graph editor.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: i64,
    pub(crate) app_id: i64,
    pub(crate) workflow_id: Option<i64>,
    pub(crate) job_id: i64,
    pub(crate) name: Option<String>,
    pub(crate) params: Option<String>,
    pub(crate) enable: bool,
    pub(crate) skip_when_failed: bool,
    pub(crate) extra: Option<String>,
    pub(crate) created: i64,
    pub(crate) modified: i64,
}

/// A workflow.
#[derive(Clone, Debug)]
pub(crate) struct Workflow {
    pub(crate) id: i64,
    pub(crate) app_id: i64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) time_type: i32,
    pub(crate) time_expression: Option<String>,
    pub(crate) max_instance_num: i64,
    pub(crate) status: i32,
    pub(crate) nodes: Vec<i64>,
    pub(crate) edges: Vec<(i64, i64)>,
    pub(crate) next_trigger_time: Option<i64>,
    pub(crate) created: i64,
    pub(crate) modified: i64,
}

/// A node inside a workflow instance.
#[derive(Clone, Debug)]
pub(crate) struct WfNode {
    pub(crate) node_id: i64,
    pub(crate) job_id: i64,
    pub(crate) name: Option<String>,
    pub(crate) params: Option<String>,
    pub(crate) enable: bool,
    pub(crate) skip_when_failed: bool,
    pub(crate) instance_id: Option<i64>,
    /// InstanceStatus code; WAITING_DISPATCH until started.
    pub(crate) status: i32,
    pub(crate) result: Option<String>,
    pub(crate) finished: Option<i64>,
}

/// A run of a workflow.
#[derive(Clone, Debug)]
pub(crate) struct WfInstance {
    pub(crate) row: i64,
    pub(crate) id: i64,
    pub(crate) workflow_id: i64,
    pub(crate) app_id: i64,
    pub(crate) status: i32,
    pub(crate) init_params: Option<String>,
    pub(crate) context: BTreeMap<String, Value>,
    /// The context as it was given, until something is merged into it.
    pub(crate) context_text: Option<String>,
    pub(crate) nodes: Vec<WfNode>,
    pub(crate) edges: Vec<(i64, i64)>,
    pub(crate) result: Option<String>,
    pub(crate) expected: i64,
    pub(crate) actual: Option<i64>,
    pub(crate) finished: Option<i64>,
    pub(crate) created: i64,
    pub(crate) modified: i64,
}
