//! JSON to addresses outside: callbacks and robots. One POST with a limit, and retries for what may pass.

use std::{error::Error, time::Duration};

use serde_json::Value;

/// One request, from connecting to the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Waits before the second, third and fourth try.
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// What is read of an answer.
const ANSWER_BYTES: usize = 64 * 1024;

/// Why something could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It may work in a moment: no connection, time limit, 5xx, 429.
    Passing(String),
    /// It will be refused again.
    Lasting(String),
}

impl Fault {
    /// The text.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Passing(text) | Self::Lasting(text) => text,
        }
    }
}

/// Posts once; the answer's body is returned for status 2xx. No text holds the address, which may be a secret.
pub(crate) async fn post(
    http: &reqwest::Client,
    url: &str,
    body: &Value,
    headers: &[(&'static str, String)],
) -> Result<String, Fault> {
    let mut request = http.post(url).timeout(LIMIT).json(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send().await.map_err(|error| unsent(&error))?;
    let status = response.status();
    let answer = read(response).await;
    if status.is_success() {
        return answer;
    }
    let said: String = answer.unwrap_or_default().chars().take(200).collect();
    let text = match said.trim() {
        "" => format!("the answer was HTTP {status}"),
        said => format!("the answer was HTTP {status}: {said}"),
    };
    let passing = status.is_server_error() || status.as_u16() == 429 || status.as_u16() == 408;
    Err(if passing { Fault::Passing(text) } else { Fault::Lasting(text) })
}

/// Tries until it works, is refused for good, or has been tried four times. `told` hears of every failed try.
pub(crate) async fn with_retries<T, F>(mut attempt: impl FnMut() -> F, mut told: impl FnMut(&str)) -> Result<T, String>
where
    F: Future<Output = Result<T, Fault>>,
{
    for wait in WAITS {
        match attempt().await {
            Err(Fault::Passing(text)) => {
                told(&format!("{text}; trying again in {} ms", wait.as_millis()));
                tokio::time::sleep(wait).await;
            }
            other => return other.map_err(|fault| fault.text().to_owned()),
        }
    }
    attempt().await.map_err(|fault| match fault {
        Fault::Passing(text) => format!("{text} ({} tries)", WAITS.len() + 1),
        Fault::Lasting(text) => text,
    })
}

/// Scheme and host of an address whose path may be a secret.
pub(crate) fn shown(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}/***", url.scheme(), url.host_str().unwrap_or_default())
        }
        Err(_) => "***".to_owned(),
    }
}

fn unsent(error: &reqwest::Error) -> Fault {
    Fault::Passing(why(error))
}

/// Why a request got no answer, without its address.
pub(crate) fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        format!("no answer within {} s", LIMIT.as_secs())
    } else if error.is_connect() {
        format!("no connection: {}", causes(error))
    } else {
        format!("the request failed: {}", causes(error))
    }
}

/// The innermost cause: the outer ones repeat the address.
fn causes(error: &reqwest::Error) -> String {
    let mut last: &dyn Error = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    if std::ptr::addr_eq(last, error) { "the cause is not known".to_owned() } else { last.to_string() }
}

async fn read(mut response: reqwest::Response) -> Result<String, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unsent(&error))? {
        body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES - body.len())]);
        if body.len() >= ANSWER_BYTES {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn passing_faults_are_tried_four_times_and_lasting_ones_once() {
        let mut tries = 0;
        let result: Result<(), String> = with_retries(
            || {
                tries += 1;
                async { Err(Fault::Passing("busy".into())) }
            },
            |_| {},
        )
        .await;
        assert_eq!((tries, result), (4, Err("busy (4 tries)".into())));
        let mut tries = 0;
        let result: Result<(), String> = with_retries(
            || {
                tries += 1;
                async { Err(Fault::Lasting("no".into())) }
            },
            |_| {},
        )
        .await;
        assert_eq!((tries, result), (1, Err("no".into())));
    }

    #[test]
    fn an_address_is_shown_without_what_may_be_a_token() {
        assert_eq!(shown("https://user:pw@open.feishu.cn/open-apis/bot/v2/hook/abc?x=y"), "https://open.feishu.cn/***");
        assert_eq!(shown("http://127.0.0.1:8080/notify"), "http://127.0.0.1:8080/***");
    }
}
