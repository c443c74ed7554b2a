//! Other workers, and the server as the one who knows them, over HTTP.
//!
//! The client is the worker's own: its connections are reused for up to 60 s, less than the 300 s after which a Java worker
//! closes them, and every call ends within 5 s.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::api::{
    ClusterQuery, MapTask, PeerError, ReportTask, ReportWorker, ResultSource, StartTask, TaskStatus, TrackerPeer,
    WorkerPeer,
};
use crate::{
    client::{AskError, Transport},
    core::Owner,
    wire::{QueryJobCluster, StopTasks},
};

/// The workers of the app that are not this one.
#[derive(Clone, Debug)]
pub(crate) struct HttpPeers {
    transport: Transport,
}

impl HttpPeers {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport }
    }
}

impl From<AskError> for PeerError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NotDelivered(why) => Self::Unreachable(why),
            AskError::Refused(why) => Self::Refused(why),
        }
    }
}

#[async_trait]
impl WorkerPeer for HttpPeers {
    /// Results stay here: a last task is never sent to another worker.
    async fn start_task(
        &self,
        address: &str,
        task: StartTask,
        _results: Option<Arc<dyn ResultSource>>,
    ) -> Result<(), PeerError> {
        Ok(self.transport.hand_over(address, "/processorTracker/startTask", &task).await?)
    }

    async fn stop_instance(&self, address: &str, instance_id: i64) -> Result<(), PeerError> {
        Ok(self.transport.tell(address, "/processorTracker/stopInstance", &StopTasks { instance_id }).await?)
    }
}

#[async_trait]
impl TrackerPeer for HttpPeers {
    async fn report_task(&self, tracker: &str, report: ReportTask) -> Result<(), PeerError> {
        let path = "/taskTracker/reportTaskStatus";
        if TaskStatus::of(report.status).is_some_and(TaskStatus::is_final) {
            self.transport.ask(tracker, path, &report).await?;
        } else {
            self.transport.tell(tracker, path, &report).await?;
        }
        Ok(())
    }

    async fn report_worker(&self, tracker: &str, report: ReportWorker) -> Result<(), PeerError> {
        Ok(self.transport.tell(tracker, "/taskTracker/reportProcessorTrackerStatus", &report).await?)
    }

    async fn map_task(&self, tracker: &str, map: MapTask) -> Result<(), PeerError> {
        self.transport.ask(tracker, "/taskTracker/mapTask", &map).await?;
        Ok(())
    }
}

/// Asks the app's owner.
#[derive(Clone, Debug)]
pub(crate) struct ServerCluster {
    transport: Transport,
    owner: watch::Receiver<Option<Owner>>,
}

impl ServerCluster {
    pub(crate) fn new(transport: Transport, owner: watch::Receiver<Option<Owner>>) -> Self {
        Self { transport, owner }
    }
}

#[async_trait]
impl ClusterQuery for ServerCluster {
    async fn workers(&self, job_id: i64) -> Result<Vec<String>, String> {
        let owner = self.owner.borrow().clone().ok_or("no server is known now")?;
        let query = QueryJobCluster { app_id: owner.app_id, job_id };
        let path = "/server/queryJobCluster";
        let answer = self.transport.ask(&owner.transport, path, &query).await.map_err(|why| why.to_string())?;
        let data = answer.data.unwrap_or_default();
        addresses(&data).map_err(|why| {
            format!(
                "server {} answered to {path} with something that is not a list of addresses: {why}",
                owner.transport
            )
        })
    }
}

/// The payload of the answer to `queryJobCluster`.
pub(crate) fn addresses(data: &[u8]) -> serde_json::Result<Vec<String>> {
    serde_json::from_slice(data)
}
