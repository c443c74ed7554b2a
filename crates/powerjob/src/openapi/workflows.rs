//! Workflows: first the jobs, then the nodes, then the graph, then a run.

use serde_json::{Value, json};

use super::client::{ApiCall, OpenApi};
use super::error::OpenApiError;
use super::types::{NodeSpec, WfInstanceInfo, WorkflowSpec};

impl OpenApi {
    /// Saves nodes and gives their ids, in the order of the request.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn add_workflow_nodes(&self, nodes: &[NodeSpec]) -> Result<Vec<i64>, OpenApiError> {
        let path = "/openApi/addWorkflowNode";
        let body = serde_json::to_value(nodes)
            .map_err(|error| OpenApiError::Config(format!("nodes cannot be written as JSON: {error}")))?;
        let saved: Vec<Value> = self.call(ApiCall::json(path, body).once()).await?;
        saved
            .iter()
            .map(|node| node.get("id").and_then(Value::as_i64))
            .collect::<Option<Vec<_>>>()
            .filter(|ids| ids.len() == nodes.len())
            .ok_or_else(|| OpenApiError::Unexpected {
                server: self.last_good().to_owned(),
                path: path.to_owned(),
                status: 200,
                detail: "a saved node has no id".to_owned(),
            })
    }

    /// Saves a workflow with its graph, new or changed, and gives its id. Nodes that the graph does not list are deleted.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn save_workflow(&self, workflow: &WorkflowSpec) -> Result<i64, OpenApiError> {
        let nodes: Vec<Value> = workflow.nodes.iter().map(|id| json!({"nodeId": id})).collect();
        let body = json!({
            "id": workflow.id, "appId": workflow.app_id, "wfName": workflow.name, "wfDescription": "",
            "timeExpressionType": workflow.time_expression_type, "timeExpression": workflow.time_expression,
            "maxWfInstanceNum": workflow.max_instances, "enable": true, "notifyUserIds": [],
            "dag": {"nodes": nodes, "edges": workflow.edges},
        });
        let call = ApiCall::json("/openApi/saveWorkflow", body);
        self.call(if workflow.id.is_none() { call.once() } else { call }).await
    }

    /// A workflow as saved; its graph is under `peworkflowDAG` (4.3.9 and 5.1.1).
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn fetch_workflow(&self, app_id: i64, workflow_id: i64) -> Result<Value, OpenApiError> {
        self.call(ApiCall::form("/openApi/fetchWorkflow", &[("workflowId", workflow_id), ("appId", app_id)])).await
    }

    /// Stops a workflow's schedule.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn disable_workflow(&self, app_id: i64, workflow_id: i64) -> Result<(), OpenApiError> {
        self.workflow_switch("/openApi/disableWorkflow", app_id, workflow_id).await
    }

    /// Starts a workflow's schedule.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn enable_workflow(&self, app_id: i64, workflow_id: i64) -> Result<(), OpenApiError> {
        self.workflow_switch("/openApi/enableWorkflow", app_id, workflow_id).await
    }

    /// Deletes a workflow softly.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn delete_workflow(&self, app_id: i64, workflow_id: i64) -> Result<(), OpenApiError> {
        self.workflow_switch("/openApi/deleteWorkflow", app_id, workflow_id).await
    }

    /// Runs a workflow and gives the workflow instance id. A flat JSON object of strings becomes the context itself, any other
    /// text its entry `initParams`.
    ///
    /// # Errors
    /// As [`OpenApi::call`]; [`OpenApiError::Unanswered`] means that it may be running.
    pub async fn run_workflow(
        &self,
        app_id: i64,
        workflow_id: i64,
        init: Option<&str>,
        delay_ms: u64,
    ) -> Result<i64, OpenApiError> {
        let call = ApiCall::form("/openApi/runWorkflow", &[("workflowId", workflow_id), ("appId", app_id)])
            .field("initParams", init)
            .field("delay", (delay_ms > 0).then_some(delay_ms))
            .once();
        self.call(call).await
    }

    /// A workflow instance with its graph and context.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn fetch_wf_instance_info(
        &self,
        app_id: i64,
        wf_instance_id: i64,
    ) -> Result<WfInstanceInfo, OpenApiError> {
        self.call(ApiCall::form("/openApi/fetchWfInstanceInfo", &[("wfInstanceId", wf_instance_id), ("appId", app_id)]))
            .await
    }

    /// Stops a workflow instance and the instances of its nodes.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn stop_wf_instance(&self, app_id: i64, wf_instance_id: i64) -> Result<(), OpenApiError> {
        self.wf_order("/openApi/stopWfInstance", app_id, wf_instance_id).await
    }

    /// Runs the failed and stopped nodes of a workflow instance again.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn retry_wf_instance(&self, app_id: i64, wf_instance_id: i64) -> Result<(), OpenApiError> {
        self.wf_order("/openApi/retryWfInstance", app_id, wf_instance_id).await
    }

    /// Declares a failed node of a finished workflow instance successful, before a retry.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn mark_node_as_success(
        &self,
        app_id: i64,
        wf_instance_id: i64,
        node_id: i64,
    ) -> Result<(), OpenApiError> {
        let fields = [("wfInstanceId", wf_instance_id), ("nodeId", node_id), ("appId", app_id)];
        self.call::<Value>(ApiCall::form("/openApi/markWorkflowNodeAsSuccess", &fields)).await.map(drop)
    }

    async fn workflow_switch(&self, path: &str, app_id: i64, workflow_id: i64) -> Result<(), OpenApiError> {
        self.call::<Value>(ApiCall::form(path, &[("workflowId", workflow_id), ("appId", app_id)])).await.map(drop)
    }

    async fn wf_order(&self, path: &str, app_id: i64, wf_instance_id: i64) -> Result<(), OpenApiError> {
        self.call::<Value>(ApiCall::form(path, &[("wfInstanceId", wf_instance_id), ("appId", app_id)]).once())
            .await
            .map(drop)
    }
}
