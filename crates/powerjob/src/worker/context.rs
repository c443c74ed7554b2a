//! From a stored instance to what its processor is given.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;

use crate::{JobLogger, StopSignal, Task, TaskContext, WorkflowContext, core::InstanceRecord};

/// What only the moment of the start knows.
pub(crate) struct Start {
    pub(crate) attempt: u32,
    pub(crate) resumed: bool,
    pub(crate) time_left_ms: Option<u64>,
    pub(crate) worker_address: String,
    pub(crate) log: JobLogger,
    pub(crate) stop: StopSignal,
    pub(crate) context_limit: usize,
}

pub(crate) fn task_context(record: &InstanceRecord, start: Start) -> TaskContext {
    let dispatch = &record.dispatch;
    TaskContext {
        job_id: dispatch.job_id,
        instance_id: dispatch.instance_id,
        wf_instance_id: dispatch.wf_instance_id,
        processor: dispatch.processor_info.clone(),
        job_params: dispatch.job_params.clone(),
        instance_params: dispatch.instance_params.clone(),
        task: Task::single(dispatch.job_id, dispatch.instance_id).with_retry(record.retries_used),
        attempt: start.attempt,
        task_retry_num: dispatch.task_retry_num,
        time_limit: start.time_left_ms.map(Duration::from_millis),
        resumed: start.resumed,
        worker_address: start.worker_address,
        log: start.log,
        stop: start.stop,
        workflow: WorkflowContext::new(workflow_values(dispatch.wf_instance_id, dispatch.instance_params.as_deref()))
            .with_limit(start.context_limit),
    }
}

/// The workflow context of a node: every value in its string form, nulls left out. Outside of a workflow, and where the text
/// is no object, it is empty, as in the Java worker.
pub(crate) fn workflow_values(wf_instance_id: Option<i64>, instance_params: Option<&str>) -> HashMap<String, String> {
    let Some(text) = wf_instance_id.and(instance_params) else {
        return HashMap::new();
    };
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(text) else {
        return HashMap::new();
    };
    map.into_iter()
        .filter_map(|(key, value)| match value {
            Value::Null => None,
            Value::String(text) => Some((key, text)),
            other => Some((key, other.to_string())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(wf: &str, params: &str) -> HashMap<String, String> {
        let text = serde_json::json!({"jobId":1,"instanceId":2,"wfInstanceId":wf,"instanceParams":params}).to_string();
        let dispatch = crate::wire::ServerScheduleJobReq::parse(text.as_bytes()).expect("valid").into_dispatch();
        workflow_values(dispatch.wf_instance_id, dispatch.instance_params.as_deref())
    }

    #[test]
    fn trap_26_the_workflow_context_is_a_flat_map_of_strings() {
        let context = values("7", r#"{"a":"x","n":4,"big":1004402731818942529,"o":{"b":[1]},"z":null,"t":true}"#);
        assert_eq!(context["a"], "x");
        assert_eq!(context["n"], "4");
        assert_eq!(context["big"], "1004402731818942529");
        assert_eq!(context["o"], r#"{"b":[1]}"#);
        assert_eq!(context["t"], "true");
        assert!(!context.contains_key("z"));
    }

    #[test]
    fn outside_of_a_workflow_and_for_text_that_is_no_object_it_is_empty() {
        assert!(values("", r#"{"a":"x"}"#).is_empty());
        assert!(values("7", "[1]").is_empty() && values("7", "text").is_empty());
    }
}
