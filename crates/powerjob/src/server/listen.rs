//! The listening socket and its connections.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{Engaged, Peers, gate};
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
/// What a server writes to see whether it reaches a worker, and the answer that it wants.
const PING: &[u8; 4] = b"ping";
const PONG: &[u8] = b"pong\n";
/// Connections that are kept while the address is being chosen.
const EARLY: usize = 64;
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
    /// Connections that came before [`Listener::serve`] and are more than a ping.
    early: Vec<(TcpStream, SocketAddr)>,
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
    Ok(Listener { socket, port, early: Vec::new() })
}

/// The job of an open instance.
pub(crate) type JobOf = Arc<dyn Fn(i64) -> Option<i64> + Send + Sync>;

/// Everything that the connections share.
pub(crate) struct Served {
    routes: Router,
    peers: Arc<Peers>,
    jobs: JobOf,
    engaged: Option<Arc<dyn Engaged>>,
    counters: Arc<Counters>,
    refusal_told: Mutex<Option<Instant>>,
}

impl Served {
    /// `jobs` tells the job of an instance, by which an unknown worker is looked up at the server.
    pub(crate) fn new(routes: Router, peers: Arc<Peers>, jobs: JobOf, counters: Arc<Counters>) -> Self {
        Self { routes, peers, jobs, engaged: None, counters, refusal_told: Mutex::new(None) }
    }

    /// Lets trackers in with more tasks of instances that this one has tasks of.
    pub(crate) fn with_engaged(self, engaged: Arc<dyn Engaged>) -> Self {
        Self { engaged: Some(engaged), ..self }
    }

