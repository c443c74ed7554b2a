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

    /// As [`tell`](Self::tell), for what must not be given to two: an error says that the receiver does not have it, because
    /// it was not reached or answered so. Whatever else goes wrong, however much of the answer came, it may have it, and `Ok`
    /// promises no more than that.
    pub(crate) async fn hand_over<T: Serialize>(&self, to: &str, path: &str, message: &T) -> Result<(), AskError> {
        match self.send(to, path, message).await {
            Err(PostError::Unanswered { status: None | Some(StatusCode::OK), why }) => {
                tracing::debug!(to, path, why, "whether a message arrived is not known");
                Ok(())
            }
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
        let json = serde_json::to_vec(message).map_err(|why| PostError::NotSent(why.to_string()))?;
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What a message comes to whose receiver reads it, writes this and then hangs up or says nothing more.
    async fn handed_to(answer: &'static str, hangs_up: bool) -> Result<(), AskError> {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = socket.local_addr().expect("bound").to_string();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.expect("a caller");
            let mut read = Vec::new();
            while !read.ends_with(b"{\"n\":1}") {
                assert_ne!(stream.read_buf(&mut read).await.expect("a request"), 0, "the whole request comes");
            }
            stream.write_all(answer.as_bytes()).await.expect("a caller that listens");
            if !hangs_up {
                std::future::pending::<()>().await;
            }
        });
        let handed = Transport::new().hand_over(&to, "/path", &serde_json::json!({"n": 1})).await;
        peer.abort();
        handed
    }

    #[tokio::test]
    async fn what_was_sent_counts_as_handed_over_unless_its_receiver_says_otherwise() {
        let each = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"succ", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"succ", true),
            ("HTTP/1.1 20", false),
            ("HTTP/1.1 20", true),
            ("", false),
            ("", true),
        ];
        // Side by side: most of them last as long as a question may.
        let each = each.map(|(answer, hangs_up)| async move {
            assert_eq!(handed_to(answer, hangs_up).await, Ok(()), "{answer:?} {hangs_up}");
        });
        futures_util::future::join_all(each).await;
        let refused = "HTTP/1.1 200 OK\r\ncontent-length: 32\r\n\r\n{\"success\":false,\"message\":\"no\"}";
        assert_eq!(handed_to(refused, false).await, Err(AskError::Refused("no".to_owned())));
        for answer in
            ["HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", "HTTP/1.1 500 E\r\ncontent-length: 9\r\n\r\n"]
        {
            let handed = handed_to(answer, true).await;
            assert!(matches!(&handed, Err(AskError::NotDelivered(_))), "{answer:?}: {handed:?}");
        }
    }

    #[tokio::test]
    async fn what_reached_nobody_is_not_delivered() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound").to_string();
        let handed = Transport::new().hand_over(&nobody, "/path", &serde_json::json!({})).await;
        assert!(matches!(&handed, Err(AskError::NotDelivered(why)) if why.contains(&nobody)), "{handed:?}");
    }
}
