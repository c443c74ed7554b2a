//! What a client sees of the stand-in besides answers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::*;

struct Running {
    url: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
    service: JoinHandle<std::io::Result<Ended>>,
}

impl Running {
    async fn start(options: StubOptions) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shutdown = CancellationToken::new();
        let service = tokio::spawn(serve(listener, options, shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { url, http, shutdown, service }
    }

    async fn get(&self, path: &str) -> u16 {
        self.http.get(format!("{}{path}", self.url)).send().await.expect("answers").status().as_u16()
    }

    async fn chat(&self, body: Value) -> (u16, Value) {
        let url = format!("{}/v1/chat/completions", self.url);
        let response = self.http.post(url).body(body.to_string()).send().await.expect("answers");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    async fn end(self) -> Ended {
        self.shutdown.cancel();
        self.service.await.expect("no panic").expect("the service ran")
    }
}

fn quick() -> StubOptions {
    StubOptions { ttft: Duration::from_millis(1), itl: Duration::ZERO, tokens: 3, ..StubOptions::default() }
}

#[tokio::test]
async fn health_and_models_answer() {
    let stub = Running::start(StubOptions { model: "qwen".to_owned(), ..quick() }).await;
    assert_eq!((stub.get("/health").await, stub.get("/healthz").await), (200, 200));
    let models: Value =
        stub.http.get(format!("{}/v1/models", stub.url)).send().await.expect("answers").json().await.expect("JSON");
    assert_eq!(models["data"][0]["id"], "qwen");
    assert_eq!(stub.end().await, Ended::ShutDown);
}

#[tokio::test]
async fn a_service_that_loads_its_model_is_not_ready_and_then_is() {
    let stub = Running::start(StubOptions { ready_after: Duration::from_millis(400), ..quick() }).await;
    assert_eq!((stub.get("/health").await, stub.get("/v1/models").await), (503, 503));
    while stub.get("/health").await != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stub.end().await;
}

#[tokio::test]
async fn it_ends_by_itself_after_the_given_number_of_answers() {
    let stub = Running::start(StubOptions { exit_after_requests: Some(2), ..quick() }).await;
    let ask = || stub.chat(json!({"model": "m", "messages": [{"role": "user", "content": "a 试验 b"}]}));
    let (status, answer) = ask().await;
    assert_eq!((status, answer["choices"][0]["message"]["content"].as_str()), (200, Some(text(3).as_str())));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}));
    assert_eq!(ask().await.0, 200);
    assert_eq!(stub.service.await.expect("no panic").expect("the service ran"), Ended::RequestsAnswered);
}

#[tokio::test]
async fn bad_requests_and_missing_keys_are_refused_as_a_real_service_does() {
    let stub = Running::start(quick()).await;
    for (body, expected) in [
        (json!({"messages": [{"role": "user", "content": "a"}]}), "`model` is missing"),
        (json!({"model": "m", "messages": []}), "`messages` is missing"),
        (json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 0}), "`max_tokens` is 0"),
    ] {
        let (status, answer) = stub.chat(body).await;
        let message = answer["error"]["message"].as_str().expect("an error object");
        assert!(status == 400 && message.starts_with(expected), "{status} {message}");
    }
    stub.end().await;
    let stub = Running::start(StubOptions { api_key: Some("k".to_owned()), ..quick() }).await;
    assert_eq!((stub.get("/v1/models").await, stub.get("/health").await), (401, 200));
    let with_key = stub.http.get(format!("{}/v1/models", stub.url)).bearer_auth("k").send().await.expect("answers");
    assert_eq!(with_key.status().as_u16(), 200);
    stub.end().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_in_the_truth_as_incomplete() {
    let dir = tempfile::tempdir().expect("a directory");
    let truth = dir.path().join("truth.jsonl");
    let options = StubOptions { itl: Duration::from_millis(20), tokens: 10_000, truth: Some(truth.clone()), ..quick() };
    let stub = Running::start(options).await;
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "a"}]});
    let request = stub
        .http
        .post(format!("{}/v1/chat/completions", stub.url))
        .header("x-request-id", "left")
        .body(body.to_string());
    let mut response = request.send().await.expect("answers");
    response.chunk().await.expect("a chunk");
    drop(response);
    let line = loop {
        let text = std::fs::read_to_string(&truth).expect("is there");
        if text.ends_with('\n') {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let truth: Truth = serde_json::from_str(&line).expect("a truth");
    assert_eq!((truth.request_id.as_deref(), truth.complete, truth.fault), (Some("left"), false, None));
    assert!(truth.tokens < 10_000 && truth.events == truth.token_us.len() as u64);
    stub.end().await;
}

#[tokio::test]
async fn a_shutdown_breaks_off_what_is_on_its_way() {
    let stub = Running::start(StubOptions { ttft: Duration::from_secs(3600), ..quick() }).await;
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "a"}]});
    let request = stub.http.post(format!("{}/v1/chat/completions", stub.url)).body(body.to_string());
    let response = request.send().await.expect("the head comes at once");
    stub.shutdown.cancel();
    assert!(response.bytes().await.is_err(), "the body is broken off, not ended");
    assert_eq!(stub.service.await.expect("no panic").expect("the service ran"), Ended::ShutDown);
}
