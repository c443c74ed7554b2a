//! The server as a platform uses it: an app of the test's own, jobs, runs, logs.

use std::time::Duration;

use libtest_mimic::Failed;
use powerjob_worker::openapi::{
    InstanceInfo, InstanceStatus, JobSpec, NodeSpec, OpenApi, WfInstanceInfo, WorkflowSpec,
};
use serde_json::Value;

use super::{Parts, eventually, parts::unique, wait::eventually_within};

/// One app on the tests' server.
#[derive(Clone)]
pub(crate) struct App {
    /// OpenAPI and console.
    pub(crate) api: OpenApi,
    /// Name.
    pub(crate) name: String,
    /// Id.
    pub(crate) id: i64,
}

impl App {
    /// A new app.
    pub(crate) async fn new(prefix: &str) -> Result<Self, Failed> {
        let api = OpenApi::new(&[Parts::get().server()])?;
        let name = format!("{prefix}-{}", unique());
        let id = api.ensure_app(&name, "it-pass").await?;
        Ok(Self { api, name, id })
    }

    /// Saves an API job and gives its id; `more` may set any field of saveJob.
    pub(crate) async fn job(&self, processor: &str, params: &Value, more: &[(&str, Value)]) -> Result<i64, Failed> {
        let text = if params.is_null() {
            None
        } else {
            Some(params.as_str().map_or_else(|| params.to_string(), str::to_owned))
        };
        let mut job =
            JobSpec { job_params: text, ..JobSpec::api(self.id, &format!("{processor}-{}", unique()), processor) };
        for (name, value) in more {
            job = job.with(name, value.clone());
        }
        Ok(self.api.save_job(&job).await?)
    }

    /// Runs a job; gives the instance id.
    pub(crate) async fn run(&self, job: i64, params: &Value) -> Result<i64, Failed> {
        let text = if params.is_null() { None } else { Some(params.to_string()) };
        Ok(self.api.run_job(self.id, job, text.as_deref(), 0).await?)
    }

    /// What the server says of an instance.
    pub(crate) async fn info(&self, instance: i64) -> Result<InstanceInfo, Failed> {
        Ok(self.api.fetch_instance_info(self.id, instance).await?)
    }

    /// Waits until the server has a final status for the instance.
    pub(crate) async fn ended(&self, instance: i64) -> Result<InstanceInfo, Failed> {
        self.ended_within(Duration::from_secs(150), instance).await
    }

    /// The same with a limit of its own.
    pub(crate) async fn ended_within(&self, limit: Duration, instance: i64) -> Result<InstanceInfo, Failed> {
        eventually_within(limit, "the instance ends", || async move {
            let info = self.api.fetch_instance_info(self.id, instance).await.map_err(|e| e.to_string())?;
            if info.status().is_some_and(InstanceStatus::is_final) { Ok(info) } else { Err(format!("{info:?}")) }
        })
        .await
    }

    /// Waits for a status.
    pub(crate) async fn reaches(&self, instance: i64, status: InstanceStatus) -> Result<InstanceInfo, Failed> {
        eventually(&format!("the instance is {}", status.name()), || async move {
            let info = self.api.fetch_instance_info(self.id, instance).await.map_err(|e| e.to_string())?;
            if info.status() == Some(status) { Ok(info) } else { Err(format!("{info:?}")) }
        })
        .await
    }

    /// The instance's log text at the server, without time stamp, address and level: one entry a line. Waits until `count` are there.
    pub(crate) async fn server_log(&self, instance: i64, count: usize) -> Result<Vec<String>, Failed> {
        // The server rebuilds its file every 10 s at most.
        eventually_within(Duration::from_secs(60), "the server shows the log", || async move {
            let text = self.api.whole_log(self.id, instance).await.map_err(|e| e.to_string())?;
            let lines: Vec<String> = text.split_terminator('\n').map(strip_prefix).collect();
            if lines.len() >= count { Ok(lines) } else { Err(format!("{} of {count} lines", lines.len())) }
        })
        .await
    }

    /// Saves a chain of jobs (processor, parameters, skipWhenFailed) as a workflow; gives its id.
    pub(crate) async fn chain(&self, jobs: &[(&str, Value, bool)]) -> Result<i64, Failed> {
        let mut nodes = Vec::new();
        for (i, (processor, params, skip)) in jobs.iter().enumerate() {
            let job = self.job(processor, params, &[]).await?;
            nodes.push(NodeSpec { skip_when_failed: *skip, ..NodeSpec::job(self.id, job, &format!("n{i}"), None) });
        }
        let ids = self.api.add_workflow_nodes(&nodes).await?;
        Ok(self.api.save_workflow(&WorkflowSpec::chain(self.id, &format!("wf-{}", unique()), &ids)).await?)
    }

    /// Runs a workflow to its end.
    pub(crate) async fn run_workflow(&self, workflow: i64, init: &Value) -> Result<WfInstanceInfo, Failed> {
        let run = self.api.run_workflow(self.id, workflow, Some(&init.to_string()), 0).await?;
        eventually_within(Duration::from_secs(240), "the workflow ends", || async move {
            let info = self.api.fetch_wf_instance_info(self.id, run).await.map_err(|e| e.to_string())?;
            if info.status().is_some_and(|s| s.is_final()) { Ok(info) } else { Err(format!("{info:?}")) }
        })
        .await
    }
}

/// `2026-11-21 07:03:59.991 [127.0.0.1:27761] INFO text` -> `text`.
fn strip_prefix(line: &str) -> String {
    let behind = line.split_once("] ").map_or(line, |(_, rest)| rest);
    behind.split_once(' ').map_or_else(String::new, |(_, text)| text.to_owned())
}