    /// The request, if its sender may send it. Asked for every one, because the owner may change while a connection lives.
    ///
    /// # Errors
    /// Why it is refused.
    async fn admitted(&self, request: Request<Body>, from: IpAddr) -> Result<Request<Body>, String> {
        if self.peers.allows(from) {
            return Ok(request);
        }
        if !gate::is_for_workers(request.uri().path()) {
            return Err("it is not a server of this worker; `extra_peers` lets others in".to_owned());
        }
        let starts = request.uri().path() == gate::START_TASK;
        if self.peers.allows_worker(from) || (!starts && self.peers.has_met(from)) {
            return Ok(request);
        }
        gate::admitted(request, from, &self.peers, &self.jobs, self.engaged.as_ref()).await
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
    /// Answers servers that want to know whether they reach this port, for as long as it is polled. Requests wait for
    /// [`Listener::serve`].
    pub(crate) async fn answer_pings(&mut self) {
        let mut unread = FuturesUnordered::new();
        loop {
            tokio::select! {
                Ok((stream, from)) = self.socket.accept(), if unread.len() + self.early.len() < EARLY => {
                    unread.push(async move { (pinged(&stream).await, stream, from) });
                }
                Some((ping, stream, from)) = unread.next() => {
                    if ping { pong(stream).await } else { self.early.push((stream, from)) }
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Serves until the token is cancelled; then no connection is accepted, requests under way are answered.
    pub(crate) async fn serve(mut self, served: Served, stop: CancellationToken) {
        let mut early = std::mem::take(&mut self.early).into_iter();
        let served = Arc::new(served);
        let connections = TaskTracker::new();
        let (peers, strangers) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(STRANGERS)));
        loop {
            let next = async {
                match early.next() {
                    Some(early) => Ok(early),
                    None => self.socket.accept().await,
                }
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = next => accepted,
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
            let known = served.peers.has_met(from.ip());
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

/// Whether the caller is a server that only looks whether it reaches this port. Reads nothing.
async fn pinged(stream: &TcpStream) -> bool {
    let mut first = [0; PING.len()];
    let peek = async {
        loop {
            match stream.peek(&mut first).await {
                Ok(n) if n == PING.len() => return first == *PING,
                Ok(n) if n > 0 && PING.starts_with(&first[..n]) => tokio::time::sleep(Duration::from_millis(5)).await,
                _ => return false,
            }
        }
    };
    // Whoever says nothing is left to the HTTP server and its limits.
    tokio::time::timeout(STRANGER, peek).await.unwrap_or(false)
}

async fn pong(mut stream: TcpStream) {
    // What was written must be read, or closing becomes a reset that may overtake the answer.
    let mut ping = [0; PING.len()];
    let answer = async {
        stream.read_exact(&mut ping).await?;
        stream.write_all(PONG).await?;
        stream.shutdown().await
    };
    if let Err(error) = answer.await {
        tracing::debug!(%error, "a ping could not be answered");
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, known: bool, served: &Served, stop: &CancellationToken) {
    // Best effort: an answer that waits for more to say is only slower.
    let _ = stream.set_nodelay(true);
    if known && pinged(&stream).await {
        return pong(stream).await;
    }
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

async fn answer(request: Request<Incoming>, from: IpAddr, served: &Served) -> Result<Response<Body>, Infallible> {
    match served.admitted(request.map(Body::new), from).await {
        Ok(request) => served.routes.clone().oneshot(request).await,
        Err(why) => {
            served.refused(from, &why);
            let text =
                "this worker answers only to its PowerJob servers and to the workers that they name for its app\n";
            let mut refusal = Response::new(Body::from(text));
            *refusal.status_mut() = StatusCode::FORBIDDEN;
            Ok(refusal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Cluster;

    /// Names 10.0.0.5 for job 12 and nobody else.
    struct OneWorker;

    #[async_trait::async_trait]
    impl Cluster for OneWorker {
        async fn workers_of(&self, job_id: i64) -> Result<Vec<String>, String> {
            Ok(if job_id == 12 { vec!["10.0.0.5:27777".to_owned()] } else { Vec::new() })
        }
    }

    async fn served() -> Served {
        let peers = Peers::new(vec!["10.9.0.0/16".parse().expect("valid")]).with_cluster(Arc::new(OneWorker));
        peers.resolve(&["10.0.0.1:7700".parse().expect("valid")]).await;
        Served::new(Router::new(), Arc::new(peers), Arc::new(|id| (id == 77).then_some(12)), Arc::default())
    }

    async fn asks(served: &Served, from: &str, path: &str, body: &str) -> Result<String, String> {
        let request = Request::post(path).body(Body::from(body.to_owned())).expect("a request");
        let request = served.admitted(request, from.parse().expect("an address")).await?;
        let body = axum::body::to_bytes(request.into_body(), 1000).await.expect("the body is still there");
        Ok(String::from_utf8(body.to_vec()).expect("text"))
    }

    const START: &str = r#"{"taskId":"0.1","instanceInfo":{"jobId":12,"instanceId":5}}"#;

    #[tokio::test]
    async fn a_worker_that_the_server_names_for_the_job_is_let_in_and_its_request_is_whole() {
        let served = served().await;
        let start = asks(&served, "10.0.0.5", "/processorTracker/startTask", START).await;
        assert_eq!(start.as_deref(), Ok(START));
        // From now on it is known, whatever the instance.
        assert!(asks(&served, "10.0.0.5", "/processorTracker/stopInstance", r#"{"instanceId":1}"#).await.is_ok());
        assert!(asks(&served, "10.0.0.1", "/processorTracker/startTask", "{}").await.is_ok(), "a server");
        assert!(asks(&served, "10.9.1.1", "/worker/runJob", "{}").await.is_ok(), "a block of the configuration");
    }

    #[tokio::test]
    async fn a_worker_may_not_send_what_only_servers_send() {
        let served = served().await;
        asks(&served, "10.0.0.5", "/processorTracker/startTask", START).await.expect("known now");
        for path in ["/worker/runJob", "/worker/stopInstance", "/taskTracker/runJob", "/taskTracker/stopInstance"] {
            let why = asks(&served, "10.0.0.5", path, r#"{"instanceId":77}"#).await.expect_err(path);
            assert!(why.contains("not a server"), "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_was_named_long_ago_may_end_tasks_and_is_asked_for_before_it_starts_more() {
        let served = served().await;
        served.peers.name_workers(&["10.0.0.7:27777".to_owned()]).await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(asks(&served, "10.0.0.7", "/processorTracker/stopInstance", r#"{"instanceId":1}"#).await.is_ok());
        let why = asks(&served, "10.0.0.7", "/processorTracker/startTask", START).await.expect_err("not named again");
        assert!(why.contains("names no worker at 10.0.0.7"), "{why}");
    }

    /// Has tasks of instance 5 from the tracker at 10.0.0.7.
    struct OneInstance;

    #[async_trait::async_trait]
    impl Engaged for OneInstance {
        async fn has_tasks_of(&self, instance_id: i64, tracker: &str) -> bool {
            instance_id == 5 && tracker == "10.0.0.7:27777"
        }
    }

    #[tokio::test]
    async fn a_tracker_whose_instance_is_at_work_here_may_start_more_of_it_though_the_server_does_not_name_it() {
        let served = served().await.with_engaged(Arc::new(OneInstance));
        let start = |tracker: &str, instance: i64| {
            format!(
                r#"{{"taskTrackerAddress":"{tracker}","taskId":"0.1","instanceInfo":{{"jobId":12,"instanceId":{instance}}}}}"#
            )
        };
        let path = "/processorTracker/startTask";
        let more = start("10.0.0.7:27777", 5);
        assert_eq!(asks(&served, "10.0.0.7", path, &more).await.as_deref(), Ok(more.as_str()));
        for (from, tracker, instance) in
            [("10.0.0.8", "10.0.0.7:27777", 5), ("10.0.0.7", "10.0.0.7:27777", 6), ("10.0.0.7", "10.0.0.7:1", 5)]
        {
            let why = asks(&served, from, path, &start(tracker, instance)).await.expect_err("not that one");
            assert!(why.contains(from), "{why}");
        }
    }

    #[tokio::test]
    async fn a_report_of_a_task_is_looked_up_by_the_job_of_its_instance() {
        let served = served().await;
        let report = |id: i64| format!(r#"{{"instanceId":{id},"taskId":"0","status":6}}"#);
        let why = asks(&served, "10.0.0.5", "/taskTracker/reportTaskStatus", &report(78)).await;
        assert!(why.expect_err("not open here").contains("no job that is known"));
        assert!(asks(&served, "10.0.0.5", "/taskTracker/reportTaskStatus", &report(77)).await.is_ok());
    }

    #[tokio::test]
    async fn strangers_and_what_they_send_too_much_of_are_refused() {
        let served = served().await;
        let why = asks(&served, "10.0.0.6", "/processorTracker/startTask", START).await.expect_err("not named");
        assert!(why.contains("names no worker at 10.0.0.6 for job 12"), "{why}");
        let long = format!(r#"{{"instanceInfo":{{"jobId":12}},"x":"{}"}}"#, "x".repeat(2 << 20));
        let why = asks(&served, "10.0.0.7", "/processorTracker/startTask", &long).await.expect_err("too long");
        assert!(why.contains("could not be read"), "{why}");
        let deep = format!(r#"{{"instanceInfo":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
        assert!(asks(&served, "10.0.0.8", "/processorTracker/startTask", &deep).await.is_err());
        assert!(asks(&served, "::1", "/processorTracker/startTask", START).await.is_err());
    }
}
