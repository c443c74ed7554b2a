//! POSTs of JSON over plain HTTP/1.1 with kept connections, and nothing beside it: a worker sends several for each instance,
//! and what a general client does around them costs as much as the message.

use std::{
    error::Error,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode, Uri,
    body::{Body, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower::Service;

use super::{ANSWER_LIMIT, ASK_TIMEOUT, CONNECT_TIMEOUT, POOL_CONNECTIONS, POOL_IDLE, too_long};
use crate::causes::with_causes;

/// Why a request has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PostError {
    /// It was not sent.
    #[error("{0}")]
    NotSent(String),
    /// It was sent, as far as is known, and no answer came, or one that began with this status and did not come whole.
    #[error("{why}")]
    Unanswered {
        /// Status of the answer, if it began.
        status: Option<StatusCode>,
        /// What happened.
        why: String,
    },
}

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Posts {
    http: Client<Connector, Full<Bytes>>,
}

impl Posts {
    pub(super) fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_CONNECTIONS)
            .pool_timer(TokioTimer::new())
            .build(Connector { tcp });
        Self { http }
    }

    /// Status and body of the answer.
    pub(super) async fn post(&self, to: &str, path: &str, json: Bytes) -> Result<(StatusCode, Bytes), PostError> {
        let uri = Uri::builder().scheme("http").authority(to).path_and_query(path).build();
        let mut request = Request::new(Full::new(json));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = uri.map_err(|why| PostError::NotSent(why.to_string()))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut begun = None;
        let answered = async {
            let response = self.http.request(request).await.map_err(|why| match why.is_connect() {
                true => PostError::NotSent(with_causes(&why)),
                false => PostError::Unanswered { status: None, why: with_causes(&why) },
            })?;
            let status = response.status();
            begun = Some(status);
            let cut = |why| PostError::Unanswered { status: Some(status), why };
            Ok((status, body(response.into_body()).await.map_err(cut)?))
        };
        let answered = tokio::time::timeout(ASK_TIMEOUT, answered).await;
        answered.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", ASK_TIMEOUT.as_secs());
            Err(PostError::Unanswered { status: begun, why })
        })
    }
}

/// The body of an answer, with a bound.
async fn body(mut body: Incoming) -> Result<Bytes, String> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|why| with_causes(&why))?.into_data() else { continue };
        if all.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        if all.len() + data.len() > ANSWER_LIMIT {
            return Err(too_long());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// Makes connections, each within [`CONNECT_TIMEOUT`], the look-up of the name included.
#[derive(Clone, Debug)]
struct Connector {
    tcp: HttpConnector,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.tcp.call(to));
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => {
                    let why = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
                }
            }
        })
    }
}
