//! Starting other jobs at the PowerJob server: the way without a workflow (`downstream`).

use std::fmt;

use async_trait::async_trait;

/// Why a job was not started, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// No server answered: worth trying again.
    NoServer(String),
    /// The server, or what it knows, stands against it.
    Refused(String),
    /// The request reached a server and its answer did not arrive: the job may be running.
    Unknown(String),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer(text) | Self::Refused(text) => f.write_str(text),
            Self::Unknown(text) => write!(f, "{text}; whether it runs is not known"),
        }
    }
}

impl std::error::Error for NotStarted {}

/// Whoever can start jobs of the agent's app.
#[async_trait]
pub trait StartJobs: fmt::Debug + Send + Sync {
    /// Starts a job, named by its id or its name, with these instance parameters; the id of its instance.
    ///
    /// # Errors
    /// [`NotStarted`], which says whether another try is safe.
    async fn start(&self, job: &str, params: &str) -> Result<i64, NotStarted>;
}
