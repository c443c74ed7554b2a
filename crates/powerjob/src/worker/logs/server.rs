//! Lines on their way to the server's online log.

use std::sync::{Arc, atomic::AtomicBool};

use async_trait::async_trait;
use testrig_joblog::{Line, Sink, SinkError};
use tokio::sync::watch;

use super::collector::Collector;

/// Name of the server's cursor.
pub(super) const SINK: &str = "powerjob-server";

/// Whether lines may go to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    Held,
    Ended,
}

/// `POST /server/reportLog`: an answer 200 is the acknowledgement.
pub(super) struct ReportLogSink {
    collector: Arc<Collector>,
    gate: watch::Receiver<Gate>,
    /// The last request failed: the next one is its own.
    alone: AtomicBool,
}

impl ReportLogSink {
    pub(super) fn new(collector: Arc<Collector>, gate: watch::Receiver<Gate>) -> Self {
        Self { collector, gate, alone: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Sink for ReportLogSink {
    fn name(&self) -> &str {
        SINK
    }

    async fn ready(&self, waiting: u64) {
        self.collector.ready(waiting).await;
    }

    async fn send(&self, instance_id: i64, lines: &[Line]) -> Result<(), SinkError> {
        let mut gate = self.gate.clone();
        if *gate.borrow_and_update() != Gate::Open {
            // While it waits the lines may be taken back (a rewind), so they are asked for again afterwards.
            let _ = gate.wait_for(|gate| *gate != Gate::Held).await;
            return Err(SinkError::Retry("held until the server is known to want the instance".to_owned()));
        }
        tokio::select! {
            sent = self.collector.send(instance_id, lines, &self.alone) => sent,
            _ = gate.wait_for(|gate| *gate == Gate::Held) => Err(SinkError::Retry("held".to_owned())),
        }
    }
}
