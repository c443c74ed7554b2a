//! The subcommands `load` and `llm-stub`: arguments, and what a terminal sees.

mod load;
mod stub;
mod table;

pub use load::{LoadArgs, run_load};
pub use stub::{StubArgs, run_stub};
pub use table::table;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Exit code of a command that a signal ended.
const INTERRUPTED: u8 = 130;

/// Cancelled by SIGINT or SIGTERM. A second signal ends the process at once.
fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let signalled = token.clone();
    tokio::spawn(async move {
        signal().await;
        signalled.cancel();
        signal().await;
        std::process::exit(i32::from(INTERRUPTED));
    });
    token
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        // Without a handler the signal ends the process, which is what it asks for.
        Err(_) => std::future::pending().await,
    }
}

/// Seconds from the command line, as a duration.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|_| format!("`{text}` is no duration; accepted are seconds from 0"))
}

/// Milliseconds from the command line, as a duration.
fn milliseconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is no number of milliseconds"))?;
    Duration::try_from_secs_f64(number / 1e3)
        .map_err(|_| format!("`{text}` is no duration; accepted are milliseconds from 0"))
}

/// `error` and its causes on one line.
fn complain(error: &dyn std::error::Error) {
    eprintln!("error: {}", crate::failure::chain(error));
}

#[cfg(test)]
mod tests;
