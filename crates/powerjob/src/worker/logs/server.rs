//! Lines on their way to the server's online log.

use std::sync::Arc;

use async_trait::async_trait;
use testrig_joblog::{Line, Sink, SinkError};
use tokio::sync::watch;

use crate::{
    wire::{InstanceLogContent, WorkerLogReportReq},
    worker::shared::Shared,
};

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
    pub(super) shared: Arc<Shared>,
    pub(super) gate: watch::Receiver<Gate>,
}

#[async_trait]
impl Sink for ReportLogSink {
    fn name(&self) -> &str {
        SINK
    }

    async fn send(&self, instance_id: i64, lines: &[Line]) -> Result<(), SinkError> {
        let mut gate = self.gate.clone();
        if *gate.borrow_and_update() != Gate::Open {
            // While it waits the lines may be taken back (a rewind), so they are asked for again afterwards.
            let _ = gate.wait_for(|gate| *gate != Gate::Held).await;
            return Err(SinkError::Retry("held until the server is known to want the instance".to_owned()));
        }
        tokio::select! {
            sent = self.post(instance_id, lines) => sent,
            _ = gate.wait_for(|gate| *gate == Gate::Held) => Err(SinkError::Retry("held".to_owned())),
        }
    }
}

impl ReportLogSink {
    async fn post(&self, instance_id: i64, lines: &[Line]) -> Result<(), SinkError> {
        let owner = self.shared.log_owner.borrow().clone();
        let Some(owner) = owner else {
            return Err(SinkError::Retry("no server is known now".to_owned()));
        };
        let contents = lines.iter().map(|line| InstanceLogContent {
            instance_id,
            log_time: line.log_time_ms,
            log_level: line.level as i32,
            log_content: line.text.clone(),
        });
        let report = WorkerLogReportReq {
            worker_address: self.shared.address.clone(),
            instance_log_contents: contents.collect(),
        };
        let sent = self.shared.transport.tell(&owner.transport, "/server/reportLog", &report).await;
        sent.map_err(|why| SinkError::Retry(why.to_string()))?;
        self.shared.counters.log_lines_sent.add(lines.len() as u64);
        Ok(())
    }
}
