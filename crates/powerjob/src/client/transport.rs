//! POSTs to the owner's transport port.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

use super::posts::{PostError, Posts};
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

/// Sends messages to a transport address. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    posts: Posts,
}

impl Transport {
    pub(crate) fn new() -> Self {
        Self { posts: Posts::new() }
    }

    /// Sends a message that needs no answer. A body that says `success:false` still counts as refused: the server gives
    /// one for any report that it failed to process.
    pub(crate) async fn tell<T: Serialize>(&self, to: &str, path: &str, message: &T) -> Result<(), AskError> {
        taken(&self.post(to, path, message).await?)
    }

    /// As [`tell`](Self::tell), for what must not arrive twice: when only the answer is late, the receiver may have it and is not
    /// sent it again at once.
    pub(crate) async fn hand_over<T: Serialize>(&self, to: &str, path: &str, message: &T) -> Result<(), AskError> {
        match self.send(to, path, message).await {
            Err(PostError::NoAnswer) => Ok(()),
            answer => taken(&read(to, path, answer)?),
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
        let answer = self.send(to, path, message).await;
        read(to, path, answer)
    }

    async fn send<T: Serialize>(&self, to: &str, path: &str, message: &T) -> Result<(StatusCode, Bytes), PostError> {
        let json = serde_json::to_vec(message).map_err(|why| PostError::Failed(why.to_string()))?;
        self.posts.post(to, path, json.into()).await
    }
}

/// The body of an answer with status 200.
fn read(to: &str, path: &str, answer: Result<(StatusCode, Bytes), PostError>) -> Result<Bytes, AskError> {
    let lost = |why: String| AskError::NotDelivered(format!("POST http://{to}{path} failed: {why}"));
    let (status, body) = answer.map_err(|why| lost(why.to_string()))?;
    if status != StatusCode::OK {
        let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        return Err(lost(format!("answered {status} `{}` where only 200 counts", text.trim())));
    }
    Ok(body)
}

/// An answer to a message that needs none: only a `success:false` counts.
fn taken(body: &[u8]) -> Result<(), AskError> {
    if body.is_empty() {
        return Ok(());
    }
    match AskResponse::parse(body) {
        Ok(answer) if !answer.success => Err(AskError::Refused(refusal(answer))),
        _ => Ok(()),
    }
}

fn refusal(answer: AskResponse) -> String {
    answer.message.unwrap_or_else(|| "the server answered success:false without a message".to_owned())
}
