//! Saves jobs and workflow on the server and starts a run, through the OpenAPI as a platform would.

use powerjob_worker::openapi::{JobSpec, NodeSpec, OpenApi, OpenApiError, WorkflowSpec};
use serde_json::Value;

use super::jobs::DemoJob;

/// Saves the jobs as a chain and runs it once; gives the workflow instance's id.
pub(super) async fn start(api: &OpenApi, app_id: i64, jobs: &[DemoJob], init: &Value) -> Result<i64, OpenApiError> {
    let mut nodes = Vec::new();
    for (i, job) in jobs.iter().enumerate() {
        let spec =
            JobSpec { job_params: Some(job.params.to_string()), ..JobSpec::api(app_id, job.name, job.processor) };
        let job_id = api.save_job(&spec).await?;
        // Whatever fails, people are told: only the last node may fail the chain.
        nodes.push(NodeSpec { skip_when_failed: i + 1 < jobs.len(), ..NodeSpec::job(app_id, job_id, job.name, None) });
    }
    let nodes = api.add_workflow_nodes(&nodes).await?;
    let workflow = api.save_workflow(&WorkflowSpec::chain(app_id, "demo", &nodes)).await?;
    api.run_workflow(app_id, workflow, Some(&init.to_string()), 0).await
}
