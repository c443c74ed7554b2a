//! How a worker talks to its servers: plain HTTP/1.1, no proxy, one pool, and only status 200 counts.

mod address;
mod discovery;
mod posts;
mod reading;
mod transport;
mod web;

pub use address::ServerAddress;
pub(crate) use discovery::{Discovery, Found};
pub(crate) use reading::{Reading, now_ms};
pub(crate) use transport::{AskError, Transport};
pub(crate) use web::{Listed, ListedWorker, Web, local_address_towards, read_as_any_answer, route_towards};

use std::{sync::Once, time::Duration};

use crate::causes::with_causes;

/// How long a question may take.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to come up; a dead host must not keep the living one from being asked.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Servers close connections that are idle for 300 s; ours end before.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// Connections that are kept for the next requests: as many as a burst of reports needs, and few enough to cost no memory.
const POOL_CONNECTIONS: usize = 32;

/// Makes ring the TLS provider of this process. Safe to call often and beside others that do the same.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that somebody installed one before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The HTTP client of a worker.
///
/// # Errors
/// When the system gives no resolver or no TLS roots can be set up.
pub(crate) fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    install_tls();
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ASK_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(4)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// Longest answer that is read. The longest real one is an instance's result, some KiB.
const ANSWER_LIMIT: usize = 16 << 20;

/// The body of an answer, with a bound: whatever listens at a configured address may send for ever.
///
/// # Errors
/// Why it could not be read.
pub(crate) async fn body(mut response: reqwest::Response) -> Result<bytes::Bytes, String> {
    let mut body = bytes::BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(describe)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn too_long() -> String {
    format!("the answer is longer than {} MiB, so it is none of a PowerJob server", ANSWER_LIMIT >> 20)
}

/// The error and what caused it, in one line and without the URL, which callers name themselves.
pub(crate) fn describe(error: reqwest::Error) -> String {
    with_causes(&error.without_url())
}
