//! SIGTERM and Ctrl-C.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, from the moment of [`Stops::listen`] on: one that comes while nobody waits is not lost.
pub(crate) struct Stops {
    term: Signal,
    int: Signal,
}

impl Stops {
    /// Takes the signals over from the system, which would end the process.
    ///
    /// # Errors
    /// The handlers cannot be set.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one. May be dropped and called again without losing one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Waits for the first of SIGTERM and SIGINT.
pub(crate) async fn stop_requested() {
    match Stops::listen() {
        Ok(mut stops) => stops.next().await,
        // Without handlers the default action ends the process anyway.
        Err(_) => std::future::pending().await,
    }
}
