//! The one task that owns the core.
//!
//! ```text
//! requests, answers, ends of processors --Input--> handle (core) -> commit (store) -> answer runJob -> act
//! ```
//!
//! Inputs that wait are handled together and their writes are made durable in one transaction. When the store fails,
//! nothing is carried out and the order stays: dispatches are answered 500 and forgotten, everything else is held and
//! committed again until it works; meanwhile heartbeats say `overload`, so that the server sends its jobs elsewhere.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{
    Shutdown,
    logs::Logs,
    metrics::HostMetrics,
    records::{Durable, Records},
    reports::{Report, Reports},
    runs::{Runs, StartRun},
    shared::Shared,
};
use crate::{
    client::{Discovery, Found, now_ms},
    core::{Action, Core, Dispatch, Event, InstanceInfo, Now, Output, Write},
    openapi::OpenApi,
    processor::StopReason,
    server::{Peers, StoreProblem},
    wire::WorkerHeartbeat,
};

/// Inputs handled with one transaction at most.
const BATCH: usize = 256;
/// Pause before a failed transaction is tried again.
const STORE_RETRY: Duration = Duration::from_millis(500);
/// Heartbeats while the store fails.
const STUCK_HEARTBEAT: Duration = Duration::from_secs(10);
/// Longest wait for the heartbeat that says goodbye.
const GOODBYE: Duration = Duration::from_millis(1200);
/// A clock this far off is worth a warning.
const SKEW_WORTH_A_WARNING_MS: i64 = 10_000;
const SKEW_WARNING_EVERY: Duration = Duration::from_secs(600);

/// Monotonic and wall time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono_ms, wall_ms: now_ms() }
    }

    fn at(&self, mono_ms: u64) -> Instant {
        self.origin + Duration::from_millis(mono_ms)
    }
}

/// What comes to the driver.
pub(crate) enum Input {
    Event(Event),
    /// A `runJob`, answered when its record is durable.
    Dispatch { dispatch: Box<Dispatch>, request: String, answer: oneshot::Sender<Result<(), StoreProblem>> },
    /// A discovery round ended.
    Discovered(Result<Found, String>),
    /// A heartbeat was answered.
    Heartbeat { ok: bool, overload: bool },
    /// A status report was answered.
    Reported { instance_id: i64, event: Event },
    Shutdown(Shutdown),
}

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) core: Core,
    pub(crate) records: Records,
    pub(crate) reports: Reports,
    pub(crate) runs: Runs,
    pub(crate) logs: Logs,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) openapi: Option<OpenApi>,
    pub(crate) metrics: HostMetrics,
    pub(crate) peers: Arc<Peers>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) tasks: TaskTracker,
    /// Closed instances whose log was closed too; noted with the next transaction.
    pub(crate) logs_closed: Vec<i64>,
}

/// Outputs whose writes could not be made durable yet.
struct Held {
    batch: Batch,
    retry_at: Instant,
    heartbeat_at: Instant,
}

/// Outputs that belong together.
#[derive(Default)]
struct Batch {
    outputs: Vec<Output>,
    requests: Vec<(i64, String)>,
    answers: Vec<oneshot::Sender<Result<(), StoreProblem>>>,
    /// The owner may have changed: logs follow it when the actions are carried out.
    owner_seen: bool,
}

/// A worker that was asked to end.
struct Leaving {
    how: Shutdown,
    said_goodbye: bool,
    since: Instant,
}

