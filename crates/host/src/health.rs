//! Single probes of a service. Intervals, thresholds and what follows from them are the caller's.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::docker::{Docker, DockerError};
use crate::process::{ProcessError, ProcessRunner, ScriptSpec};

/// How much of a probe's answer is kept.
const KEEP: usize = 2000;

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Passed.
    pub healthy: bool,
    /// What was seen, readable, on one line where the answer was.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

/// `GET url`; 200 to 399 is healthy, as for the kubelet.
pub async fn http(client: &reqwest::Client, url: &str, limit: Duration) -> Probe {
    timed(async {
        let answer = tokio::time::timeout(limit, client.get(url).timeout(limit).send()).await;
        match answer {
            Err(_) => (false, format!("GET {url}: no answer within {} ms", limit.as_millis())),
            Ok(Err(error)) if error.is_timeout() => {
                (false, format!("GET {url}: no answer within {} ms", limit.as_millis()))
            }
            Ok(Err(error)) => (false, format!("GET {url}: {}", root_cause(&error))),
            Ok(Ok(answer)) => {
                let status = answer.status();
                let healthy = status.is_success() || status.is_redirection();
                (healthy, format!("GET {url}: HTTP {}", status.as_u16()))
            }
        }
    })
    .await
}

/// Opens a TCP connection and closes it.
pub async fn tcp(address: SocketAddr, limit: Duration) -> Probe {
    timed(async {
        match tokio::time::timeout(limit, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(_)) => (true, format!("TCP {address}: connected")),
            Ok(Err(error)) => (false, format!("TCP {address}: {error}")),
            Err(_) => (false, format!("TCP {address}: no connection within {} ms", limit.as_millis())),
        }
    })
    .await
}

/// Runs a command in a container; exit code 0 is healthy.
///
/// # Errors
/// [`DockerError`] when the engine, not the command, failed: that says nothing about the service.
pub async fn container_command(
    docker: &Docker,
    id: &str,
    command: &[String],
    limit: Duration,
) -> Result<Probe, DockerError> {
    let begin = Instant::now();
    let outcome = docker.exec(id, command, limit, KEEP).await?;
    let words = command.join(" ");
    let output = outcome.output.trim();
    let (healthy, detail) = match outcome.code {
        None => (false, format!("`{words}`: not done within {} ms", limit.as_millis())),
        Some(code) => (code == 0, format!("`{words}`: exit code {code}")),
    };
    Ok(Probe { healthy, detail: with_output(detail, output), took: begin.elapsed() })
}

/// Runs a command on the host in a boundary of its own; exit code 0 is healthy.
///
/// # Errors
/// [`ProcessError`] when it could not be started.
pub async fn host_command(runner: &ProcessRunner, spec: ScriptSpec) -> Result<Probe, ProcessError> {
    let begin = Instant::now();
    let words = spec.process.words();
    let limit = spec.limit;
    let outcome = runner.run_script(spec, std::future::pending()).await?;
    let (healthy, detail) = if outcome.timed_out {
        (false, format!("`{words}`: not done within {} ms", limit.as_millis()))
    } else {
        (outcome.exit.success(), format!("`{words}`: {}", outcome.exit))
    };
    Ok(Probe { healthy, detail: with_output(detail, outcome.output_tail.trim()), took: begin.elapsed() })
}

async fn timed(probe: impl Future<Output = (bool, String)>) -> Probe {
    let begin = Instant::now();
    let (healthy, detail) = probe.await;
    Probe { healthy, detail, took: begin.elapsed() }
}

fn with_output(detail: String, output: &str) -> String {
    if output.is_empty() { detail } else { format!("{detail}: {output}") }
}

/// reqwest's own text only repeats the URL.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(20);

    async fn answering(head: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _ = socket.read(&mut buffer).await;
                let _ = socket.write_all(head.as_bytes()).await;
            }
        });
        address
    }

    fn client() -> reqwest::Client {
        // A second test of the same process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy().build().expect("client")
    }

    #[tokio::test]
    async fn a_status_below_400_is_healthy_and_503_is_not() {
        let fine = answering("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        let busy =
            answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let probe = http(&client(), &format!("http://{fine}/healthz"), LIMIT).await;
        assert!(probe.healthy, "{probe:?}");
        let probe = http(&client(), &format!("http://{busy}/healthz"), LIMIT).await;
        assert!(!probe.healthy && probe.detail.ends_with("HTTP 503"), "{probe:?}");
    }

    #[tokio::test]
    async fn a_service_that_accepts_and_never_answers_is_unhealthy_after_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let probe = http(&client(), &format!("http://{address}/"), Duration::from_millis(50)).await;
        assert!(!probe.healthy && probe.detail.contains("no answer within 50 ms"), "{probe:?}");
        assert!(tcp(address, LIMIT).await.healthy);
    }

    #[tokio::test]
    async fn a_closed_port_is_unhealthy_with_the_systems_words() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let probe = tcp(address, LIMIT).await;
        assert!(!probe.healthy && probe.detail.contains("refused"), "{probe:?}");
        let probe = http(&client(), &format!("http://{address}/"), LIMIT).await;
        assert!(!probe.healthy && probe.detail.contains("refused"), "{probe:?}");
    }
}
