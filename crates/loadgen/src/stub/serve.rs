//! The HTTP side of the stand-in.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Request as HttpRequest, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Api, Request},
    options::StubOptions,
    script::{self, Ending, Script},
    socket::{ResetSwitch, Sockets},
    truth::{self, OpenTruth, TruthLog},
};

/// How long connections get to close after the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest request.
const REQUEST_LIMIT: usize = 64 << 20;

/// Why the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    ShutDown,
    /// It has answered as many requests as it should.
    RequestsAnswered,
}

/// Serves on `listener` until `shutdown` is cancelled or the options say that it is enough. Answers that are on their way are
/// then broken off.
///
/// # Errors
/// When the truth file cannot be opened or the listener fails.
pub async fn serve(listener: TcpListener, options: StubOptions, shutdown: CancellationToken) -> io::Result<Ended> {
    let service = Arc::new(Service {
        truths: TruthLog::open(options.truth.as_deref())?,
        ready_at: Instant::now() + options.ready_after,
        requests: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        stop: shutdown.child_token(),
        options,
    });
    let open = Router::new().route("/health", get(health)).route("/healthz", get(health));
    let guarded = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/embeddings", post(embedding))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&service), check_key));
    let router = open
        .merge(guarded)
        .layer(middleware::from_fn_with_state(Arc::clone(&service), check_ready))
        .layer(DefaultBodyLimit::max(REQUEST_LIMIT))
        .with_state(Arc::clone(&service));
    let stop = service.stop.clone();
    let stopped = stop.clone().cancelled_owned();
    let app = router.into_make_service_with_connect_info::<ResetSwitch>();
    let serving = axum::serve(Sockets(listener), app).with_graceful_shutdown(stopped).into_future();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    tokio::select! {
        result = serving => result?,
        () = overdue => {}
    }
    Ok(if shutdown.is_cancelled() { Ended::ShutDown } else { Ended::RequestsAnswered })
}

#[derive(Debug)]
struct Service {
    options: StubOptions,
    truths: TruthLog,
    ready_at: Instant,
    requests: AtomicU64,
    answered: AtomicU64,
    stop: CancellationToken,
}

async fn check_ready(State(service): State<Arc<Service>>, request: HttpRequest, next: Next) -> Response {
    if Instant::now() < service.ready_at {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "the model is being loaded");
    }
    next.run(request).await
}

async fn check_key(State(service): State<Arc<Service>>, request: HttpRequest, next: Next) -> Response {
    if let Some(key) = &service.options.api_key {
        let given =
            request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if given != Some(key) {
            return problem(StatusCode::UNAUTHORIZED, "the API key is missing or wrong");
        }
    }
    next.run(request).await
}

async fn health() -> Response {
    json_response(StatusCode::OK, &json!({"status": "ok"}))
}

async fn models(State(service): State<Arc<Service>>) -> Response {
    let model = json!({"id": service.options.model, "object": "model", "created": 0, "owned_by": "testrig"});
    json_response(StatusCode::OK, &json!({"object": "list", "data": [model]}))
}

type Call = (State<Arc<Service>>, ConnectInfo<ResetSwitch>, Uri, HeaderMap);

async fn chat(call: Call, body: Bytes) -> Response {
    answer(Api::Chat, call, &body).await
}

async fn completion(call: Call, body: Bytes) -> Response {
    answer(Api::Completion, call, &body).await
}

async fn embedding(call: Call, body: Bytes) -> Response {
    answer(Api::Embedding, call, &body).await
}

async fn answer(api: Api, (State(service), ConnectInfo(connection), uri, headers): Call, body: &[u8]) -> Response {
    let received = Instant::now();
    let n = service.requests.fetch_add(1, Ordering::Relaxed);
    let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let mut truth = service.truths.begin(n, uri.path(), request_id);
    truth.ended = Some(when_answered(&service));
    let request = match Request::parse(api, body) {
        Ok(request) => request,
        Err(message) => {
            truth.truth.status = Some(400);
            truth.truth.complete = true;
            return problem(StatusCode::BAD_REQUEST, &message);
        }
    };
    let fault = service.options.faults.choose(service.options.seed, n);
    truth.truth.stream = request.stream;
    truth.truth.prompt_tokens = request.prompt_tokens();
    truth.truth.fault = fault;
    let script = script::write(&format!("stub-{n}"), &request, &service.options, fault);
    if script.ending == Ending::Reset {
        connection.pull();
        truth.truth.complete = true;
        return StatusCode::OK.into_response();
    }
    play(script, received, truth, service.stop.clone()).await
}

/// Counts the request as answered, and ends the service if that was the last one.
fn when_answered(service: &Arc<Service>) -> truth::Ended {
    let service = Arc::clone(service);
    truth::Ended(Box::new(move || {
        let answered = service.answered.fetch_add(1, Ordering::Relaxed) + 1;
        if service.options.exit_after_requests.is_some_and(|limit| answered >= limit) {
            service.stop.cancel();
        }
    }))
}

/// Sends `script` piece by piece at its times.
async fn play(script: Script, received: Instant, mut truth: OpenTruth, stop: CancellationToken) -> Response {
    let status = StatusCode::from_u16(script.status).expect("scripts have valid statuses");
    let kind = if script.event_stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    if !script.event_stream
        && let Some(first) = script.pieces.first()
    {
        // A service that does not stream has nothing to say before its answer, not even the head.
        tokio::select! {
            () = tokio::time::sleep_until(received + first.at) => {}
            () = stop.cancelled() => return problem(StatusCode::SERVICE_UNAVAILABLE, "the service is shutting down"),
        }
    }
    truth.truth.status = Some(script.status);
    truth.truth.first_byte_us = Some(truth.now_us());
    let ending = script.ending;
    let start = (script.pieces.into_iter(), Some(truth), stop);
    let body = stream::unfold(start, move |(mut pieces, mut truth, stop)| async move {
        let open = truth.as_mut()?;
        let result = match (pieces.next(), ending) {
            (Some(piece), _) => {
                tokio::select! {
                    () = tokio::time::sleep_until(received + piece.at) => {
                        if piece.tokens > 0 {
                            open.token_event(piece.tokens);
                        }
                        Ok(Bytes::from(piece.text))
                    }
                    () = stop.cancelled() => Err(broken_off()),
                }
            }
            (None, Ending::Clean) => {
                open.truth.complete = true;
                return None;
            }
            (None, Ending::Abort | Ending::Reset) => {
                open.truth.complete = true;
                // The server writes out what it holds when the body has nothing for it, and drops it on an error.
                tokio::task::yield_now().await;
                Err(broken_off())
            }
            (None, Ending::Stall) => {
                stop.cancelled().await;
                Err(broken_off())
            }
        };
        // Dropping the truth writes it, and ends the stream behind an error.
        let truth = truth.filter(|_| result.is_ok());
        Some((result, (pieces, truth, stop)))
    });
    (status, [(header::CONTENT_TYPE, kind)], Body::from_stream(body)).into_response()
}

fn broken_off() -> io::Error {
    io::Error::other("the answer is broken off")
}

fn problem(status: StatusCode, message: &str) -> Response {
    json_response(status, &script::error(status.as_u16(), message))
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
