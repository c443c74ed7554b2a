//! One request to an OpenAI-compatible service, and what was seen of its answer and when.

mod answer;
mod stream;
mod unary;

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Response, header};
use serde_json::{Map, Value, json};

use crate::{
    clock::Clock,
    dataset::Item,
    failure::{ErrorClass, Failure, chain, excerpt},
    plan::{LoadPlan, Scenario},
};

pub(crate) use answer::Observation;

/// Time limit for a connection; the rest belongs to the request's own limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a kept connection waits for the next request. Shorter than what services keep it (uvicorn, and with it vLLM: 5 s),
/// or a request now and then would meet a connection that is just being closed, and fail for no fault of the service.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit for the text of an error response, which is only for people.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Characters of an error response that are kept.
const ERROR_EXCERPT: usize = 400;

/// Sends the requests of one plan.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: reqwest::Url,
    api_key: Option<String>,
    headers: Vec<(String, String)>,
    /// The answer is text, not vectors.
    generates: bool,
    /// The answer is asked for as a stream.
    streams: bool,
}

impl Client {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// A text that says which setting cannot be used.
    pub(crate) fn build(plan: &LoadPlan) -> Result<Self, String> {
        // The HTTP client wants one TLS provider for the process. Whoever embeds this crate may have chosen it before.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let url = endpoint(&plan.base_url, plan.scenario.path())?;
        let keeps = plan.keep_alive.unwrap_or_else(|| url.scheme() == "https");
        let http = reqwest::Client::builder()
            // A proxy between generator and service would be measured as the service.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(if keeps { usize::MAX } else { 0 })
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .user_agent(concat!("testrig/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| chain(&error))?;
        let client = Self {
            http,
            url,
            api_key: plan.api_key.clone(),
            headers: plan.headers.clone(),
            generates: plan.scenario.generates(),
            streams: plan.scenario.generates() && plan.streaming,
        };
        // Built once on purpose: a header that cannot be sent is a mistake of the plan, not the failure of a request.
        client.request("check", Bytes::new()).build().map_err(|error| chain(&error))?;
        Ok(client)
    }

    /// Sends one request and reads the answer to its end. `seen` has everything that was seen, also when this future is
    /// dropped on the way.
    pub(crate) async fn exchange(
        &self,
        id: &str,
        body: Bytes,
        clock: &Clock,
        seen: &mut Observation,
    ) -> Result<(), Failure> {
        let request = self.request(id, body);
        seen.sent_us = Some(clock.now_us());
        let response = request.send().await.map_err(|error| send_failure(&error))?;
        seen.first_byte_us = Some(clock.now_us());
        let status = response.status();
        seen.http_status = Some(status.as_u16());
        if !status.is_success() {
            return Err(status_failure(status.as_u16(), response).await);
        }
        if is_stream(&response, self.streams) {
            stream::read(response, clock, seen).await
        } else {
            unary::read(response, self.generates, clock, seen).await
        }
    }

    fn request(&self, id: &str, body: Bytes) -> reqwest::RequestBuilder {
        let mut request = self
            .http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-request-id", id);
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(body)
    }
}

/// The first model that the service of `plan` lists at `/v1/models`.
///
/// # Errors
/// A text that says what was asked and what came.
pub(crate) async fn first_model(plan: &LoadPlan) -> Result<String, String> {
    let client = Client::build(plan)?;
    let url = endpoint(&plan.base_url, "models")?;
    let hint = "give the model's name";
    let mut request = client.http.get(url.clone()).timeout(CONNECT_TIMEOUT);
    if let Some(key) = &plan.api_key {
        request = request.bearer_auth(key);
    }
    let asked = format!("failed to ask {url} for a model");
    let response = request.send().await.map_err(|error| format!("{asked}: {}; {hint}", chain(&error)))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("{asked}: HTTP status {}; {hint}", status.as_u16()));
    }
    let list: Value = response.json().await.map_err(|error| format!("{asked}: {}; {hint}", chain(&error)))?;
    let model = list.pointer("/data/0/id").and_then(Value::as_str);
    model.map(str::to_owned).ok_or_else(|| format!("{asked}: the answer lists none; {hint}"))
}

/// The address that is called: `/v1` is added unless the path ends with it.
fn endpoint(base: &str, call: &str) -> Result<reqwest::Url, String> {
    let mut url = reqwest::Url::parse(base).map_err(|error| format!("`{base}` is no address: {error}"))?;
    let path = url.path().trim_end_matches('/').to_owned();
    let version = if path.ends_with("/v1") { "" } else { "/v1" };
    url.set_path(&format!("{path}{version}/{call}"));
    Ok(url)
}

/// The request body for `item`.
pub(crate) fn body(plan: &LoadPlan, item: &Item) -> Bytes {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(plan.model));
    let (field, input) = match plan.scenario {
        Scenario::ChatCompletion => ("messages", Value::Array(item.input.messages())),
        Scenario::Completion => ("prompt", Value::String(item.input.text())),
        Scenario::Embedding => ("input", Value::String(item.input.text())),
    };
    body.insert(field.to_owned(), input);
    if plan.scenario.generates() {
        if let Some(limit) = item.max_tokens.or(plan.max_tokens) {
            body.insert("max_tokens".to_owned(), json!(limit));
        }
        if let Some(temperature) = plan.temperature {
            body.insert("temperature".to_owned(), json!(temperature));
        }
        body.insert("stream".to_owned(), json!(plan.streaming));
        if plan.streaming {
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
    }
    body.extend(plan.extra.clone());
    serde_json::to_vec(&body).expect("a JSON object is always JSON").into()
}

/// Whether the body is a stream of events: it says so, or it says nothing although one was asked for.
fn is_stream(response: &Response, asked: bool) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "text/event-stream" || (asked && matches!(kind.as_str(), "" | "text/plain"))
}

fn send_failure(error: &reqwest::Error) -> Failure {
    let class = if error.is_connect() { ErrorClass::Connect } else { ErrorClass::Disconnected };
    Failure::new(class, chain(error))
}

async fn status_failure(status: u16, mut response: Response) -> Failure {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(part)) = response.chunk().await {
            body.extend_from_slice(&part);
            if body.len() > ERROR_EXCERPT * 4 {
                break;
            }
        }
    };
    // Half a text is as good as the whole one here.
    let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, read).await;
    let text = excerpt(String::from_utf8_lossy(&body).trim(), ERROR_EXCERPT);
    Failure::new(ErrorClass::of_status(status), format!("HTTP status {status}: {text}"))
}

#[cfg(test)]
mod tests;
