//! Requests to addresses that parameters name: `[outbound] allowed_hosts` holds for redirects, too.

use std::{error::Error, sync::Arc, time::Duration};

use encoding_rs::{Encoding, UTF_8};
use reqwest::{Client, Response, redirect::Policy};

use crate::Environment;

/// As many redirects as the Java client follows.
const REDIRECTS: usize = 20;

/// A client that follows redirects to allowed hosts.
pub(super) fn client(env: &Arc<Environment>, connect: Duration, whole: Duration) -> Result<Client, String> {
    let env = Arc::clone(env);
    let policy = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error(format!("more than {REDIRECTS} redirects"));
        }
        match env.allow_url(attempt.url().as_str()) {
            Ok(()) => attempt.follow(),
            Err(denied) => attempt.error(format!("redirected, but {denied}")),
        }
    });
    let client = Client::builder().no_proxy().redirect(policy).connect_timeout(connect).timeout(whole).build();
    client.map_err(|error| format!("failed to set up the HTTP client: {error}"))
}

/// The body up to `most` bytes and whether there was more.
pub(super) async fn body(mut response: Response, most: usize) -> Result<(Vec<u8>, bool), String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
        let room = most - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, false))
}

/// Text in the charset that the content type names, else UTF-8.
pub(super) fn text(body: &[u8], content_type: Option<&str>) -> String {
    let charset = content_type
        .and_then(|value| {
            value.split(';').find_map(|part| part.trim().to_lowercase().strip_prefix("charset=").map(str::to_owned))
        })
        .and_then(|name| Encoding::for_label(name.trim_matches('"').as_bytes()));
    charset.unwrap_or(UTF_8).decode(body).0.into_owned()
}

/// Why a request failed, without its address, which may hold a secret.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the request failed"
    };
    let mut last: &dyn Error = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    if std::ptr::addr_eq(last, error) { what.to_owned() } else { format!("{what}: {last}") }
}
