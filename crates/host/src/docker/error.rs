//! Errors of the container engine, told apart by what the caller can do about them.

use bollard::errors::Error as BollardError;

/// Why a call to the container engine gave no answer, or the answer no.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The engine is absent, dead, restarting or too slow. What it runs is unknown: ask again later.
    #[error(
        "failed to {doing}: the container engine at {endpoint} does not answer ({detail}); \
         check that it runs (`systemctl status docker`) and that the agent's `docker.endpoint` names its socket"
    )]
    Unavailable {
        /// What was tried.
        doing: String,
        /// Address of the engine.
        endpoint: String,
        /// What was seen on the connection.
        detail: String,
    },
    /// The container, image or network does not exist.
    #[error("failed to {doing}: {message}")]
    NotFound {
        /// What was tried.
        doing: String,
        /// The engine's words.
        message: String,
    },
    /// The name is taken, or the container is not in a state for this (HTTP 409).
    #[error("failed to {doing}: {message}")]
    Conflict {
        /// What was tried.
        doing: String,
        /// The engine's words.
        message: String,
    },
    /// The engine answered and said no.
    #[error("failed to {doing}: the container engine refused: {message}")]
    Refused {
        /// What was tried.
        doing: String,
        /// HTTP status, 0 where there was none.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The endpoint is no address of an engine.
    #[error(
        "`{endpoint}` is no address of a container engine: accepted are `unix:///path/to/socket`, \
         `tcp://host:port` and `http://host:port`"
    )]
    InvalidEndpoint {
        /// What was given.
        endpoint: String,
    },
    /// The engine did something else than it was told, e.g. a container that is still there after its removal.
    #[error("failed to {doing}: {message}")]
    NotDone {
        /// What was tried.
        doing: String,
        /// What was found instead.
        message: String,
    },
}

impl DockerError {
    /// The engine could not be asked: the state is unknown and the call may be repeated.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// What was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Sorts bollard's error by what the caller can do about it.
pub(super) fn classify(endpoint: &str, doing: &str, error: BollardError) -> DockerError {
    let doing = doing.to_owned();
    match error {
        BollardError::DockerResponseServerError { status_code, message } => match status_code {
            404 => DockerError::NotFound { doing, message },
            409 => DockerError::Conflict { doing, message },
            status if status == 503 || speaks_of_a_lost_runtime(&message) => {
                unavailable(endpoint, doing, format!("HTTP {status}: {message}"))
            }
            status => DockerError::Refused { doing, status, message },
        },
        BollardError::DockerStreamError { error } => DockerError::Refused { doing, status: 0, message: error },
        BollardError::UnsupportedURISchemeError { uri } => DockerError::InvalidEndpoint { endpoint: uri },
        BollardError::SocketNotFoundError(path) => unavailable(endpoint, doing, format!("there is no socket {path}")),
        BollardError::RequestTimeoutError => unavailable(endpoint, doing, "no answer in time".to_owned()),
        BollardError::IOError { .. }
        | BollardError::HyperResponseError { .. }
        | BollardError::HyperLegacyError { .. }
        | BollardError::JsonDataError { .. }
        | BollardError::JsonSerdeError { .. } => unavailable(endpoint, doing, chain(&error)),
        other => DockerError::Refused { doing, status: 0, message: chain(&other) },
    }
}

/// An engine that is going down, or whose containerd is, answers 500 with the words of its own lost connection.
fn speaks_of_a_lost_runtime(message: &str) -> bool {
    [
        "containerd.sock",
        "client connection is closing",
        "transport is closing",
        "containerd is not running",
        "ttrpc: closed",
    ]
    .iter()
    .any(|words| message.contains(words))
}

fn unavailable(endpoint: &str, doing: String, detail: String) -> DockerError {
    DockerError::Unavailable { doing, endpoint: endpoint.to_owned(), detail }
}

/// The error and its causes on one line, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_is_unknown_and_names_the_endpoint_and_the_way_out() {
        let error = classify("unix:///nope.sock", "ping", BollardError::SocketNotFoundError("/nope.sock".into()));
        assert!(error.is_unavailable());
        let text = error.to_string();
        assert!(text.contains("unix:///nope.sock") && text.contains("docker.endpoint"), "{text}");
    }

    #[test]
    fn an_answer_of_the_engine_is_never_taken_for_its_absence() {
        for status in [400, 404, 409, 500] {
            let error = BollardError::DockerResponseServerError { status_code: status, message: "no".into() };
            assert!(!classify("unix:///s", "start", error).is_unavailable(), "{status}");
        }
    }

    #[test]
    fn an_engine_that_lost_its_containerd_is_unknown_not_a_refusal() {
        let message =
            "connection error: desc = \"transport: error while dialing unix:///run/containerd/containerd.sock\"";
        let error = BollardError::DockerResponseServerError { status_code: 500, message: message.into() };
        assert!(classify("unix:///s", "start", error).is_unavailable());
    }
}
