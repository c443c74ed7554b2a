//! One batch of lines as a request.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde_json::json;
use sha2::{Digest, Sha256};
use testrig_joblog::{Line, Sink, SinkError};

use crate::{outbound, params::mask};

/// One request, from connecting to the head of the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// `POST {base}/api/log/append`; an answer 2xx is the acknowledgement.
pub(super) struct AppendSink {
    http: reqwest::Client,
    url: String,
    /// Another platform has had none of the lines: its cursor is another one.
    name: String,
}

impl AppendSink {
    pub(super) fn new(http: reqwest::Client, base: &str) -> Self {
        // The name is told in the agent's own log, and the address may hold a secret.
        let digest = hex::encode(Sha256::digest(base));
        let name = format!("platform {} {}", mask::url(base), &digest[..16]);
        Self { http, url: format!("{}/api/log/append", base.trim_end_matches('/')), name }
    }
}

#[async_trait]
impl Sink for AppendSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, instance_id: i64, lines: &[Line]) -> Result<(), SinkError> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(()) };
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        // The time of the last line and not of the request: the same lines sent again are the same body.
        let body = json!({"instanceId": instance_id, "timestamp": last.log_time_ms, "lines": texts});
        let key = format!("{instance_id}-{}-{}", first.index, lines.len());
        let request = self.http.post(&self.url).timeout(LIMIT).header("Idempotency-Key", key).json(&body);
        let answer = request.send().await.map_err(|error| SinkError::Retry(outbound::why(&error)))?;
        let status = answer.status();
        let text = format!("the answer was HTTP {status}");
        match status {
            _ if status.is_success() => Ok(()),
            // About what the batch holds. Everything else (no such page, no right, an error of its own) is about the platform.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(SinkError::Refused(text))
            }
            _ => Err(SinkError::Retry(text)),
        }
    }
}
