//! Workflows as the cases build and drive them.

use std::time::Duration;

use powerjob_worker::openapi::{Edge, InstanceStatus, NodeSpec, WfInstanceInfo, WfStatus, WorkflowSpec};
use serde_json::{Value, json};

use crate::check::{Failure, Outcome, eventually, same};
use crate::context::Context;
use crate::raw_worker::{RawWorker, Received, now};

pub(crate) const SOON: Duration = Duration::from_secs(15);

/// A saved workflow whose nodes all run one job.
pub(crate) struct Flow {
    pub(crate) workflow: i64,
    pub(crate) nodes: Vec<i64>,
    pub(crate) job: i64,
}

impl Context {
    pub(crate) async fn flow(&self, nodes: &[NodeSpec], edges: &[(usize, usize)], max: i32) -> Result<Flow, Failure> {
        let job = self.save(self.job("step").with("jobParams", "of the job")).await?;
        let specs: Vec<NodeSpec> =
            nodes.iter().cloned().map(|node| NodeSpec { app_id: self.app_id, job_id: job, ..node }).collect();
        let ids = self.api.add_workflow_nodes(&specs).await?;
        let mut spec = WorkflowSpec::chain(self.app_id, "flow", &ids);
        spec.edges = edges.iter().map(|(from, to)| Edge { from: ids[*from], to: ids[*to] }).collect();
        spec.max_instances = max;
        Ok(Flow { workflow: self.api.save_workflow(&spec).await?, nodes: ids, job })
    }

    pub(crate) async fn start(&self, flow: &Flow, init: Option<&str>) -> Result<i64, Failure> {
        Ok(self.api.run_workflow(self.app_id, flow.workflow, init, 0).await?)
    }

    pub(crate) async fn wf(&self, run: i64) -> Result<WfInstanceInfo, Failure> {
        Ok(self.api.fetch_wf_instance_info(self.app_id, run).await?)
    }

    pub(crate) async fn until_wf(&self, run: i64, status: WfStatus) -> Result<WfInstanceInfo, Failure> {
        eventually(&format!("workflow status {status:?}"), SOON, async || {
            let info = self.wf(run).await?;
            Ok((info.status() == Some(status)).then_some(info))
        })
        .await
    }

    /// The `n`th dispatch (from 1) of a run, once the server has it written down.
    pub(crate) async fn step(&self, worker: &RawWorker, run: i64, n: usize) -> Result<Received, Failure> {
        let request = eventually(&format!("dispatch {n} of the workflow"), SOON, async || {
            let mut of_run = worker
                .received("/worker/runJob")
                .into_iter()
                .filter(|request| request.body["wfInstanceId"] == json!(run));
            Ok(of_run.nth(n - 1))
        })
        .await?;
        let id = request.body["instanceId"].as_i64().unwrap_or_default();
        self.until(id, InstanceStatus::WaitingWorkerReceive, SOON).await?;
        Ok(request)
    }
}

/// An enabled node; app and job are filled in by [`Context::flow`].
pub(crate) fn node(name: &str) -> NodeSpec {
    NodeSpec::job(0, 0, name, None)
}

/// The instance of a dispatch.
pub(crate) fn id(request: &Received) -> i64 {
    request.body["instanceId"].as_i64().unwrap_or_default()
}

/// Ends a node's instance.
pub(crate) async fn finish(
    worker: &RawWorker,
    request: &Received,
    status: i32,
    result: &str,
    context: Value,
) -> Outcome {
    let mut report = worker.report_body(id(request), status, now());
    report["result"] = json!(result);
    report["appendedWfContext"] = context;
    let answer = worker.send_report(&report).await?;
    same("acknowledged", &answer, &(200, r#"{"success":true}"#.to_owned()))
}
