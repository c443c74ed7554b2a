//! The logs of open instances on their way to the server.
//!
//! Each has a [`Pump`] from its journal to a [`ReportLogSink`] with a gate: held while it is not known whether the server
//! still wants the instance (late lines hide its archived log), ended when nothing more may go there.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use testrig_joblog::{Journal, Journals, Level, Line, Pump, PumpOptions, Sink, SinkError};
use tokio::sync::{mpsc, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{driver::Input, shared::Shared};
use crate::{
    JobLogger,
    core::Event,
    wire::{InstanceLogContent, WorkerLogReportReq},
};

/// Name of the server's cursor.
const SINK: &str = "powerjob-server";
/// Source of the worker's own lines.
const SOURCE: &str = "agent";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Held,
    Ended,
}

/// The log of one open instance.
struct Log {
    journal: Arc<Journal>,
    gate: watch::Sender<Gate>,
    pump: Arc<Pump>,
    /// The tasks that wait for something to tell the driver; dropped, they end.
    first_line: Option<AbortOnDropHandle<()>>,
    drain: Option<Drain>,
}

/// Somebody waits for the log to be empty.
struct Drain {
    attempt: u32,
    limit_ms: Option<u64>,
    task: AbortOnDropHandle<()>,
}

/// The logs of all open instances.
pub(crate) struct Logs {
    journals: Journals,
    open: HashMap<i64, Log>,
    shared: Arc<Shared>,
    inbox: mpsc::Sender<Input>,
    tasks: TaskTracker,
}

impl Logs {
    pub(crate) fn new(journals: Journals, shared: Arc<Shared>, inbox: mpsc::Sender<Input>, tasks: TaskTracker) -> Self {
        Self { journals, open: HashMap::new(), shared, inbox, tasks }
    }

