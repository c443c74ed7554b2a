//! POSTs to the owner's transport port.

use bytes::Bytes;
use serde::Serialize;

use crate::wire::AskResponse;

/// Why a message did not get its answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// No answer with status 200 came.
    #[error("{0}")]
    NotDelivered(String),
    /// The server answered `success:false`.
    #[error("{0}")]
    Refused(String),
}

/// Sends messages to a transport address.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
}

impl Transport {
    pub(crate) fn new(http: reqwest::Client) -> Self {
        Self { http }
    }

    /// Sends a message that needs no answer. A body that says `success:false` still counts as refused: the server gives
    /// one for any report that it failed to process.
    pub(crate) async fn tell<T: Serialize>(&self, to: &str, path: &str, message: &T) -> Result<(), AskError> {
        taken(&self.post(to, path, message).await?)
    }

    /// As [`tell`](Self::tell), for what must not arrive twice: when only the answer is late, the receiver may have it and is not
    /// sent it again at once.
    pub(crate) async fn hand_over<T: Serialize>(&self, to: &str, path: &str, message: &T) -> Result<(), AskError> {
        let url = format!("http://{to}{path}");
        match self.http.post(&url).json(message).send().await {
            Err(error) if error.is_timeout() && !error.is_connect() => Ok(()),
            answer => taken(&read(&url, answer).await?),
        }
    }

    /// Sends a message whose answer must be an `AskResponse` with `success:true`.
    pub(crate) async fn ask<T: Serialize>(&self, to: &str, path: &str, message: &T) -> Result<AskResponse, AskError> {
        let body = self.post(to, path, message).await?;
        match AskResponse::parse(&body) {
            Ok(answer) if answer.success => Ok(answer),
            Ok(answer) => Err(AskError::Refused(refusal(answer))),
            Err(why) => Err(AskError::NotDelivered(format!("http://{to}{path} answered 200, but {why}"))),
        }
    }

    async fn post<T: Serialize>(&self, to: &str, path: &str, message: &T) -> Result<Bytes, AskError> {
        let url = format!("http://{to}{path}");
        read(&url, self.http.post(&url).json(message).send().await).await
    }
}

/// The body of an answer with status 200.
async fn read(url: &str, answer: reqwest::Result<reqwest::Response>) -> Result<Bytes, AskError> {
    let lost = |why: String| AskError::NotDelivered(format!("POST {url} failed: {why}"));
    let response = answer.map_err(|e| lost(super::describe(e)))?;
    let status = response.status();
    let body = super::body(response).await.map_err(lost)?;
    if status != reqwest::StatusCode::OK {
        let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        return Err(lost(format!("answered {status} `{}` where only 200 counts", text.trim())));
    }
    Ok(body)
}

/// An answer to a message that needs none: only a `success:false` counts.
fn taken(body: &[u8]) -> Result<(), AskError> {
    match AskResponse::parse(body) {
        Ok(answer) if !answer.success => Err(AskError::Refused(refusal(answer))),
        _ => Ok(()),
    }
}

fn refusal(answer: AskResponse) -> String {
    answer.message.unwrap_or_else(|| "the server answered success:false without a message".to_owned())
}
