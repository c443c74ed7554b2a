//! What a program holds of a running worker.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{Listing, WorkerStatus, driver::Input, listing, shared::Shared};
use crate::{client::Web, core::Event};

/// How a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Takes nothing new, lets everything open end and be reported, then ends.
    Drain,
    /// Takes nothing new, asks every processor to end, and reports what waited or ran as FAILED; then ends. Reports that no
    /// server takes within ten seconds are sent by the next start. Tasks that this worker does for instances of other workers end
    /// in the same way and are reported to those, so that they give them to somebody else; after 30 s they are cut.
    Cancel,
    /// Takes nothing new and ends within two seconds. Runs are cut without a stop, their records stay: the next start with
    /// the same store takes them up as their processors' restart policy says.
    Detach,
}

/// A running worker. Dropping the handle cuts the worker off at once, as a crash would; [`WorkerHandle::shutdown`] ends it
/// in good order.
pub struct WorkerHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) web: Web,
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) kill: CancellationToken,
    pub(crate) gone: watch::Receiver<bool>,
    pub(crate) driver: Mutex<Option<JoinHandle<()>>>,
    #[cfg(test)]
    pub(crate) peers: Arc<crate::server::Peers>,
}

impl WorkerHandle {
    /// The address that the server knows this worker by.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// How the worker does.
    pub fn status(&self) -> WorkerStatus {
        self.shared.status()
    }

    /// Asks the server whether it lists this worker and whether it reaches it. Takes a few requests, so at most some seconds.
    pub async fn listing(&self) -> Listing {
        listing::ask(&self.shared, &self.web).await
    }

    /// A number that grows with everything that happens; read [`WorkerHandle::status`] when it has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Refuses new instances (`true`; the server sees it as overload) or takes them again.
    pub async fn drain(&self, on: bool) {
        // The channel is closed only when the worker has ended, and then there is nothing to drain.
        let _ = self.inbox.send(Input::Event(Event::Drain(on))).await;
    }

    /// Ends the worker and waits for it: the first heartbeat says `overload`, so that the server sends nothing more here. A
    /// worker without open instances is gone within two seconds. May be called again with [`Shutdown::Cancel`] or
    /// [`Shutdown::Detach`] while a drain is under way.
    ///
    /// # Panics
    /// Passes on a panic of the worker's own task.
    pub async fn shutdown(&self, how: Shutdown) {
        // As above: a closed channel means that it has ended already.
        let _ = self.inbox.send(Input::Shutdown(how)).await;
        self.ended().await;
        let driver = self.driver.lock().take();
        if let Some(driver) = driver
            && let Err(error) = driver.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    /// Waits until the worker has ended, for whatever reason.
    pub async fn ended(&self) {
        let mut gone = self.gone.clone();
        // An error means that the sender is gone, and the worker with it.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Cuts the worker off as a crash would and waits until its port is free.
    #[cfg(test)]
    pub(crate) async fn crash(self) {
        self.kill.cancel();
        self.ended().await;
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}
