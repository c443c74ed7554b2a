//! The engine of the tests, containers that remove themselves, a connection that can be cut, a registry that says no.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use testrig_host::BoundaryId;
use testrig_host::docker::{ContainerSpec, Docker, EngineNotice, LogLine, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const TEN_MS: Duration = Duration::from_millis(10);

pub(crate) struct Rig {
    pub(crate) docker: Docker,
    pub(crate) image: String,
    made: Mutex<Vec<String>>,
}

/// The rig, or a line that says why there is none.
pub(crate) fn rig(name: &str) -> Option<Rig> {
    let (Ok(host), Ok(image)) = (std::env::var("DOCKER_HOST"), std::env::var("TEST_IMAGE_BUSYBOX")) else {
        skipped(name, "DOCKER_HOST and TEST_IMAGE_BUSYBOX are not set");
        return None;
    };
    Some(Rig::at(&host, &image))
}

/// One line for a person, one for the summary of `scripts/test.sh`.
pub(crate) fn skipped(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
    if let Some(file) = std::env::var_os("TESTRIG_SKIPS_FILE") {
        use std::io::Write;
        let line = serde_json::json!({"name": name, "reason": reason});
        let file = std::fs::File::options().create(true).append(true).open(file);
        writeln!(file.expect("writable"), "{line}").expect("writable");
    }
}

impl Rig {
    pub(crate) fn at(host: &str, image: &str) -> Self {
        let docker = Docker::connect(host).expect("an endpoint");
        Self { docker, image: image.to_owned(), made: Mutex::default() }
    }

    /// A container with its own name that runs `sh -c script`, without a network unless the test asks for ports.
    pub(crate) fn shell(&self, script: &str) -> ContainerSpec {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let boundary = BoundaryId::new(i64::from(std::process::id()), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut spec = ContainerSpec::new(boundary.clone(), format!("host-test-{boundary}"), &self.image);
        spec.entrypoint = Some(vec!["sh".into(), "-c".into(), script.into()]);
        spec.network = Network::Bridge;
        if std::env::var("DOCKER_BRIDGE").as_deref() == Ok("no") {
            spec.network = Network::Host;
        }
        spec
    }

    pub(crate) async fn create(&self, spec: &ContainerSpec) -> String {
        let id = self.docker.create(spec).await.expect("created");
        self.made.lock().push(id.clone());
        id
    }

    pub(crate) async fn start(&self, spec: &ContainerSpec) -> String {
        let id = self.create(spec).await;
        self.docker.start(&id).await.expect("started");
        id
    }

    /// A second client whose connection can be cut.
    pub(crate) fn behind_proxy(&self, name: &str) -> Option<(Proxy, Docker)> {
        let Some(socket) = self.docker.endpoint().strip_prefix("unix://") else {
            skipped(name, "DOCKER_HOST is not a socket");
            return None;
        };
        let proxy = Proxy::new(socket.into());
        let docker = Docker::connect(&proxy.path.display().to_string()).expect("path of a socket");
        Some((proxy, docker))
    }
}

impl Drop for Rig {
    /// Also after a failed assertion. A runtime of its own, because the test's may be gone or blocked by this very drop.
    fn drop(&mut self) {
        let (docker, made) = (self.docker.clone(), std::mem::take(&mut *self.made.lock()));
        let remove = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            for id in made {
                if let Err(error) = runtime.block_on(docker.remove(&id)) {
                    eprintln!("container {id} stays: {error}");
                }
            }
        };
        std::thread::spawn(remove).join().expect("no panic");
    }
}

/// All lines behind `after`, until the container has ended.
pub(crate) async fn lines_until_end(docker: &Docker, id: &str, after: u64) -> Vec<LogLine> {
    let mut logs = docker.logs(id, after);
    let mut lines = Vec::new();
    while let Some(line) = logs.next().await.expect("readable") {
        lines.push(line);
    }
    lines
}

/// A socket in front of the engine's.
pub(crate) struct Proxy {
    path: PathBuf,
    up: watch::Sender<bool>,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Proxy {
    fn new(engine: PathBuf) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("d.sock");
        let listener = UnixListener::bind(&path).expect("socket");
        let (up, state) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (engine, mut state) = (engine.clone(), state.clone());
                tokio::spawn(async move {
                    if !*state.borrow_and_update() {
                        return;
                    }
                    let Ok(mut engine) = UnixStream::connect(engine).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut engine) => {}
                        _ = state.changed() => {}
                    }
                });
            }
        });
        Self { path, up, task, _dir: dir }
    }

    /// Breaks every connection and refuses new ones.
    pub(crate) fn cut(&self) {
        self.up.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.up.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A registry that answers every request for a manifest with one status.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Registry {
    pub(crate) async fn answering(status: u16, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = socket.read(&mut request).await.unwrap_or(0);
                let base = request[..read].starts_with(b"GET /v2/ ");
                let (status, body) = if base { (200, "{}") } else { (status, body) };
                let head = format!(
                    "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                     docker-distribution-api-version: registry/2.0\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = socket.write_all(head.as_bytes()).await;
                let _ = socket.write_all(body.as_bytes()).await;
                let _ = tokio::time::timeout(Duration::from_millis(100), socket.shutdown()).await;
            }
        });
        Self { address, task }
    }

    /// Nobody listens there any more.
    pub(crate) async fn close(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands for a caller's closure")]
pub(crate) fn none(notice: EngineNotice) {
    panic!("the engine was not lost: {notice:?}");
}

pub(crate) async fn until_running(docker: &Docker, id: &str, word: &str) {
    let mut logs = docker.logs(id, 0);
    let line = tokio::time::timeout(LONG, logs.next()).await.expect("in time").expect("readable").expect("a line");
    assert_eq!(&line.bytes[..], word.as_bytes());
}
