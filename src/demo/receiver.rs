//! Whom the demo notifies: a webhook of its own that keeps what it was told.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, routing::post};
use parking_lot::Mutex;
use tokio::net::TcpListener;

type Kept = Arc<Mutex<Vec<String>>>;

/// A webhook on a free port of loopback, until dropped.
pub(super) struct Receiver {
    address: SocketAddr,
    kept: Kept,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Starts it.
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let kept = Kept::default();
        let app = Router::new().route("/notify", post(keep)).with_state(Arc::clone(&kept));
        let task = tokio::spawn(async move {
            // It ends with the task; a listener on loopback does not fail before.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, kept, task })
    }

    /// What to configure as `webhookUrl`.
    pub(super) fn url(&self) -> String {
        format!("http://{}/notify", self.address)
    }

    /// The bodies received so far.
    pub(super) fn received(&self) -> Vec<String> {
        self.kept.lock().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(State(kept): State<Kept>, body: String) -> &'static str {
    kept.lock().push(body);
    "ok"
}
