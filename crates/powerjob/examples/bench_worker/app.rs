//! One app on the server, its jobs and what became of them.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use powerjob_worker::openapi::{InstanceInfo, InstanceStatus, JobSpec, OpenApi};
use serde_json::json;

use crate::Failure;

/// Calls to the server at once.
const AT_ONCE: usize = 32;

/// An app of the benchmark's own.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) api: OpenApi,
    pub(crate) name: String,
    pub(crate) id: i64,
}

impl App {
    /// A new app.
    pub(crate) async fn new(server: &str, prefix: &str) -> Result<Self, Failure> {
        let api = OpenApi::new(&[server])?;
        let since = std::time::UNIX_EPOCH.elapsed()?;
        let name = format!("bench-{prefix}-{}", since.as_millis());
        let id = api.ensure_app(&name, "bench-pass").await?;
        Ok(Self { api, name, id })
    }

    /// Saves an API job.
    pub(crate) async fn job(&self, execute_type: &str, processor: &str, params: &str) -> Result<i64, Failure> {
        let job = JobSpec {
            execute_type: execute_type.to_owned(),
            job_params: Some(params.to_owned()),
            ..JobSpec::api(self.id, processor, processor)
        };
        // 0 = as many instances of the job at once as are asked for.
        let job = job.with("maxInstanceNum", 0).with("logConfig", json!({"type": 1, "level": 2}));
        Ok(self.api.save_job(&job).await?)
    }

    /// Runs a job so many times; the instances.
    pub(crate) async fn run(&self, job: i64, times: usize) -> Result<Vec<i64>, Failure> {
        let runs = stream::iter(0..times).map(|_| self.api.run_job(self.id, job, None, 0));
        Ok(runs.buffer_unordered(AT_ONCE).try_collect().await?)
    }

    /// Waits until each of these has ended, or the limit is over; what the server then says of each.
    pub(crate) async fn ended(&self, instances: &[i64], limit: Duration) -> Result<Vec<InstanceInfo>, Failure> {
        let began = Instant::now();
        let mut open = instances.to_vec();
        let mut done = Vec::with_capacity(instances.len());
        loop {
            let asked = stream::iter(open).map(|id| self.api.fetch_instance_info(self.id, id));
            let infos: Vec<InstanceInfo> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
            let is_done = |info: &InstanceInfo| info.status().is_some_and(InstanceStatus::is_final);
            let (ended, rest): (Vec<_>, Vec<_>) = infos.into_iter().partition(is_done);
            done.extend(ended);
            if rest.is_empty() || began.elapsed() > limit {
                done.extend(rest);
                return Ok(done);
            }
            open = rest.iter().map(|info| info.instance_id).collect();
            tokio::time::sleep(Duration::from_millis(if open.len() > 100 { 500 } else { 50 })).await;
        }
    }

    /// Runs a job so many times to the end; fails unless all succeed.
    pub(crate) async fn succeed(&self, job: i64, times: usize, limit: Duration) -> Result<Vec<InstanceInfo>, Failure> {
        let infos = self.ended(&self.run(job, times).await?, limit).await?;
        match infos.iter().find(|info| info.status() != Some(InstanceStatus::Succeed)) {
            Some(info) => bail!("an instance has not succeeded: {info:?}"),
            None => Ok(infos),
        }
    }

    /// From the call of runJob until the server says RUNNING.
    pub(crate) async fn time_to_running(&self, job: i64) -> Result<Duration, Failure> {
        let began = Instant::now();
        let id = self.api.run_job(self.id, job, None, 0).await?;
        loop {
            let status = self.api.fetch_instance_status(self.id, id).await?;
            if status == InstanceStatus::Running {
                return Ok(began.elapsed());
            }
            if status.is_final() || began.elapsed() > Duration::from_secs(60) {
                bail!("instance {id} was never seen RUNNING, but {}", status.name());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many log lines the server has of an instance.
    pub(crate) async fn log_lines(&self, instance: i64) -> Result<u64, Failure> {
        const LINES_A_PAGE: u64 = 100;
        // The server writes its file of hundreds of thousands of lines before it answers.
        let api = self.api.with_timeout(Duration::from_secs(120))?;
        let first = api.log_page(self.id, instance, 0).await?;
        let pages = u64::try_from(first.total_pages)?;
        let Some(before) = pages.checked_sub(1) else { return Ok(0) };
        let last = api.log_page(self.id, instance, i64::try_from(before)?).await?;
        Ok(before * LINES_A_PAGE + last.data.lines().count() as u64)
    }
}

/// How long an instance took, by the server's own times.
pub(crate) fn duration(info: &InstanceInfo) -> Result<Duration, Failure> {
    let (begin, end) = (info.actual_trigger_time, info.finished_time);
    let ms = end.zip(begin).map(|(end, begin)| end - begin).context("the instance has not ended")?;
    Ok(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}