pub(crate) struct Driver {
    p: Parts,
    waiting: VecDeque<Input>,
    held: Option<Held>,
    leaving: Option<Leaving>,
    skew_warned: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let waiting = VecDeque::from([Input::Event(Event::Tick)]);
        Self { p: parts, waiting, held: None, leaving: None, skew_warned: None }
    }

    pub(crate) fn processors(&self) -> Vec<String> {
        self.p.runs.names()
    }

    /// Runs until a shutdown is complete.
    pub(crate) async fn run(mut self) {
        while !self.may_leave() {
            self.receive().await;
            if let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.since.elapsed() >= GOODBYE) {
                // The server does not listen; it notices by itself.
                leaving.said_goodbye = true;
            }
            if self.held.is_some() {
                self.refuse_dispatches();
                self.try_held().await;
            }
            while self.held.is_none() && !self.waiting.is_empty() {
                self.step().await;
            }
            self.publish();
        }
        self.p.logs.stop().await;
    }

    /// Waits for inputs or the time of something due, and takes all inputs that are there.
    async fn receive(&mut self) {
        if self.waiting.is_empty() || self.held.is_some() {
            let until = self.wake_at();
            let wake = async {
                match until {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Inputs first: what is due is done by handling them as well.
                biased;
                input = self.p.inputs.recv() => self.waiting.extend(input),
                () = wake => self.waiting.push_back(Input::Event(Event::Tick)),
            }
        }
        // Bounded, so that a flood of requests cannot keep the driver from working.
        for _ in 0..BATCH {
            let Ok(input) = self.p.inputs.try_recv() else { break };
            self.waiting.push_back(input);
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let due = match &self.held {
            Some(held) => Some(held.retry_at),
            None => self.p.core.wake_at().map(|ms| self.p.clock.at(ms)),
        };
        let leaving = self.leaving.as_ref().filter(|l| !l.said_goodbye).map(|l| l.since + GOODBYE);
        due.into_iter().chain(leaving).min()
    }

    /// Handles some of the waiting inputs: either dispatches or others, because only dispatches can be undone.
    async fn step(&mut self) {
        let dispatches = matches!(self.waiting.front(), Some(Input::Dispatch { .. }));
        let before = dispatches.then(|| self.p.core.clone());
        let mut batch = Batch::default();
        while batch.outputs.len() < BATCH
            && self.waiting.front().is_some_and(|input| matches!(input, Input::Dispatch { .. }) == dispatches)
        {
            let Some(input) = self.waiting.pop_front() else { break };
            self.handle(input, &mut batch);
            // What the core writes behind a rewind must not be durable before the rewind is done.
            let rewinds = |output: &Output| output.actions.iter().any(|a| matches!(a, Action::RewindLog(_)));
            if batch.outputs.last().is_some_and(rewinds) {
                break;
            }
        }
        match (self.commit(&batch).await, before) {
            (Ok(()), _) => self.carry_out(batch).await,
            (Err(why), Some(before)) => {
                self.p.core = before;
                self.p.shared.counters.dispatches_not_stored.add(batch.answers.len() as u64);
                for answer in batch.answers {
                    // The server may have hung up.
                    let _ = answer.send(Err(StoreProblem(why.clone())));
                }
            }
            (Err(_), None) => {
                let now = Instant::now();
                self.held = Some(Held { batch, retry_at: now + STORE_RETRY, heartbeat_at: now });
            }
        }
    }

    fn handle(&mut self, input: Input, batch: &mut Batch) {
        let now = self.p.clock.now();
        let event = match input {
            Input::Event(event) => event,
            Input::Dispatch { dispatch, request, answer } => {
                let id = dispatch.instance_id;
                let known = self.p.core.instance(now, id).is_some();
                let output = self.p.core.handle(now, Event::RunJob(*dispatch));
                let counters = &self.p.shared.counters;
                if known {
                    counters.duplicates_ignored.one();
                } else if self.p.core.instance(now, id).is_none() {
                    counters.overload_ignored.one();
                }
                batch.requests.push((id, request));
                batch.answers.push(answer);
                batch.outputs.push(output);
                return;
            }
            Input::Discovered(found) => {
                batch.owner_seen = true;
                self.discovered(found)
            }
            Input::Heartbeat { ok, overload } => {
                self.heartbeat_answered(ok, overload);
                Event::HeartbeatDone { ok }
            }
            Input::Reported { instance_id, event } => {
                self.p.reports.answered(instance_id);
                event
            }
            Input::Shutdown(how) => {
                match &mut self.leaving {
                    Some(leaving) => leaving.how = how,
                    None => self.leaving = Some(Leaving { how, said_goodbye: false, since: Instant::now() }),
                }
                Event::Drain(true)
            }
        };
        match &event {
            Event::StopInstance(id) => self.p.reports.stopped(*id),
            Event::ProcessorEnded { instance_id, attempt, .. } => self.p.runs.ended(*instance_id, *attempt),
            Event::Drain(on) => self.p.shared.state.write().draining = *on,
            _ => {}
        }
        batch.outputs.push(self.p.core.handle(now, event));
        if batch.owner_seen {
            self.p.shared.owner.send_replace(self.p.core.owner().cloned());
        }
    }

    fn discovered(&mut self, found: Result<Found, String>) -> Event {
        let counters = &self.p.shared.counters;
        match found {
            Ok(found) => {
                counters.discoveries.one();
                if found.skew_ms.is_some() {
                    self.note_skew(found.skew_ms);
                }
                self.p.shared.state.write().discovery_error = None;
                Event::Discovered(Ok(found.owner))
            }
            Err(why) => {
                counters.discoveries_failed.one();
                self.p.shared.state.write().discovery_error = Some(why.clone());
                Event::Discovered(Err(why))
            }
        }
    }

    fn note_skew(&mut self, skew_ms: Option<i64>) {
        self.p.shared.state.write().clock_skew_ms = skew_ms;
        let off = skew_ms.filter(|skew| skew.abs() > SKEW_WORTH_A_WARNING_MS);
        if let Some(skew_ms) = off
            && self.skew_warned.is_none_or(|at| at.elapsed() > SKEW_WARNING_EVERY)
        {
            self.skew_warned = Some(Instant::now());
            tracing::warn!(
                skew_ms,
                "this host's clock is {} s {} the server's; set both by NTP. {}",
                skew_ms.abs() / 1000,
                if skew_ms < 0 { "behind" } else { "ahead of" },
                if skew_ms < 0 {
                    "The server judges by this host's clock: from 60 s on it never gives this worker a job"
                } else {
                    "The server judges by this host's clock: it notices so much later that this worker is gone"
                }
            );
        }
    }

    fn heartbeat_answered(&mut self, ok: bool, overload: bool) {
        let counters = &self.p.shared.counters;
        if ok {
            counters.heartbeats.one();
            let mut state = self.p.shared.state.write();
            state.last_heartbeat = Some(Instant::now());
            state.heartbeat_overload = overload;
        } else {
            counters.heartbeats_failed.one();
        }
        if let Some(leaving) = &mut self.leaving {
            leaving.said_goodbye |= overload;
        }
    }

    /// Makes the writes of a batch durable, all or none.
    async fn commit(&mut self, batch: &Batch) -> Result<(), String> {
        let mut requests: std::collections::HashMap<i64, &String> =
            batch.requests.iter().map(|(id, text)| (*id, text)).collect();
        let mut writes: Vec<Durable> = Vec::new();
        for write in batch.outputs.iter().flat_map(|output| &output.writes) {
            let request = match write {
                Write::Put(record) => requests.remove(&record.dispatch.instance_id).cloned(),
                _ => None,
            };
            writes.push(Durable::Core { write: write.clone(), request });
        }
        if writes.is_empty() {
            return Ok(());
        }
        writes.extend(self.p.logs_closed.iter().map(|&id| Durable::LogClosed(id)));
        match self.p.records.commit(writes).await {
            Ok(()) => {
                self.p.logs_closed.clear();
                if self.p.shared.state.write().store_error.take().is_some() {
                    tracing::info!("the state store can be written again");
                }
                Ok(())
            }
            Err(error) => {
                let why = format!("the state store cannot be written: {}", chain(&error));
                self.p.shared.counters.store_failures.one();
                if self.p.shared.state.write().store_error.replace(why.clone()).is_none() {
                    tracing::error!("{why}; dispatches are refused until it can");
                }
                Err(why)
            }
        }
    }

    async fn try_held(&mut self) {
        let Some(held) = self.held.take_if(|held| held.retry_at <= Instant::now()) else { return };
        let Held { batch, heartbeat_at, .. } = held;
        if self.commit(&batch).await.is_ok() {
            return self.carry_out(batch).await;
        }
        let now = Instant::now();
        let heartbeat_at = if heartbeat_at <= now {
            self.send_heartbeat(true, u32::try_from(self.p.shared.records.read().len()).unwrap_or(u32::MAX));
            now + STUCK_HEARTBEAT
        } else {
            heartbeat_at
        };
        self.held = Some(Held { batch, retry_at: now + STORE_RETRY, heartbeat_at });
    }

    /// While the store fails no dispatch can be taken, and ticks only say again what time it is.
    fn refuse_dispatches(&mut self) {
        let why = self.p.shared.state.read().store_error.clone().unwrap_or_default();
        let waiting = std::mem::take(&mut self.waiting);
        for input in waiting {
            match input {
                Input::Dispatch { answer, .. } => {
                    self.p.shared.counters.dispatches_not_stored.one();
                    // The server may have hung up.
                    let _ = answer.send(Err(StoreProblem(why.clone())));
                }
                Input::Event(Event::Tick) => {}
                Input::Shutdown(how) => {
                    // Cannot wait for a store that may stay full for ever.
                    self.leaving = Some(Leaving { how, said_goodbye: true, since: Instant::now() });
                }
                other => self.waiting.push_back(other),
            }
        }
    }

    /// What is durable is shown and done.
    async fn carry_out(&mut self, batch: Batch) {
        for write in batch.outputs.iter().flat_map(|output| &output.writes) {
            self.show(write);
        }
        for answer in batch.answers {
            // The server may have hung up.
            let _ = answer.send(Ok(()));
        }
        for output in batch.outputs {
            let mut actions = VecDeque::from(output.actions);
            while let Some(action) = actions.pop_front() {
                self.act(action, &actions).await;
            }
        }
        if batch.owner_seen {
            let owner = self.p.core.owner().cloned();
            let changed = *self.p.shared.log_owner.borrow() != owner;
            if changed {
                self.p.shared.log_owner.send_replace(owner);
                self.p.logs.kick();
            }
        }
    }

    fn show(&self, write: &Write) {
        let mut records = self.p.shared.records.write();
        match write {
            Write::Put(record) => {
                records.insert(record.dispatch.instance_id, Arc::new((**record).clone()));
            }
            Write::Close(closed) => {
                records.remove(&closed.instance_id);
                let counters = &self.p.shared.counters;
                match closed.status.as_str() {
                    "SUCCEED" => counters.succeeded.one(),
                    "FAILED" => counters.failed.one(),
                    _ => counters.stopped.one(),
                }
            }
            Write::Owner(_) => {}
        }
    }

    async fn act(&mut self, action: Action, behind: &VecDeque<Action>) {
        match action {
            Action::Discover { current } => self.discover(current),
            Action::SendHeartbeat { overload, light_task_trackers } => self.send_heartbeat(overload, light_task_trackers),
            Action::ReportRunning { instance_id, report_time } => {
                self.report(instance_id, Report::Running { report_time });
            }
            Action::ReportFinal { instance_id, report } => self.report(instance_id, Report::Final(report)),
            Action::AskInstanceInfo(instance_id) => self.ask_instance_info(instance_id),
            Action::OpenLog { instance_id, send } => self.p.logs.open(instance_id, send),
            Action::LogLine { instance_id, level, text } => self.p.logs.line(instance_id, level, &text),
            Action::StartProcessor { instance_id, attempt, resumed, time_left_ms } => {
                let stop_first = behind.iter().find_map(|action| match action {
                    Action::StopProcessor { instance_id: stopped, reason } if *stopped == instance_id => Some(*reason),
                    _ => None,
                });
                self.start(instance_id, attempt, resumed, time_left_ms, stop_first);
            }
            Action::StopProcessor { instance_id, reason } => self.p.runs.stop(instance_id, reason),
            Action::DrainLog { instance_id, attempt, limit_ms } => self.p.logs.drain(instance_id, attempt, limit_ms),
            Action::RewindLog(instance_id) => self.p.logs.rewind(instance_id).await,
            Action::CloseLog { instance_id, status } => {
                self.p.logs.close(instance_id, status);
                self.p.logs_closed.push(instance_id);
            }
            Action::Warn(text) => tracing::warn!("{text}"),
        }
    }

    fn discover(&self, current: Option<String>) {
        let (discovery, peers, inbox) = (self.p.discovery.clone(), self.p.peers.clone(), self.p.inbox.clone());
        self.p.tasks.spawn(async move {
            let found = discovery.run(current.as_deref()).await;
            if let Ok(found) = &found {
                // Before the first heartbeat: the server may dispatch a millisecond after it.
                peers.set_owner(&found.owner.transport).await;
            }
            // A closed channel means that the worker has ended; so below.
            let _ = inbox.send(Input::Discovered(found)).await;
        });
    }

    fn send_heartbeat(&self, overload: bool, open: u32) {
        let (shared, metrics, inbox) = (self.p.shared.clone(), self.p.metrics.clone(), self.p.inbox.clone());
        self.p.tasks.spawn(async move {
            let ok = heartbeat(&shared, &metrics, overload, open).await;
            let _ = inbox.send(Input::Heartbeat { ok, overload }).await;
        });
    }

    fn report(&mut self, instance_id: i64, report: Report) {
        match self.p.shared.record(instance_id) {
            Some(record) => self.p.reports.submit(record, report),
            // The core reports only what it has; closed in the same batch means that nobody waits for an answer.
            None => tracing::debug!(instance_id, "a report of an instance that is closed already is left out"),
        }
    }

    fn start(
        &mut self,
        instance_id: i64,
        attempt: u32,
        resumed: bool,
        time_left_ms: Option<u64>,
        stop_first: Option<StopReason>,
    ) {
        let log = self.p.logs.logger(instance_id).map_err(|why| format!("failed to open the log of the instance: {why}"));
        let Some(record) = self.p.shared.record(instance_id) else {
            return tracing::error!(instance_id, "the record of an instance that is to start is missing");
        };
        let worker_address = self.p.shared.address.clone();
        self.p.runs.start(StartRun { record, attempt, resumed, time_left_ms, worker_address, log, stop_first });
    }

    fn ask_instance_info(&self, instance_id: i64) {
        let (api, shared, inbox) = (self.p.openapi.clone(), self.p.shared.clone(), self.p.inbox.clone());
        self.p.tasks.spawn(async move {
            let info = instance_info(api, &shared, instance_id).await;
            let _ = inbox.send(Input::Event(Event::InstanceInfo { instance_id, info })).await;
        });
    }

    /// True when a shutdown is complete.
    fn may_leave(&self) -> bool {
        let Some(leaving) = &self.leaving else { return false };
        let said = leaving.said_goodbye || self.p.core.owner().is_none();
        let empty = self.p.shared.records.read().is_empty() && self.p.runs.len() == 0;
        said && (leaving.how == Shutdown::Detach || empty)
    }

    fn publish(&self) {
        self.p.shared.state.write().running = self.p.runs.len();
        self.p.shared.changed();
    }
}

async fn heartbeat(shared: &Shared, metrics: &HostMetrics, overload: bool, open: u32) -> bool {
    let owner = shared.owner.borrow().clone();
    let Some(owner) = owner else { return false };
    let config = &shared.config;
    let message = WorkerHeartbeat {
        worker_address: shared.address.clone(),
        app_name: config.app.clone(),
        app_id: owner.app_id,
        container_infos: [],
        version: config.version.clone(),
        protocol: "HTTP".to_owned(),
        tag: config.tag.clone(),
        client: config.client.clone(),
        light_task_tracker_num: i32::try_from(open).unwrap_or(i32::MAX),
        heavy_task_tracker_num: 0,
        system_metrics: metrics.get().await,
        overload,
        // Last: the server drops a heartbeat that is older than the one it has.
        heartbeat_time: now_ms(),
    };
    let sent = shared.transport.tell(&owner.transport, "/server/workerHeartbeat", &message).await;
    if let Err(why) = &sent {
        tracing::debug!(%why, "a heartbeat was not taken");
    }
    sent.is_ok()
}

async fn instance_info(
    api: Option<OpenApi>,
    shared: &Shared,
    instance_id: i64,
) -> Result<Option<InstanceInfo>, String> {
    let app_id = shared.owner.borrow().as_ref().map(|owner| owner.app_id);
    let (Some(api), Some(app_id)) = (api, app_id) else { return Err("no server is known now".to_owned()) };
    match api.fetch_instance_info(app_id, instance_id).await {
        Ok(info) => Ok(Some(InstanceInfo {
            status: info.status,
            task_tracker_address: info.task_tracker_address,
            finished_at: info.finished_time,
        })),
        Err(error) if error.instance_unknown() => Ok(None),
        Err(error) => Err(chain(&error)),
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