    /// Closes the journals of instances that were closed just before a crash.
    pub(crate) fn close_forgotten(&self, closed: &[(i64, String)]) {
        for (instance_id, status) in closed {
            match self.journals.existing(*instance_id) {
                Ok(Some(journal)) => journal.close(status),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(instance_id, %error, "failed to close the log of a closed instance");
                }
            }
        }
    }

    /// Opens the log; `send` lets its lines go to the server, and [`Event::FirstLineSent`] follow.
    pub(crate) fn open(&mut self, instance_id: i64, send: bool) {
        let log = match self.log(instance_id) {
            Ok(log) => log,
            Err(why) => {
                return tracing::error!(instance_id, %why, "failed to open the log of an instance");
            }
        };
        log.journal.reopen();
        if !send {
            log.gate.send_replace(Gate::Held);
            log.first_line = None;
            return;
        }
        if log.pump.state().borrow().stopped {
            self.send_anew(instance_id);
        }
        let Some(log) = self.open.get(&instance_id) else {
            return;
        };
        log.gate.send_replace(Gate::Open);
        log.pump.kick();
        let pump = log.pump.clone();
        let first = self.tell(async move { pump.first_sent().await.then_some(Event::FirstLineSent(instance_id)) });
        if let Some(log) = self.open.get_mut(&instance_id) {
            log.first_line = Some(first);
        }
    }

    /// A logger on the instance's journal.
    pub(crate) fn logger(&mut self, instance_id: i64) -> Result<JobLogger, String> {
        self.log(instance_id).map(|log| JobLogger::new(log.journal.clone()))
    }

    /// Writes a line of the worker's own.
    pub(crate) fn line(&mut self, instance_id: i64, level: u8, text: &str) {
        let level = match level {
            0 | 1 => Level::Debug,
            2 => Level::Info,
            3 => Level::Warn,
            _ => Level::Error,
        };
        match self.log(instance_id) {
            Ok(log) => log.journal.append(level, SOURCE, text),
            Err(why) => {
                tracing::error!(instance_id, %why, text, "failed to write a line into the log of an instance");
            }
        }
    }

    /// Sends what is left, then nothing more; [`Event::LogDrained`] follows, after `limit_ms` at the latest.
    pub(crate) fn drain(&mut self, instance_id: i64, attempt: u32, limit_ms: Option<u64>) {
        let drained = Event::LogDrained { instance_id, attempt };
        let waiting = match self.log(instance_id) {
            Ok(log) => {
                let (pump, gate) = (log.pump.clone(), log.gate.clone());
                self.tell(async move {
                    let began = Instant::now();
                    let all = pump.drained(limit_ms.map(Duration::from_millis)).await;
                    gate.send_replace(Gate::Ended);
                    pump.stop().await;
                    if !all {
                        let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                        tracing::warn!(instance_id, waited_ms, "not all lines of the log went to the server");
                    }
                    Some(drained)
                })
            }
            // Without a journal there is nothing to send.
            Err(_) => self.tell(async move { Some(drained) }),
        };
        match self.open.get_mut(&instance_id) {
            Some(log) => {
                log.drain = Some(Drain { attempt, limit_ms, task: waiting });
            }
            None => drop(self.tasks.spawn(waiting)),
        }
    }

    /// The server's copy is gone: everything is sent again. Durable when it returns.
    pub(crate) async fn rewind(&mut self, instance_id: i64) {
        let mut again = None;
        if let Some(log) = self.open.get(&instance_id) {
            log.pump.rewind();
            // A drain that is about to say that all is sent must wait for all of it again.
            let ending = *log.gate.borrow() == Gate::Ended;
            again = log.drain.as_ref().filter(|drain| ending && !drain.task.is_finished());
        }
        let again = again.map(|drain| (drain.attempt, drain.limit_ms));
        if let Err(error) = self.journals.cursors().rewind(instance_id, SINK).await {
            tracing::error!(instance_id, %error, "failed to store that a log must be sent again; after a crash it may not be");
        }
        if let Some((attempt, limit_ms)) = again {
            self.send_anew(instance_id);
            if let Some(log) = self.open.get(&instance_id) {
                log.gate.send_replace(Gate::Open);
            }
            self.drain(instance_id, attempt, limit_ms);
        }
    }

    /// Closes the log with the name of the final status.
    pub(crate) fn close(&mut self, instance_id: i64, status: &str) {
        match self.log(instance_id) {
            Ok(log) => log.journal.close(status),
            Err(why) => {
                tracing::error!(instance_id, %why, "failed to close the log of an instance");
            }
        }
        if let Some(log) = self.open.remove(&instance_id) {
            log.gate.send_replace(Gate::Ended);
            self.tasks.spawn(async move { log.pump.stop().await });
        }
    }

    /// The server is there (again): what waits for its back-off to pass goes out now.
    pub(crate) fn kick(&self) {
        for log in self.open.values() {
            log.pump.kick();
        }
    }

    /// Ends the sending of every log; batches under way may end.
    pub(crate) async fn stop(&mut self) {
        let stopping = self.open.drain().map(|(_, log)| async move {
            log.gate.send_replace(Gate::Ended);
            log.pump.stop().await;
        });
        futures_util::future::join_all(stopping).await;
    }

    /// The log, opened if need be and held until somebody says otherwise.
    fn log(&mut self, instance_id: i64) -> Result<&mut Log, String> {
        if !self.open.contains_key(&instance_id) {
            let journal = self.journals.journal(instance_id).map_err(|error| error.to_string())?;
            let (gate, pump) = self.pump(&journal);
            self.open.insert(instance_id, Log { journal, gate, pump, first_line: None, drain: None });
        }
        self.open.get_mut(&instance_id).ok_or_else(|| "the log was closed".to_owned())
    }

    /// A pump in place of one that has ended.
    fn send_anew(&mut self, instance_id: i64) {
        let Some(journal) = self.open.get(&instance_id).map(|log| log.journal.clone()) else {
            return;
        };
        let (gate, pump) = self.pump(&journal);
        if let Some(log) = self.open.get_mut(&instance_id) {
            (log.gate, log.pump) = (gate, pump);
        }
    }

    fn pump(&self, journal: &Arc<Journal>) -> (watch::Sender<Gate>, Arc<Pump>) {
        let (gate, gated) = watch::channel(Gate::Held);
        let sink = ReportLogSink { shared: self.shared.clone(), gate: gated };
        let cursors = self.journals.cursors().clone();
        (gate, Arc::new(Pump::spawn(journal.clone(), Arc::new(sink), cursors, PumpOptions::default())))
    }

    /// Sends the event that the future gives to the driver.
    fn tell(&self, event: impl Future<Output = Option<Event>> + Send + 'static) -> AbortOnDropHandle<()> {
        let inbox = self.inbox.clone();
        AbortOnDropHandle::new(self.tasks.spawn(async move {
            if let Some(event) = event.await {
                // A closed channel means that the worker has ended.
                let _ = inbox.send(Input::Event(event)).await;
            }
        }))
    }
}

/// `POST /server/reportLog`: an answer 200 is the acknowledgement.
struct ReportLogSink {
    shared: Arc<Shared>,
    gate: watch::Receiver<Gate>,
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
