//! The admin port: health, metrics, status and the log WebSocket. Everything for people and their programs; the job
//! protocol has its own port.

mod control;
mod hosts;
mod metrics;
mod ws_log;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    Json, Router,
    extract::{Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use powerjob_worker::WorkerHandle;
use serde_json::json;
use testrig_host::process::Boundaries;
use testrig_joblog::Journals;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the routes look at.
pub(crate) struct AdminState {
    journals: Journals,
    workers: Arc<Vec<WorkerHandle>>,
    token: Option<String>,
    hosts: hosts::Hosts,
    boundaries: Boundaries,
    shutdown: CancellationToken,
    started: Instant,
    subscribers: AtomicU64,
    lines_sent: AtomicU64,
}

impl AdminState {
    /// State over these journals and workers; `token` is asked of every caller if there is one, else the request must be
    /// addressed to this host: `bound`, what the lanes advertise, or one of `names`.
    pub(crate) fn new(
        journals: Journals,
        workers: Arc<Vec<WorkerHandle>>,
        token: Option<String>,
        (bound, names): (SocketAddr, &[String]),
        shutdown: CancellationToken,
    ) -> Self {
        let started = Instant::now();
        let hosts = hosts::Hosts::new(bound, workers.iter().map(WorkerHandle::address), names);
        Self {
            journals,
            workers,
            token,
            hosts,
            boundaries: Boundaries::default(),
            shutdown,
            started,
            subscribers: AtomicU64::new(0),
            lines_sent: AtomicU64::new(0),
        }
    }

    /// The same of an agent that has chosen what holds host processes together.
    pub(crate) fn with_boundaries(self, boundaries: Boundaries) -> Self {
        Self { boundaries, ..self }
    }

    /// Why an app id is none of this agent's, once the agent knows its own.
    fn foreign_app(&self, app_id: i64) -> Option<String> {
        let known: Vec<i64> = self.workers.iter().filter_map(|w| w.status().owner.map(|o| o.app_id)).collect();
        (!known.is_empty() && !known.contains(&app_id))
            .then(|| format!("`appId` is {app_id}, but this agent works for app {}", known[0]))
    }

    fn count_subscriber(&self) -> impl Drop + '_ {
        struct Counted<'a>(&'a AtomicU64);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.subscribers.fetch_add(1, Ordering::Relaxed);
        Counted(&self.subscribers)
    }

    /// Open log WebSockets.
    pub(crate) fn subscribers(&self) -> u64 {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// Lines sent over all of them.
    #[cfg(test)]
    pub(crate) fn lines_sent(&self) -> u64 {
        self.lines_sent.load(Ordering::Relaxed)
    }

    fn count_line(&self) {
        self.lines_sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// The port could not be had.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on admin address `{address}`: {reason}")]
pub(crate) struct BindError {
    address: String,
    reason: String,
}

/// Binds the admin port.
pub(crate) async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), BindError> {
    let error = |e: std::io::Error| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another program has it (`ss -ltnp` shows which): stop that, or choose another with --admin"
                    .to_owned()
            }
            _ => String::new(),
        };
        BindError { address: address.to_owned(), reason: format!("{e}{hint}") }
    };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    Ok((listener, bound))
}

/// Serves until `state.shutdown`.
pub(crate) async fn serve(listener: TcpListener, state: Arc<AdminState>) -> std::io::Result<()> {
    let shutdown = state.shutdown.clone();
    axum::serve(listener, router(state)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(state: Arc<AdminState>) -> Router {
    let guarded = Router::new()
        .route("/ws/log", get(ws_log::handler))
        .route("/metrics", get(metrics::handler))
        .route("/api/status", get(status))
        .route("/api/drain", post(control::drain))
        .route("/api/resume", post(control::resume))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), check_token));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .fallback(|| async {
            problem(
                StatusCode::NOT_FOUND,
                "no such page; there are /healthz, /readyz, /metrics, /api/status, /api/drain, /api/resume (POST) and /ws/log",
            )
        })
        .with_state(state)
}

async fn check_token(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    let Some(token) = &state.token else {
        return match state.hosts.check(request.headers(), request.uri()) {
            Ok(()) => next.run(request).await,
            Err(text) => problem(StatusCode::FORBIDDEN, &text),
        };
    };
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    // A browser's WebSocket cannot set headers.
    let query = request.uri().query().unwrap_or_default();
    let in_query =
        url::form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == "token").map(|(_, v)| v.into_owned());
    let given = bearer.map(str::to_owned).or(in_query);
    match given {
        Some(given) if same(given.as_bytes(), token.as_bytes()) => next.run(request).await,
        Some(_) => problem(StatusCode::UNAUTHORIZED, "the token is not the one in `admin.token_file`"),
        None => {
            problem(StatusCode::UNAUTHORIZED, "a token is needed: header `Authorization: Bearer ..` or `?token=..`")
        }
    }
}

/// Compares in a time that does not depend on where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[derive(serde::Deserialize)]
struct StatusQuery {
    ask: Option<String>,
}

async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    let lanes: Vec<_> = state.workers.iter().map(WorkerHandle::status).collect();
    let ready = !lanes.is_empty() && lanes.iter().all(|l| l.listed);
    let why: Vec<_> = lanes
        .iter()
        .map(|l| {
            let reason = (!l.listed).then(|| {
                serde_json::to_value(l).map_or_else(|e| e.to_string(), |lane| crate::client::why_not_listed(&lane))
            });
            json!({ "lane": l.lane, "listed": l.listed, "reason": reason })
        })
        .collect();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": ready, "lanes": why }))).into_response()
}

/// `?ask=server` makes every lane ask its server what that says of it, which takes a few requests.
async fn status(State(state): State<Arc<AdminState>>, Query(query): Query<StatusQuery>) -> Response {
    let mut lanes: Vec<_> =
        state.workers.iter().map(|worker| serde_json::to_value(worker.status()).unwrap_or_default()).collect();
    if query.ask.as_deref() == Some("server") {
        let listings = futures_util::future::join_all(state.workers.iter().map(WorkerHandle::listing)).await;
        for (lane, listing) in lanes.iter_mut().zip(listings) {
            lane["listing"] = serde_json::to_value(listing).unwrap_or_default();
        }
    }
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptimeSeconds": state.started.elapsed().as_secs(),
        "processes": {
            "boundary": state.boundaries.kind(),
            "words": state.boundaries.words(),
            "why": state.boundaries.why(),
        },
        "lanes": lanes,
    }))
    .into_response()
}

/// An error as JSON, the same shape everywhere on this port.
fn problem(code: StatusCode, text: &str) -> Response {
    (code, Json(json!({ "error": text }))).into_response()
}
