//! The logs of open instances on their way to the server, or wherever the job wants them (`logConfig`).
//!
//! One for the server has a [`Pump`] from its journal to a [`ReportLogSink`] with a gate: held while it is not known whether
//! the server still wants the instance (late lines hide its archived log), ended when nothing more may go there. One that
//! sends nothing to the server never keeps anybody waiting: it has its first line acknowledged, and is drained, at once.

pub(super) mod collector;
mod server;
mod stdout;

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use collector::Collector;
use server::{Gate, ReportLogSink, SINK};
use stdout::StdoutSink;
use testrig_joblog::{Journal, Journals, Level, Pump, PumpOptions};
use tokio::sync::{mpsc, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{driver::Input, shared::Shared};
use crate::{JobLogger, core::Event, wire::LogSettings};

/// Source of the worker's own lines.
const SOURCE: &str = "agent";
/// How long batches under way may take when the worker ends.
const LAST_BATCHES: Duration = Duration::from_millis(400);
/// How long the last lines of a closed log may take to be printed.
const LAST_PRINTED: Duration = Duration::from_secs(5);

/// Where lines go behind the journal.
enum Way {
    Server { gate: watch::Sender<Gate>, pump: Arc<Pump> },
    Stdout(Arc<Pump>),
    Nowhere,
}

impl Way {
    /// Opens or shuts the gate to the server, where there is one.
    fn set(&self, to: Gate) {
        if let Self::Server { gate, .. } = self {
            gate.send_replace(to);
        }
    }

    fn is_held(&self) -> bool {
        matches!(self, Self::Server { gate, .. } if *gate.borrow() == Gate::Held)
    }

    /// The pump to the server, where there is one.
    fn to_server(&self) -> Option<&Arc<Pump>> {
        match self {
            Self::Server { pump, .. } => Some(pump),
            Self::Stdout(_) | Self::Nowhere => None,
        }
    }

    /// The pump behind the journal, wherever it sends to.
    fn pump(&self) -> Option<&Pump> {
        match self {
            Self::Server { pump, .. } | Self::Stdout(pump) => Some(pump),
            Self::Nowhere => None,
        }
    }

    /// Sends nothing more; the rest may still be printed within the given time.
    async fn stop(self, print_for: Duration) {
        match self {
            Self::Server { gate, pump } => {
                gate.send_replace(Gate::Ended);
                pump.stop().await;
            }
            Self::Stdout(pump) => {
                // What nobody reads cannot be waited for.
                let _ = pump.drained(Some(print_for)).await;
                pump.stop().await;
            }
            Self::Nowhere => {}
        }
    }
}

/// The log of one open instance.
struct Log {
    journal: Arc<Journal>,
    settings: LogSettings,
    way: Way,
    /// The tasks that wait for something to tell the driver; dropped, they end.
    first_line: Option<AbortOnDropHandle<()>>,
    drain: Option<Drain>,
}

/// Somebody waits for the log to be empty.
struct Drain {
    attempt: u32,
    limit_ms: Option<u64>,
    /// Which drain of this worker: the end of one that was taken back does not count.
    round: u64,
    _task: AbortOnDropHandle<()>,
}

/// The logs of all open instances.
pub(crate) struct Logs {
    journals: Journals,
    /// Opened beforehand and not asked for yet.
    found: HashMap<i64, Arc<Journal>>,
    open: HashMap<i64, Log>,
    /// `logConfig` of instances that other workers own.
    foreign: HashMap<i64, Option<String>>,
    rounds: u64,
    collector: Arc<Collector>,
    shared: Arc<Shared>,
    inbox: mpsc::Sender<Input>,
    tasks: TaskTracker,
}

/// What [`take_up`] did.
pub(crate) struct TakenUp {
    /// Journals of open instances.
    pub(crate) open: HashMap<i64, Arc<Journal>>,
    /// Instances whose journal is closed now, or has never been there.
    pub(crate) closed: Vec<i64>,
}

/// Opens the journals of open instances, which may be long and are read from end to end, and closes those of instances
/// that were closed just before a crash.
pub(crate) async fn take_up(journals: &Journals, open: Vec<i64>, closed: Vec<(i64, String)>) -> io::Result<TakenUp> {
    let journals = journals.clone();
    let close = |journals: &Journals, id: i64, status: &str| match journals.existing(id) {
        Ok(Some(journal)) => journal.close(status),
        Ok(None) => true,
        Err(error) => {
            tracing::warn!(instance_id = id, %error, "failed to close the log of a closed instance");
            false
        }
    };
    let work = tokio::task::spawn_blocking(move || TakenUp {
        closed: closed.into_iter().filter(|(id, status)| close(&journals, *id, status)).map(|(id, _)| id).collect(),
        // One that cannot be opened is tried again, and told of, when the instance needs it.
        open: open.into_iter().filter_map(|id| Some((id, journals.journal(id).ok()?))).collect(),
    });
    work.await.map_err(io::Error::other)
}

impl Logs {
    /// `found` are journals that are open already.
    pub(crate) fn new(
        journals: Journals,
        found: HashMap<i64, Arc<Journal>>,
        shared: Arc<Shared>,
        inbox: mpsc::Sender<Input>,
        tasks: TaskTracker,
    ) -> Self {
        let collector = Collector::new(shared.clone(), tasks.clone());
        let (open, foreign) = (HashMap::new(), HashMap::new());
        Self { journals, found, open, foreign, rounds: 0, collector, shared, inbox, tasks }
    }

    /// Opens the log; `send` lets its lines go to the server, and [`Event::FirstLineSent`] follow.
    pub(crate) fn open(&mut self, instance_id: i64, send: bool) {
        let settings = self.settings(instance_id);
        let log = match self.log(instance_id) {
            Ok(log) => log,
            Err(why) => {
                return tracing::error!(instance_id, %why, "failed to open the log of an instance");
            }
        };
        log.journal.reopen();
        let changed = log.settings != settings;
        log.settings = settings;
        if changed || (send && log.way.to_server().is_some_and(|pump| pump.state().borrow().stopped)) {
            self.send_anew(instance_id);
        }
        let Some(log) = self.open.get_mut(&instance_id) else {
            return;
        };
        log.first_line = None;
        if !send {
            return log.way.set(Gate::Held);
        }
        log.way.set(Gate::Open);
        let pump = log.way.to_server().filter(|_| settings.sends_first_line()).cloned();
        if let Some(pump) = log.way.to_server() {
            pump.kick();
        }
        let first = self.tell(async move {
            let sent = match pump {
                Some(pump) => pump.first_sent().await,
                // The first line stays here: nobody need wait for it.
                None => true,
            };
            sent.then_some(Input::Event(Event::FirstLineSent(instance_id)))
        });
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

    /// Sends what is left, then nothing more; [`Input::Drained`] follows, after `limit_ms` at the latest.
    pub(crate) fn drain(&mut self, instance_id: i64, attempt: u32, limit_ms: Option<u64>) {
        self.rounds += 1;
        let round = self.rounds;
        let drained = Input::Drained { instance_id, attempt, round };
        let pump = match self.log(instance_id) {
            Ok(log) => log.way.to_server().cloned(),
            Err(_) => {
                // Without a journal there is nothing to send. Not awaited: the one who takes it is the caller.
                let inbox = self.inbox.clone();
                self.tasks.spawn(async move { inbox.send(drained).await });
                return;
            }
        };
        let gate = self.open.get(&instance_id).and_then(|log| match &log.way {
            Way::Server { gate, .. } => Some(gate.clone()),
            Way::Stdout(_) | Way::Nowhere => None,
        });
        let task = self.tell(async move {
            let Some((pump, gate)) = pump.zip(gate) else { return Some(drained) };
            let began = Instant::now();
            let all = pump.drained(limit_ms.map(Duration::from_millis)).await;
            gate.send_replace(Gate::Ended);
            pump.stop().await;
            if !all {
                let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(instance_id, waited_ms, "not all lines of the log went to the server");
            }
            Some(drained)
        });
        if let Some(log) = self.open.get_mut(&instance_id) {
            log.drain = Some(Drain { attempt, limit_ms, round, _task: task });
        }
    }

    /// What the tasks of another worker's instance say of its log (`logConfig`).
    pub(crate) fn set_foreign(&mut self, instance_id: i64, log_config: Option<String>) {
        self.foreign.insert(instance_id, log_config);
    }

    /// What was being drained is needed again; `open` lets it flow. On a way of its own: the drain may be shutting the old one
    /// at this moment.
    pub(crate) fn take_back(&mut self, instance_id: i64) {
        if self.open.get_mut(&instance_id).is_some_and(|log| log.drain.take().is_some()) {
            self.send_anew(instance_id);
        }
    }

    /// Whether the end of this drain counts: not when the log was taken back between its last line and now.
    pub(crate) fn drain_ended(&mut self, instance_id: i64, round: u64) -> bool {
        match self.open.get_mut(&instance_id) {
            Some(log) => match &log.drain {
                Some(drain) if drain.round == round => {
                    log.drain = None;
                    true
                }
                _ => false,
            },
            // Closed, or a log that could not be opened.
            None => true,
        }
    }

    /// The server's copy is gone: everything is sent again. Durable when it returns.
    pub(crate) async fn rewind(&mut self, instance_id: i64) {
        let mut again = None;
        if let Some(log) = self.open.get_mut(&instance_id) {
            let Some(pump) = log.way.to_server() else { return };
            // A drain whose end nobody has heard of yet begins anew on a way of its own, also if it has sent its last line.
            again = log.drain.take().map(|drain| (drain.attempt, drain.limit_ms, log.way.is_held()));
            if again.is_some() {
                // Before it hears of the rewind: else it would send everything, too.
                log.way.set(Gate::Ended);
            }
            pump.rewind();
        }
        if let Err(error) = self.journals.cursors().rewind(instance_id, SINK).await {
            tracing::error!(instance_id, %error, "failed to store that a log must be sent again; after a crash it may not be");
        }
        if let Some((attempt, limit_ms, held)) = again {
            self.send_anew(instance_id);
            if let Some(log) = self.open.get(&instance_id).filter(|_| !held) {
                log.way.set(Gate::Open);
            }
            self.drain(instance_id, attempt, limit_ms);
        }
    }

    /// Closes the log with the name of the final status. False if the file does not say so: the next start tries again.
    pub(crate) fn close(&mut self, instance_id: i64, status: &str) -> bool {
        let closed = match self.log(instance_id) {
            Ok(log) => log.journal.close(status),
            Err(why) => {
                tracing::error!(instance_id, %why, "failed to close the log of an instance");
                false
            }
        };
        self.foreign.remove(&instance_id);
        if let Some(log) = self.open.remove(&instance_id) {
            self.tasks.spawn(log.way.stop(LAST_PRINTED));
        }
        closed
    }

    /// The server is there (again): what waits for its back-off to pass goes out now.
    pub(crate) fn kick(&self) {
        for pump in self.open.values().filter_map(|log| log.way.to_server()) {
            pump.kick();
        }
    }

    /// Ends the sending of every log; batches under way may end.
    pub(crate) async fn stop(&mut self) {
        let stopping = self.open.drain().map(|(_, log)| log.way.stop(LAST_BATCHES));
        // A batch that is not answered by then is sent again by the next start.
        let _ = tokio::time::timeout(LAST_BATCHES, futures_util::future::join_all(stopping)).await;
    }

    /// The log, opened if need be and held until somebody says otherwise.
    fn log(&mut self, instance_id: i64) -> Result<&mut Log, String> {
        if !self.open.contains_key(&instance_id) {
            let journal = match self.found.remove(&instance_id) {
                Some(journal) => journal,
                None => self.journals.journal(instance_id).map_err(|error| error.to_string())?,
            };
            let settings = self.settings(instance_id);
            let way = self.way(&journal, settings, None);
            self.open.insert(instance_id, Log { journal, settings, way, first_line: None, drain: None });
        }
        self.open.get_mut(&instance_id).ok_or_else(|| "the log was closed".to_owned())
    }

    /// What the job says of its log. An instance that was just closed has nothing more to say.
    fn settings(&self, instance_id: i64) -> LogSettings {
        let record = self.shared.record(instance_id);
        let own = record.as_ref().map(|record| record.dispatch.log_config.as_deref());
        LogSettings::read(own.unwrap_or_else(|| self.foreign.get(&instance_id)?.as_deref()))
    }

    /// A way in place of one that has ended, or is no longer the one that the job wants. The old one sends no further batch, and
    /// the new one none before the old one's last is answered or given up: what is under way is not sent beside it.
    fn send_anew(&mut self, instance_id: i64) {
        let Some(log) = self.open.get(&instance_id) else { return };
        log.way.set(Gate::Ended);
        let way = self.way(&log.journal, log.settings, log.way.pump());
        if let Some(log) = self.open.get_mut(&instance_id) {
            let old = std::mem::replace(&mut log.way, way);
            self.tasks.spawn(old.stop(Duration::ZERO));
        }
    }

    /// Where the lines go; to the server not before somebody opens the gate. `before`: the pump in whose place it comes.
    fn way(&self, journal: &Arc<Journal>, settings: LogSettings, before: Option<&Pump>) -> Way {
        journal.keep(settings.keep());
        let cursors = self.journals.cursors().clone();
        if settings.is_sent() {
            let (gate, gated) = watch::channel(Gate::Held);
            let sink = ReportLogSink::new(self.collector.clone(), gated);
            let pump = Pump::spawn_after(before, journal.clone(), Arc::new(sink), cursors, PumpOptions::default());
            Way::Server { gate, pump: Arc::new(pump) }
        } else if settings.is_printed() {
            let sink = Arc::new(StdoutSink);
            let pump = Pump::spawn_after(before, journal.clone(), sink, cursors, PumpOptions::default());
            Way::Stdout(Arc::new(pump))
        } else {
            Way::Nowhere
        }
    }

    /// Sends what the future gives to the driver.
    fn tell(&self, input: impl Future<Output = Option<Input>> + Send + 'static) -> AbortOnDropHandle<()> {
        let inbox = self.inbox.clone();
        AbortOnDropHandle::new(self.tasks.spawn(async move {
            if let Some(input) = input.await {
                // A closed channel means that the worker has ended.
                let _ = inbox.send(input).await;
            }
        }))
    }
}
