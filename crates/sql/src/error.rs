//! Why SQL was not carried out.

use std::time::Duration;

/// Why [`crate::execute`] failed. Whatever was begun is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// No connection: nobody there, wrong password, no such database.
    #[error("failed to connect to {address}: {detail}")]
    Connect {
        /// The database, without its password.
        address: String,
        /// What the driver or the server said.
        detail: String,
    },
    /// The server refused the SQL, or the connection was lost.
    #[error("{0}")]
    Refused(String),
    /// The limit was reached; the statement was cancelled at the server.
    #[error("the SQL was cancelled after {} s (its timeout) and rolled back", .0.as_secs())]
    TimedOut(Duration),
    /// The caller did not want it any more; the statement was cancelled at the server.
    #[error("the SQL was cancelled and rolled back")]
    Stopped,
}

impl SqlError {
    pub(crate) fn refused(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Refused(chain(error))
    }
}

/// An error with its causes, as far as the outer ones do not repeat them.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
