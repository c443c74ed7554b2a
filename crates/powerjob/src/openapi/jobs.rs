//! Jobs and the app they belong to.

use serde_json::Value;

use super::client::{ApiCall, OpenApi};
use super::error::OpenApiError;
use super::types::{Job, JobSpec};

impl OpenApi {
    /// The id of an app, proved by its password (`/openApi/assert`).
    ///
    /// # Errors
    /// Unknown app or wrong password: [`OpenApiError::Refused`].
    pub async fn assert(&self, app: &str, password: &str) -> Result<i64, OpenApiError> {
        self.call(ApiCall::form("/openApi/assert", &[("appName", app), ("password", password)])).await
    }

    /// Saves a job, new (`id` None) or changed, and gives its id.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn save_job(&self, job: &JobSpec) -> Result<i64, OpenApiError> {
        let body = serde_json::to_value(job)
            .map_err(|error| OpenApiError::Config(format!("job cannot be written as JSON: {error}")))?;
        let call = ApiCall::json("/openApi/saveJob", body);
        self.call(if job.id.is_none() { call.once() } else { call }).await
    }

    /// A job of an app.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn fetch_job(&self, app_id: i64, job_id: i64) -> Result<Job, OpenApiError> {
        self.call(ApiCall::form("/openApi/fetchJob", &[("jobId", job_id), ("appId", app_id)])).await
    }

    /// All jobs of an app, deleted ones included.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn fetch_all_jobs(&self, app_id: i64) -> Result<Vec<Job>, OpenApiError> {
        self.call(ApiCall::form("/openApi/fetchAllJob", &[("appId", app_id)])).await
    }

    /// Stops a job's schedule. Runs through the API go on working.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn disable_job(&self, app_id: i64, job_id: i64) -> Result<(), OpenApiError> {
        self.job_switch("/openApi/disableJob", app_id, job_id).await
    }

    /// Starts a job's schedule.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn enable_job(&self, app_id: i64, job_id: i64) -> Result<(), OpenApiError> {
        self.job_switch("/openApi/enableJob", app_id, job_id).await
    }

    /// Deletes a job softly (status 99).
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn delete_job(&self, app_id: i64, job_id: i64) -> Result<(), OpenApiError> {
        self.job_switch("/openApi/deleteJob", app_id, job_id).await
    }

    /// Runs a job now (`delay_ms` 0) or later and gives the instance id.
    ///
    /// # Errors
    /// As [`OpenApi::call`]; [`OpenApiError::Unanswered`] means that it may be running.
    pub async fn run_job(
        &self,
        app_id: i64,
        job_id: i64,
        params: Option<&str>,
        delay_ms: u64,
    ) -> Result<i64, OpenApiError> {
        let call = ApiCall::form("/openApi/runJob", &[("appId", app_id), ("jobId", job_id)])
            .field("instanceParams", params)
            .field("delay", (delay_ms > 0).then_some(delay_ms))
            .once();
        self.call(call).await
    }

    async fn job_switch(&self, path: &str, app_id: i64, job_id: i64) -> Result<(), OpenApiError> {
        self.call::<Value>(ApiCall::form(path, &[("jobId", job_id), ("appId", app_id)])).await.map(drop)
    }
}
