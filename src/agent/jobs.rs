//! Starting jobs of the agent's own app through the server's OpenAPI.

use async_trait::async_trait;
use powerjob_worker::openapi::{OpenApi, OpenApiError};
use testrig_processors::{NotStarted, StartJobs};
use tokio::sync::OnceCell;

use crate::config::Config;

/// A job that was deleted is still listed.
const DELETED: i32 = 99;

/// The servers of the configuration.
#[derive(Debug)]
pub(super) struct ServerJobs {
    api: OpenApi,
    app: String,
    app_id: OnceCell<i64>,
}

impl ServerJobs {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let mut api = OpenApi::new(&config.powerjob.servers)?;
        if let Some(file) = &config.powerjob.app_password_file {
            let password = crate::client::read_token(file).map_err(anyhow::Error::msg)?;
            api = api.with_app_token(&config.powerjob.app, &password)?;
        }
        Ok(Self { api, app: config.powerjob.app.clone(), app_id: OnceCell::new() })
    }

    /// An id as it stands, or that of the only job of this name.
    async fn job_id(&self, app_id: i64, job: &str) -> Result<i64, NotStarted> {
        if let Ok(id) = job.parse() {
            return Ok(id);
        }
        let jobs = self.api.fetch_all_jobs(app_id).await.map_err(|error| before_the_start(&error))?;
        let named: Vec<i64> = jobs
            .iter()
            .filter(|known| known.job_name == job && known.status != Some(DELETED))
            .map(|known| known.id)
            .collect();
        match named.as_slice() {
            [id] => Ok(*id),
            [] => Err(NotStarted::Refused(format!("the app `{}` has no job named `{job}`", self.app))),
            several => Err(NotStarted::Refused(format!(
                "the app `{}` has {} jobs named `{job}`; name one by its id: {}",
                self.app,
                several.len(),
                several.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
            ))),
        }
    }
}

#[async_trait]
impl StartJobs for ServerJobs {
    async fn start(&self, job: &str, params: &str) -> Result<i64, NotStarted> {
        let asked = self.app_id.get_or_try_init(|| self.api.app_id(&self.app)).await;
        let app_id = *asked.map_err(|error| before_the_start(&error))?;
        let job_id = self.job_id(app_id, job).await?;
        self.api.run_job(app_id, job_id, Some(params), 0).await.map_err(|error| match error {
            OpenApiError::Unanswered { .. } => NotStarted::Unknown(error.to_string()),
            other => before_the_start(&other),
        })
    }
}

/// An error that means for certain that nothing was started.
fn before_the_start(error: &OpenApiError) -> NotStarted {
    if error.is_no_server() { NotStarted::NoServer(error.to_string()) } else { NotStarted::Refused(error.to_string()) }
}
