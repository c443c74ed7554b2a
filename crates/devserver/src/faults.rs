//! States a real server cannot be brought into on command: answers that never come, requests refused for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

/// What happens to a request on the transport or the web port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not processed, answered 500.
    Refuse,
    /// Processed, but the answer is lost: the connection breaks.
    LoseAnswer,
    /// Processed, and answered after this long.
    Delay(Duration),
}

/// Faults by path, each for the next so many requests. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    by_path: Arc<Mutex<HashMap<String, (Fault, usize)>>>,
}

impl Faults {
    /// The next `times` requests for `path` meet `fault`; it replaces an earlier one for that path.
    pub fn inject(&self, path: &str, fault: Fault, times: usize) {
        self.by_path.lock().insert(path.to_owned(), (fault, times));
    }

    /// All requests are served well again.
    pub fn clear(&self) {
        self.by_path.lock().clear();
    }

    fn take(&self, path: &str) -> Option<Fault> {
        let mut faults = self.by_path.lock();
        let (fault, left) = faults.get_mut(path)?;
        let fault = *fault;
        *left = left.saturating_sub(1);
        if *left == 0 {
            faults.remove(path);
        }
        Some(fault)
    }
}

pub(crate) async fn middleware(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    match faults.take(request.uri().path()) {
        None => next.run(request).await,
        Some(Fault::Refuse) => (StatusCode::INTERNAL_SERVER_ERROR, Body::from("Internal Server Error")).into_response(),
        Some(Fault::LoseAnswer) => {
            next.run(request).await;
            // A body that fails before its first byte, with a length that is never sent, ends the connection.
            let broken = futures_util::stream::once(async {
                Err::<bytes::Bytes, _>(std::io::Error::other("answer lost on purpose"))
            });
            Response::new(Body::from_stream(broken))
        }
        Some(Fault::Delay(time)) => {
            let answer = next.run(request).await;
            tokio::time::sleep(time).await;
            answer
        }
    }
}
