//! What the stand-in did with a request, by its own clock.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::fault::FaultKind;

/// One line of the truth file. Times are microseconds on a monotonic clock since the start of the service; only their
/// differences mean something to another program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Version of this format.
    pub v: u32,
    /// Number of the request, from 0.
    pub n: u64,
    /// `X-Request-Id` of the request.
    pub request_id: Option<String>,
    /// Path that was asked.
    pub path: String,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// The request's body had arrived.
    pub received_us: u64,
    /// The head of the response was handed to the connection.
    pub first_byte_us: Option<u64>,
    /// Each token event was handed to the connection.
    pub token_us: Vec<u64>,
    /// The last byte was handed over, or the answer was broken off.
    pub end_us: u64,
    /// Status of the response; None where none was sent.
    pub status: Option<u16>,
    /// Input tokens as reported.
    pub prompt_tokens: u64,
    /// Output tokens that were sent.
    pub tokens: u64,
    /// Token events that were sent.
    pub events: u64,
    /// What was made to go wrong.
    pub fault: Option<FaultKind>,
    /// All that should be sent was sent. False when the client went away or the service was stopped before.
    pub complete: bool,
}

/// Where truths go.
#[derive(Debug, Clone)]
pub(super) struct TruthLog {
    start: Instant,
    file: Option<Arc<Mutex<File>>>,
}

impl TruthLog {
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|error| {
                io::Error::new(error.kind(), format!("failed to open truth file `{}`: {error}", path.display()))
            })
        };
        let file = path.map(open).transpose()?.map(|file| Arc::new(Mutex::new(file)));
        Ok(Self { start: Instant::now(), file })
    }

    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Starts the truth of a request that has just been received.
    pub(super) fn begin(&self, n: u64, path: &str, request_id: Option<String>) -> OpenTruth {
        let received_us = self.now_us();
        let truth = Truth {
            v: 1,
            n,
            request_id,
            path: path.to_owned(),
            stream: false,
            received_us,
            first_byte_us: None,
            token_us: Vec::new(),
            end_us: received_us,
            status: None,
            prompt_tokens: 0,
            tokens: 0,
            events: 0,
            fault: None,
            complete: false,
        };
        OpenTruth { log: self.clone(), truth, ended: None }
    }
}

/// A truth that is written when the request is over, however it ends.
#[derive(Debug)]
pub(super) struct OpenTruth {
    log: TruthLog,
    pub(super) truth: Truth,
    /// Runs when the truth is written.
    pub(super) ended: Option<Ended>,
}

/// Told when a request is over.
pub(super) struct Ended(pub(super) Box<dyn FnOnce() + Send + Sync>);

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ended")
    }
}

impl OpenTruth {
    pub(super) fn now_us(&self) -> u64 {
        self.log.now_us()
    }

    /// An event with `tokens` tokens is handed over now.
    pub(super) fn token_event(&mut self, tokens: u32) {
        let now_us = self.now_us();
        self.truth.token_us.push(now_us);
        self.truth.events += 1;
        self.truth.tokens += u64::from(tokens);
    }
}

impl Drop for OpenTruth {
    fn drop(&mut self) {
        self.truth.end_us = self.log.now_us();
        if let Some(file) = &self.log.file {
            let mut line = serde_json::to_string(&self.truth).expect("a truth is always JSON");
            line.push('\n');
            // One write a line, so that lines of several requests never mix.
            if let Err(error) = file.lock().write_all(line.as_bytes()) {
                tracing::error!(%error, "failed to write the truth file");
            }
        }
        if let Some(Ended(tell)) = self.ended.take() {
            tell();
        }
    }
}
