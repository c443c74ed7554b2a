//! SIGTERM and Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for the first of SIGTERM and SIGINT.
pub(crate) async fn stop_requested() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        // Without handlers the default action ends the process anyway.
        _ => std::future::pending().await,
    }
}
