//! A line to a registry that can be cut, held up and taken away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::rig::{LONG, TEN_MS};

/// What happens on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// The connection over which this byte (of all that came from the registry) would go is cut. Then all is well again.
    CutAt(u64),
    /// From this byte on nothing comes through, until the trouble is over.
    StallAt(u64),
    /// Every connection is closed as soon as it is made.
    Closed,
}

/// A port in front of a registry's. Images are named by it.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    registry: String,
    trouble: watch::Sender<Trouble>,
    passed: AtomicU64,
    made: AtomicU64,
    /// What was said to the registry.
    asked: Mutex<Vec<u8>>,
}

impl Line {
    pub(crate) async fn to(registry: &str, trouble: Trouble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let inner = Arc::new(Inner {
            registry: registry.to_owned(),
            trouble: watch::Sender::new(trouble),
            passed: AtomicU64::new(0),
            made: AtomicU64::new(0),
            asked: Mutex::default(),
        });
        let own = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            // Connections end with the line.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                own.made.fetch_add(1, Ordering::Relaxed);
                let own = Arc::clone(&own);
                connections.spawn(async move { own.carry(client).await });
            }
        });
        Self { address, inner, task }
    }

    pub(crate) fn set(&self, trouble: Trouble) {
        self.inner.trouble.send_replace(trouble);
    }

    /// Bytes that came from the registry and went on.
    pub(crate) fn passed(&self) -> u64 {
        self.inner.passed.load(Ordering::Relaxed)
    }

    /// Returns when so many have.
    pub(crate) async fn reached(&self, bytes: u64) {
        let deadline = Instant::now() + LONG;
        while self.passed() < bytes {
            assert!(Instant::now() < deadline, "{} of {bytes}", self.passed());
            tokio::time::sleep(TEN_MS).await;
        }
    }

    /// Connections that were made.
    pub(crate) fn made(&self) -> u64 {
        self.inner.made.load(Ordering::Relaxed)
    }

    /// Everything that was said to the registry.
    pub(crate) fn asked(&self) -> String {
        String::from_utf8_lossy(&self.inner.asked.lock()).into_owned()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    async fn carry(&self, client: TcpStream) {
        let mut trouble = self.trouble.subscribe();
        if *trouble.borrow_and_update() == Trouble::Closed {
            return;
        }
        let socket = TcpSocket::new_v4().expect("a socket");
        // What is on its way stays little.
        socket.set_recv_buffer_size(64 << 10).expect("it can be set");
        let Ok(registry) = socket.connect(self.registry.parse().expect("an address")).await else { return };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_registry, mut to_registry) = registry.into_split();
        let up = async {
            let mut buffer = vec![0; 16 << 10];
            while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
                self.asked.lock().extend_from_slice(&buffer[..n]);
                if to_registry.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            }
        };
        let down = async {
            let mut buffer = vec![0; 16 << 10];
            while let Ok(n @ 1..) = from_registry.read(&mut buffer).await {
                let passed = self.passed.load(Ordering::Relaxed) + n as u64;
                loop {
                    let now = *trouble.borrow_and_update();
                    match now {
                        Trouble::CutAt(at) if passed > at => {
                            self.trouble.send_replace(Trouble::None);
                            return;
                        }
                        Trouble::StallAt(at) if passed > at => {
                            if trouble.changed().await.is_err() {
                                return;
                            }
                        }
                        Trouble::Closed => return,
                        _ => break,
                    }
                }
                if to_client.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
                self.passed.fetch_add(n as u64, Ordering::Relaxed);
            }
        };
        // Whoever ends first takes the connection along.
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }
}
