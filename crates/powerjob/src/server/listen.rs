//! The listening socket and its connections.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::Peers;
use crate::worker::Counters;

/// The server keeps idle connections for 75 s and would lose a dispatch on one that we closed earlier;
/// hyper counts the wait for the next request as part of reading its head, so this bounds both.
const IDLE: Duration = Duration::from_secs(300);
/// How long a stranger may take to say something before the answer 403.
const STRANGER: Duration = Duration::from_secs(5);
/// Connections at once from peers, and from strangers; more are closed unread.
const CONNECTIONS: usize = 512;
const STRANGERS: usize = 32;
/// How long a request under way may take to its end when the worker ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// A refused peer is worth a line in the agent's log this often; all are counted.
const REFUSAL_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Why the port could not be had.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {why}")]
pub(crate) struct BindError {
    pub(crate) address: SocketAddrV4,
    why: String,
}

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    port: u16,
}

impl Listener {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Binds the worker's port.
pub(crate) async fn bind(address: SocketAddrV4) -> Result<Listener, BindError> {
    let explain = |e: io::Error| {
        let port = address.port();
        let why = match e.kind() {
            io::ErrorKind::AddrInUse => format!(
                "port {port} is in use by another program (`ss -ltnp 'sport = :{port}'` shows which); stop it or choose \
                 another port with `-p` or `listen`"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "this user may not bind port {port}; choose one above 1023 with `-p` or `listen`, or give the program \
                 CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "this host has no address {}; `ip -4 addr` shows its addresses, and 0.0.0.0 listens on all of them",
                address.ip()
            ),
            _ => e.to_string(),
        };
        BindError { address, why }
    };
    let socket = TcpListener::bind(address).await.map_err(explain)?;
    let port = socket.local_addr().map_err(explain)?.port();
    Ok(Listener { socket, port })
}

/// Everything that the connections share.
pub(crate) struct Served {
    routes: Router,
    peers: Arc<Peers>,
    counters: Arc<Counters>,
    refusal_told: Mutex<Option<Instant>>,
}

impl Served {
    pub(crate) fn new(routes: Router, peers: Arc<Peers>, counters: Arc<Counters>) -> Self {
        Self { routes, peers, counters, refusal_told: Mutex::new(None) }
    }

    /// Counts a refusal and says so, but not for each: a stranger must not fill the agent's log.
    fn refused(&self, from: IpAddr, why: &str) {
        self.counters.refused_peers.one();
        let mut told = self.refusal_told.lock();
        if told.is_none_or(|at| at.elapsed() >= REFUSAL_TOLD_EVERY) {
            *told = Some(Instant::now());
            let so_far = self.counters.refused_peers.get();
            tracing::warn!(peer = %from, so_far, "refused a caller: {why}; the next minute's are only counted");
        }
    }
}

impl Listener {
    /// Serves until the token is cancelled; then no connection is accepted, requests under way are answered.
    pub(crate) async fn serve(self, served: Served, stop: CancellationToken) {
        let served = Arc::new(served);
        let connections = TaskTracker::new();
        let (peers, strangers) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(STRANGERS)));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to come back.
                    tracing::warn!(%error, "failed to accept a connection from a server; trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            let known = served.peers.allows(from.ip());
            let places = if known { &peers } else { &strangers };
            let Ok(place) = places.clone().try_acquire_owned() else {
                served.refused(from.ip(), "too many connections at once");
                continue;
            };
            let (served, stop) = (served.clone(), stop.clone());
            connections.spawn(async move {
                connection(stream, from, known, &served, &stop).await;
                drop(place);
            });
        }
        drop(self.socket);
        connections.close();
        connections.wait().await;
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, known: bool, served: &Served, stop: &CancellationToken) {
    // Best effort: an answer that waits for more to say is only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| answer(request, from.ip(), served));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).keep_alive(known).header_read_timeout(if known { IDLE } else { STRANGER });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %from, %error, "connection ended");
    }
}

/// Asked for every request, because the owner may change while a connection lives.
async fn answer(request: Request<Incoming>, from: IpAddr, served: &Served) -> Result<Response<Body>, Infallible> {
    if !served.peers.allows(from) {
        served.refused(from, "it is not a server of this worker; `extra_peers` lets others in");
        let text = "this worker answers only to its PowerJob servers\n";
        let mut refusal = Response::new(Body::from(text));
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        return Ok(refusal);
    }
    served.routes.clone().oneshot(request.map(Body::new)).await
}
