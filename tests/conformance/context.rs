//! What a case gets: a server, an app of its own, and the ways to talk to both ports.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::{ApiCall, InstanceInfo, InstanceStatus, JobSpec, OpenApi};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::check::{Failure, Outcome, eventually};
use crate::raw_worker::RawWorker;
use crate::target::Target;

type Run = Arc<dyn Fn(Context) -> Pin<Box<dyn Future<Output = Outcome>>> + Send + Sync>;

/// A case by name.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    run: Run,
}

impl Case {
    pub(crate) fn new<F: Future<Output = Outcome> + 'static>(name: &'static str, run: fn(Context) -> F) -> Self {
        Self { name, run: Arc::new(move |context| Box::pin(run(context))) }
    }

    /// This case against one server.
    pub(crate) fn trial(&self, runtime: &Arc<Runtime>, target: &Target) -> Trial {
        let (runtime, target, run, name) = (runtime.clone(), target.clone(), self.run.clone(), self.name);
        Trial::test(format!("{}::{name}", target.name), move || {
            let case = async {
                let context = Context::new(target, name).await?;
                run(context).await
            };
            runtime.block_on(case).map_err(|failure| Failed::from(failure.0))
        })
    }
}

/// A case at work.
pub(crate) struct Context {
    pub(crate) target: Target,
    pub(crate) api: OpenApi,
    pub(crate) app: String,
    pub(crate) app_id: i64,
    pub(crate) transport: String,
    http: reqwest::Client,
}

/// An answer, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) body: String,
}

impl Raw {
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.body).map_err(|error| Failure(format!("{:?} is no JSON: {error}", self.body)))
    }

    /// `message` of the envelope.
    pub(crate) fn message(&self) -> Result<String, Failure> {
        Ok(self.json()?["message"].as_str().unwrap_or_default().to_owned())
    }
}

pub(crate) const PASSWORD: &str = "conformance";

impl Context {
    async fn new(target: Target, case: &str) -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let app = format!("cf-{unique}-{}", case.chars().take(40).collect::<String>().replace([' ', '_'], "-"));
        let api = target.api.clone();
        let app_id = api.ensure_app(&app, PASSWORD).await?;
        let transport = api
            .hello()
            .await?
            .transport
            .ok_or_else(|| Failure("/server/hello names no transport address".to_owned()))?;
        // Keeps nothing alive between requests: what is tested is answers, not connections.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        let context = Self { target, api, app, app_id, transport, http };
        context.own_app().await?;
        Ok(context)
    }

    /// A waiting time of the server's own, as long as it is on this target.
    pub(crate) fn server_time(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.target.scale)
    }

    /// A worker of this app that is listed.
    pub(crate) async fn worker(&self) -> Result<RawWorker, Failure> {
        self.worker_with(|_| {}).await
    }

    /// The same with a changed heartbeat.
    pub(crate) async fn worker_with(&self, change: impl FnOnce(&mut Value)) -> Result<RawWorker, Failure> {
        let worker = RawWorker::start(&self.app, self.app_id, &self.transport).await?;
        worker.change_heartbeat(change);
        worker.keep_alive().await?;
        Ok(worker)
    }

    pub(crate) async fn save(&self, job: JobSpec) -> Result<i64, Failure> {
        Ok(self.api.save_job(&job).await?)
    }

    pub(crate) fn job(&self, name: &str) -> JobSpec {
        JobSpec::api(self.app_id, name, "echo")
    }

    /// A plain API job and one run of it.
    pub(crate) async fn run_plain(&self) -> Result<(i64, i64), Failure> {
        let job = self.save(self.job("plain")).await?;
        Ok((job, self.run(job, None).await?))
    }

    pub(crate) async fn run(&self, job: i64, params: Option<&str>) -> Result<i64, Failure> {
        Ok(self.api.run_job(self.app_id, job, params, 0).await?)
    }

    pub(crate) async fn info(&self, instance: i64) -> Result<InstanceInfo, Failure> {
        Ok(self.api.fetch_instance_info(self.app_id, instance).await?)
    }

    /// Waits until an instance has a status.
    pub(crate) async fn until(
        &self,
        instance: i64,
        status: InstanceStatus,
        limit: Duration,
    ) -> Result<InstanceInfo, Failure> {
        let start = Instant::now();
        let mut last = String::new();
        let found = eventually("", limit, async || {
            let info = self.info(instance).await?;
            last = format!("{info:?}");
            Ok((info.status() == Some(status)).then_some(info))
        });
        let found = found.await;
        found.map_err(|_| Failure(format!("the instance is not {} after {:?}: {last}", status.name(), start.elapsed())))
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Raw, Failure> {
        let request = self.http.get(format!("{}{path}", self.target.url)).query(query);
        Self::raw(request).await
    }

    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Result<Raw, Failure> {
        Self::raw(self.http.post(format!("{}{path}", self.target.url)).form(fields)).await
    }

    pub(crate) async fn json(&self, path: &str, body: &Value) -> Result<Raw, Failure> {
        Self::raw(self.http.post(format!("{}{path}", self.target.url)).json(body)).await
    }

    pub(crate) async fn text(&self, path: &str, body: &str) -> Result<Raw, Failure> {
        let request = self.http.post(format!("{}{path}", self.target.url)).header("content-type", "application/json");
        Self::raw(request.body(body.to_owned())).await
    }

    /// A POST to the transport port.
    pub(crate) async fn tell(&self, path: &str, body: &str) -> Result<Raw, Failure> {
        let request =
            self.http.post(format!("http://{}{path}", self.transport)).header("content-type", "application/json");
        Self::raw(request.body(body.to_owned())).await
    }

    /// A GET to the transport port.
    pub(crate) async fn transport_get(&self, path: &str) -> Result<(Raw, Option<String>), Failure> {
        let response = self.http.get(format!("http://{}{path}", self.transport)).send().await?;
        let allow = response.headers().get("allow").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((Self::read(response).await?, allow))
    }

    /// A worker asks for its server first; until then nobody owns the app, and a real server's loops leave it alone.
    async fn own_app(&self) -> Outcome {
        let call = ApiCall::get("/server/acquire").query("appId", self.app_id).query("protocol", "HTTP");
        let address: String = self.api.call(call).await?;
        if address == self.transport {
            Ok(())
        } else {
            Err(Failure(format!("/server/acquire says {address}, /server/hello {}", self.transport)))
        }
    }

    async fn raw(request: reqwest::RequestBuilder) -> Result<Raw, Failure> {
        Self::read(request.send().await?).await
    }

    async fn read(response: reqwest::Response) -> Result<Raw, Failure> {
        let status = response.status().as_u16();
        let content_type =
            response.headers().get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Raw { status, content_type, body: response.text().await? })
    }
}
