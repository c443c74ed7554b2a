//! Drives the [trackers](super::tracker) of this worker: one loop for each instance, the table, and the way to the workers.

mod deps;
mod detail;
mod driver;
mod results;
mod stops;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

pub(crate) use deps::{TrackerDeps, TrackerStart};

use self::{detail::View, stops::Stops};
use super::{
    api::{MapTask, PeerError, Progress, ReportTask, ReportWorker, TaskStatus, TrackerEnd, TrackerPeer},
    tracker::Event,
};
use crate::wire::InstanceDetail;

/// Reports that wait for an instance's loop. Whoever reports waits when it is full.
const INBOX: usize = 4096;

/// All task trackers of a worker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TrackerHost {
    inner: Arc<Inner>,
}

struct Inner {
    deps: TrackerDeps,
    open: Mutex<HashMap<i64, Handle>>,
    stops: Stops,
}

/// The way to an instance's loop.
#[derive(Clone)]
struct Handle {
    inbox: mpsc::Sender<Input>,
    view: Arc<Mutex<View>>,
}

/// An event with the one who waits for its answer.
struct Input {
    event: Event,
    answer: Option<oneshot::Sender<Result<(), PeerError>>>,
}

impl TrackerHost {
    /// A host without instances.
    pub(crate) fn new(deps: TrackerDeps) -> Self {
        let stops = Stops::new(deps.peers.clone());
        Self { inner: Arc::new(Inner { deps, open: Mutex::default(), stops }) }
    }

    /// Owns an instance until it has ended: every worker has been told to stop and nothing of it runs on this one any more.
    /// Dropping the future leaves the instance in the table, to be taken up with `resumed` by the next process.
    pub(crate) async fn run(&self, start: TrackerStart) -> TrackerEnd {
        let instance_id = start.request.instance_id;
        self.inner.stops.forget(instance_id);
        let (inbox, events) = mpsc::channel(INBOX);
        let view = Arc::new(Mutex::new(View::default()));
        let handle = Handle { inbox: inbox.clone(), view };
        self.inner.open.lock().insert(instance_id, handle.clone());
        // Also when the future is dropped.
        let _registered = Registered { host: self, instance_id, inbox: inbox.clone() };
        driver::Driver::new(self.inner.clone(), start, handle, events).run().await
    }

    /// Deletes rows of instances that ended while the table could not be written, and ends of long ago. To be called now and
    /// then.
    pub(crate) async fn tidy(&self) {
        // Weak would do as well: the closure is gone with the transaction.
        let inner = self.inner.clone();
        let is_open = move |id: i64| inner.open.lock().contains_key(&id) || (inner.deps.is_open)(id);
        let deps = &self.inner.deps;
        if let Err(error) = deps.table.tidy(&deps.lane, Arc::new(is_open)).await {
            tracing::warn!(%error, "the table of tasks cannot be tidied now; the next round tries again");
        }
    }

    /// The numbers of an instance.
    pub(crate) fn progress(&self, instance_id: i64) -> Option<Progress> {
        Some(self.handle(instance_id)?.view.lock().progress.clone())
    }

    /// The alarm of a frequent job that no report has carried yet; it counts as carried.
    pub(crate) fn take_alert(&self, instance_id: i64) -> Option<String> {
        let handle = self.handle(instance_id)?;
        let text = handle.view.lock().progress.alert.take()?;
        // A full inbox only means that a restart would tell the alarm again.
        let _ = handle.inbox.try_send(Input { event: Event::AlertTaken, answer: None });
        Some(text)
    }

    /// The report that carried the alarm did not arrive.
    pub(crate) fn give_back_alert(&self, instance_id: i64, text: String) {
        if let Some(handle) = self.handle(instance_id) {
            handle.view.lock().progress.alert.get_or_insert_with(|| text.clone());
            let _ = handle.inbox.try_send(Input { event: Event::AlertBack(text), answer: None });
        }
    }

    /// What the console shows of an instance. `custom_query` is what a person typed there, of which a small part is
    /// understood; servers that send it read the fields of 4.3.8.
    pub(crate) async fn detail(&self, instance_id: i64, custom_query: Option<&str>) -> Option<InstanceDetail> {
        let handle = self.handle(instance_id)?;
        let view = handle.view.lock().clone();
        Some(detail::detail(&self.inner.deps, view, custom_query).await)
    }

    fn handle(&self, instance_id: i64) -> Option<Handle> {
        self.inner.open.lock().get(&instance_id).cloned()
    }

    async fn tell(&self, instance_id: i64, event: Event) -> Result<(), PeerError> {
        let gone = || PeerError::Unreachable(format!("no tracker of instance {instance_id} is at work here"));
        let handle = self.handle(instance_id).ok_or_else(gone)?;
        handle.inbox.send(Input { event, answer: None }).await.map_err(|_| gone())
    }

    async fn ask(&self, instance_id: i64, event: Event) -> Result<(), PeerError> {
        let gone = || PeerError::Unreachable(format!("no tracker of instance {instance_id} is at work here"));
        let handle = self.handle(instance_id).ok_or_else(gone)?;
        let (answer, answered) = oneshot::channel();
        handle.inbox.send(Input { event, answer: Some(answer) }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl TrackerPeer for TrackerHost {
    async fn report_task(&self, _: &str, report: ReportTask) -> Result<(), PeerError> {
        let instance_id = report.instance_id;
        let event = Event::Report(report.clone());
        match TaskStatus::of(report.status) {
            Some(status) if status.is_final() => self.ask(instance_id, event).await,
            // Nobody waits for what these lead to.
            _ => self.tell(instance_id, event).await,
        }
    }

    async fn report_worker(&self, _: &str, report: ReportWorker) -> Result<(), PeerError> {
        let (instance_id, address) = (report.instance_id, report.address.clone());
        let told = self.tell(instance_id, Event::Worker(report)).await;
        if told.is_err() {
            // One that no stop has reached goes on for ever otherwise.
            self.inner.stops.stray(&address, instance_id);
        }
        told
    }

    async fn map_task(&self, _: &str, map: MapTask) -> Result<(), PeerError> {
        self.ask(map.instance_id, Event::Map(map)).await
    }
}

/// Takes an instance out of the list when its loop is gone, unless another one has its place.
struct Registered<'a> {
    host: &'a TrackerHost,
    instance_id: i64,
    inbox: mpsc::Sender<Input>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut open = self.host.inner.open.lock();
        if open.get(&self.instance_id).is_some_and(|handle| handle.inbox.same_channel(&self.inbox)) {
            open.remove(&self.instance_id);
        }
    }
}
