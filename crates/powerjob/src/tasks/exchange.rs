//! Where what the two roles say goes: within this worker when it is for this worker's own address, else over HTTP.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;

use super::api::{MapTask, PeerError, ReportTask, ReportWorker, ResultSource, StartTask, TrackerPeer, WorkerPeer};

/// Both roles of this worker and those of all others.
pub(crate) struct Exchange<H> {
    own: String,
    others: H,
    // Weak, because both roles hold the exchange.
    processors: OnceLock<Weak<dyn WorkerPeer>>,
    trackers: OnceLock<Weak<dyn TrackerPeer>>,
}

impl<H> Exchange<H> {
    /// For the worker with this address; `others` are all other workers.
    pub(crate) fn new(own: impl Into<String>, others: H) -> Self {
        Self { own: own.into(), others, processors: OnceLock::new(), trackers: OnceLock::new() }
    }

    /// Makes the worker's own roles known. Until then, and after they are gone, they count as unreachable.
    pub(crate) fn connect(&self, processors: &Arc<dyn WorkerPeer>, trackers: &Arc<dyn TrackerPeer>) {
        // Only the first call counts; a worker has one of each.
        let _ = self.processors.set(Arc::downgrade(processors));
        let _ = self.trackers.set(Arc::downgrade(trackers));
    }

    fn processors(&self) -> Result<Arc<dyn WorkerPeer>, PeerError> {
        self.processors.get().and_then(Weak::upgrade).ok_or_else(not_there)
    }

    fn trackers(&self) -> Result<Arc<dyn TrackerPeer>, PeerError> {
        self.trackers.get().and_then(Weak::upgrade).ok_or_else(not_there)
    }
}

fn not_there() -> PeerError {
    PeerError::Unreachable("this worker is starting or ending".to_owned())
}

#[async_trait]
impl<H: WorkerPeer> WorkerPeer for Exchange<H> {
    async fn start_task(
        &self,
        address: &str,
        task: StartTask,
        results: Option<Arc<dyn ResultSource>>,
    ) -> Result<(), PeerError> {
        if address == self.own {
            return self.processors()?.start_task(address, task, results).await;
        }
        self.others.start_task(address, task, results).await
    }

    async fn stop_instance(&self, address: &str, instance_id: i64) -> Result<(), PeerError> {
        if address == self.own {
            return self.processors()?.stop_instance(address, instance_id).await;
        }
        self.others.stop_instance(address, instance_id).await
    }
}

#[async_trait]
impl<H: TrackerPeer> TrackerPeer for Exchange<H> {
    async fn report_task(&self, tracker: &str, report: ReportTask) -> Result<(), PeerError> {
        if tracker == self.own {
            return self.trackers()?.report_task(tracker, report).await;
        }
        self.others.report_task(tracker, report).await
    }

    async fn report_worker(&self, tracker: &str, report: ReportWorker) -> Result<(), PeerError> {
        if tracker == self.own {
            return self.trackers()?.report_worker(tracker, report).await;
        }
        self.others.report_worker(tracker, report).await
    }

    async fn map_task(&self, tracker: &str, map: MapTask) -> Result<(), PeerError> {
        if tracker == self.own {
            return self.trackers()?.map_task(tracker, map).await;
        }
        self.others.map_task(tracker, map).await
    }
}
