//! The one task that owns the core.
//!
//! ```text
//! requests, answers, ends of processors --Input--> handle (core) -> commit (store) -> answer runJob -> act
//! ```
//!
//! Inputs that wait are handled together and their writes are made durable in one transaction. When the store fails,
//! nothing is carried out and the order stays: dispatches are answered 500 and forgotten, everything else is held and
//! committed again until it works; meanwhile heartbeats say `overload`, so that the server sends its jobs elsewhere.

mod act;
mod answers;
mod durable;
mod foreign;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use testrig_joblog::Level;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use self::foreign::Foreign;
use super::{
    Shutdown, clock::ServerClock, logs::Logs, metrics::HostMetrics, records::Records, reports::Reports, runs::Runs,
    shared::Shared, task_logs::Given,
};
use crate::{
    JobLogger,
    client::{Discovery, Found, now_ms},
    core::{Action, Core, Dispatch, Event, Now, Output},
    openapi::OpenApi,
    server::{Peers, StoreProblem},
};

/// Inputs handled with one transaction at most.
const BATCH: usize = 256;
/// Time between transactions while inputs come more often: what arrives meanwhile shares the next one. The first input
/// after a pause never waits.
const PACE: Duration = Duration::from_millis(20);
/// So many inputs are enough for a transaction and wait no longer.
const ENOUGH: usize = 8;
/// Pause before a failed transaction is tried again.
const STORE_RETRY: Duration = Duration::from_millis(500);
/// Heartbeats while the store fails.
const STUCK_HEARTBEAT: Duration = Duration::from_secs(10);
/// Longest wait for the heartbeat that says goodbye.
const GOODBYE: Duration = Duration::from_millis(1200);
/// How long reports of cancelled instances may take.
const LAST_REPORTS: Duration = Duration::from_secs(10);
/// How long tasks of other workers' instances may take to end when everything is cancelled. What has not ended then is cut, and
/// its tracker hears of it from the next start, or takes this worker for lost.
const LAST_TASKS: Duration = Duration::from_secs(30);
/// A clock this far off is worth a warning.
const SKEW_WORTH_A_WARNING_MS: i64 = 10_000;
const SKEW_WARNING_EVERY: Duration = Duration::from_secs(600);

/// Monotonic time, wall time, and the server's.
#[derive(Clone)]
pub(crate) struct Clock {
    origin: Instant,
    server: Arc<ServerClock>,
}

impl Clock {
    pub(crate) fn start(server: Arc<ServerClock>) -> Self {
        Self { origin: Instant::now(), server }
    }

    pub(crate) fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono_ms, wall_ms: now_ms(), server_ms: self.server.now_ms() }
    }

    fn at(&self, mono_ms: u64) -> Instant {
        self.origin + Duration::from_millis(mono_ms)
    }
}

/// What comes to the driver.
pub(crate) enum Input {
    Event(Event),
    /// A `runJob`, answered when its record is durable. `request` is its text as it came, if it brings tasks.
    Dispatch {
        dispatch: Box<Dispatch>,
        request: Option<String>,
        answer: oneshot::Sender<Result<(), StoreProblem>>,
    },
    /// A discovery round ended.
    Discovered(Result<Found, String>),
    /// A heartbeat was answered; they are numbered in the order in which they were sent.
    Heartbeat {
        number: u64,
        ok: bool,
        overload: bool,
    },
    /// A status report was answered.
    Reported {
        instance_id: i64,
        event: Event,
    },
    /// All lines of a log were sent, or its time was over.
    Drained {
        instance_id: i64,
        attempt: u32,
        round: u64,
    },
    /// A task wants to write into its instance's log; `foreign`: one of another worker's tracker.
    TaskLog {
        instance_id: i64,
        log_config: Option<String>,
        foreign: bool,
        answer: oneshot::Sender<Result<JobLogger, String>>,
    },
    /// The worker's own line in the log of an instance whose tasks run here.
    TaskLine {
        instance_id: i64,
        log_config: Option<String>,
        level: Level,
        text: String,
    },
    /// Nothing is left here of an instance that another worker owns.
    ReleaseLog(i64),
    Shutdown(Shutdown),
}

impl Input {
    /// Whether it may wait for others to share a transaction with. All that is common may; orders of the server and of
    /// people, and what only a change of the surroundings brings, are carried out at once.
    fn may_wait(&self) -> bool {
        match self {
            Self::Dispatch { .. } | Self::Reported { .. } | Self::Drained { .. } => true,
            Self::Event(event) => {
                matches!(event, Event::Tick | Event::FirstLineSent(_) | Event::ProcessorEnded { .. })
            }
            _ => false,
        }
    }

    fn is_dispatch(&self) -> bool {
        matches!(self, Self::Dispatch { .. })
    }
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
    /// Dispatches of open instances with tasks, as they came.
    pub(crate) requests: HashMap<i64, String>,
    /// Loggers that tasks have.
    pub(crate) given: Given,
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
    /// When everything was cancelled.
    cancelled: Option<Instant>,
}

pub(crate) struct Driver {
    p: Parts,
    waiting: VecDeque<Input>,
    held: Option<Held>,
    leaving: Option<Leaving>,
    foreign: Foreign,
    /// How many were sent.
    heartbeats: u64,
    skew_warned: Option<Instant>,
    /// When common inputs are handled next, if it lies in the future.
    pace: Instant,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let waiting = VecDeque::from([Input::Event(Event::Tick)]);
        Self {
            p: parts,
            waiting,
            held: None,
            leaving: None,
            foreign: Foreign::default(),
            heartbeats: 0,
            skew_warned: None,
            pace: Instant::now(),
        }
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
        tracing::debug!("no input is taken any more");
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
        while self.waiting.len() < BATCH {
            if let Ok(input) = self.p.inputs.try_recv() {
                self.waiting.push_back(input);
                continue;
            }
            let enough = self.waiting.len() >= ENOUGH || self.pace <= Instant::now();
            if enough || self.held.is_some() || !self.waiting.iter().all(Input::may_wait) {
                break;
            }
            tokio::select! {
                biased;
                Some(input) = self.p.inputs.recv() => self.waiting.push_back(input),
                () = tokio::time::sleep_until(self.pace.into()) => {}
            }
        }
        if self.waiting.iter().all(Input::may_wait) {
            // Common inputs came from different sides at the same time: in this order slots are free before they are
            // taken, and one transaction holds them all.
            self.waiting.make_contiguous().sort_by_key(Input::is_dispatch);
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let due = match &self.held {
            Some(held) => Some(held.retry_at),
            None => self.p.core.wake_at().map(|ms| self.p.clock.at(ms)),
        };
        let leaving = self.leaving.as_ref();
        let goodbye = leaving.filter(|l| !l.said_goodbye).map(|l| l.since + GOODBYE);
        let cancelled = leaving.and_then(|l| l.cancelled);
        let bounds = [LAST_REPORTS, LAST_TASKS].into_iter().filter_map(|limit| cancelled.map(|at| at + limit));
        due.into_iter().chain(goodbye).chain(bounds.filter(|at| *at > Instant::now())).min()
    }

    /// Handles some of the waiting inputs, the dispatches among them last, because only those can be undone.
    async fn step(&mut self) {
        self.pace = Instant::now() + PACE;
        let mut batch = Batch::default();
        let mut whole = true;
        while whole && batch.outputs.len() < BATCH && self.waiting.front().is_some_and(|input| !input.is_dispatch()) {
            let Some(input) = self.waiting.pop_front() else { break };
            if matches!(input, Input::Discovered(_)) && !batch.outputs.is_empty() {
                // What was meant for the owner of before leaves first: a new one lacks the logs of before.
                self.waiting.push_front(input);
                whole = false;
                break;
            }
            self.handle(input, &mut batch);
            // What the core writes behind a rewind must not be durable before the rewind is done.
            let rewinds = |output: &Output| output.actions.iter().any(|a| matches!(a, Action::RewindLog(_)));
            whole = !batch.owner_seen && !batch.outputs.last().is_some_and(rewinds);
        }
        let mut taken = Batch::default();
        if whole && self.waiting.front().is_some_and(Input::is_dispatch) {
            self.p.core.begin();
            while taken.outputs.len() < BATCH && self.waiting.front().is_some_and(Input::is_dispatch) {
                let Some(input) = self.waiting.pop_front() else { break };
                self.handle(input, &mut taken);
            }
        }
        match self.commit([&batch, &taken]).await {
            Ok(()) => {
                self.p.core.keep();
                self.carry_out(batch).await;
                self.carry_out(taken).await;
            }
            Err(why) => {
                self.p.core.undo();
                self.p.shared.counters.dispatches_not_stored.add(taken.answers.len() as u64);
                for answer in taken.answers {
                    // The server may have hung up.
                    let _ = answer.send(Err(StoreProblem(why.clone())));
                }
                if !batch.outputs.is_empty() || batch.owner_seen {
                    let now = Instant::now();
                    self.held = Some(Held { batch, retry_at: now + STORE_RETRY, heartbeat_at: now });
                }
            }
        }
    }

    fn handle(&mut self, input: Input, batch: &mut Batch) {
        let now = self.p.clock.now();
        let event = match input {
            // A worker that ends takes nothing any more.
            Input::Event(Event::Drain(_)) if self.leaving.is_some() => Event::Drain(true),
            Input::Event(event) => event,
            Input::Dispatch { dispatch, request, answer } => {
                let id = dispatch.instance_id;
                let known = self.p.core.has(id);
                let output = self.p.core.handle(now, Event::RunJob(*dispatch));
                let counters = &self.p.shared.counters;
                if known {
                    counters.duplicates_ignored.one();
                } else if !self.p.core.has(id) {
                    counters.overload_ignored.one();
                }
                batch.requests.extend(request.map(|request| (id, request)));
                batch.answers.push(answer);
                batch.outputs.push(output);
                return;
            }
            Input::Discovered(found) => {
                batch.owner_seen = true;
                self.discovered(found)
            }
            Input::Heartbeat { number, ok, overload } => {
                self.heartbeat_answered(number, ok, overload);
                Event::HeartbeatDone { ok }
            }
            Input::Reported { instance_id, event } => {
                self.p.reports.answered(instance_id);
                event
            }
            Input::Drained { instance_id, attempt, round } => {
                if !self.p.logs.drain_ended(instance_id, round) {
                    // Taken back meanwhile: a new owner gets all lines first.
                    return;
                }
                if self.released_log_sent(instance_id) {
                    return;
                }
                Event::LogDrained { instance_id, attempt }
            }
            Input::TaskLog { instance_id, log_config, foreign, answer } => {
                // The task may have been stopped meanwhile.
                let _ = answer.send(self.task_log(instance_id, log_config, foreign));
                return;
            }
            Input::TaskLine { instance_id, log_config, level, text } => {
                return self.task_line(instance_id, log_config, level, &text);
            }
            Input::ReleaseLog(instance_id) => return self.release_log(instance_id),
            Input::Shutdown(how) => {
                tracing::info!(?how, open = self.p.core.worker().open, "worker ends");
                let fresh = || Leaving { how, said_goodbye: false, since: Instant::now(), cancelled: None };
                let leaving = self.leaving.get_or_insert_with(fresh);
                leaving.how = how;
                if how == Shutdown::Cancel {
                    leaving.cancelled.get_or_insert_with(Instant::now);
                    batch.outputs.push(self.p.core.handle(now, Event::Cancel));
                    self.cancel_tasks();
                }
                self.wait_for_tasks();
                Event::Drain(true)
            }
        };
        match &event {
            Event::StopInstance(id) => self.p.reports.stopped(*id),
            Event::ProcessorEnded { instance_id, attempt, .. } => self.p.runs.ended(*instance_id, *attempt),
            Event::Drain(on) => {
                // What is on its way, or was decided before, says how it was before.
                let decided = batch.outputs.iter().flat_map(|output| &output.actions);
                let decided = decided.filter(|action| matches!(action, Action::SendHeartbeat { .. })).count();
                {
                    let mut state = self.p.shared.state.write();
                    state.draining = *on;
                    state.heartbeats_before_drain = self.heartbeats + decided as u64;
                }
                self.drain_tasks(*on);
            }
            _ => {}
        }
        batch.outputs.push(self.p.core.handle(now, event));
        if batch.owner_seen {
            self.p.shared.owner.send_replace(self.p.core.owner().cloned());
        }
    }

    /// Trackers of other workers hear of it with the next load report.
    fn drain_tasks(&self, on: bool) {
        let Some(processors) = self.p.shared.processors.clone() else { return };
        self.p.tasks.spawn(async move { processors.drain(on).await });
    }

    /// Trackers of other workers hear that their tasks have ended.
    fn cancel_tasks(&self) {
        let Some(processors) = self.p.shared.processors.clone() else { return };
        self.p.tasks.spawn(async move { processors.cancel().await });
    }

    /// Looks again when no task of another worker is left here: nothing else would wake the driver.
    fn wait_for_tasks(&self) {
        let (Some(processors), inbox) = (self.p.shared.processors.clone(), self.p.inbox.clone()) else { return };
        self.p.tasks.spawn(async move {
            processors.idle().await;
            // A closed channel means that the worker has ended.
            let _ = inbox.send(Input::Event(Event::Tick)).await;
        });
    }

    /// True when a shutdown is complete.
    fn may_leave(&self) -> bool {
        let Some(leaving) = &self.leaving else {
            return false;
        };
        let said = leaving.said_goodbye || self.p.core.owner().is_none();
        let runs = self.p.runs.len();
        let reported = self.p.shared.records.read().is_empty();
        let waited = |limit| leaving.cancelled.is_some_and(|at| at.elapsed() >= limit);
        let tasks = self.p.shared.open_tasks();
        said && match leaving.how {
            Shutdown::Drain => runs == 0 && reported && tasks == 0,
            Shutdown::Cancel => {
                let told = reported || self.p.core.owner().is_none() || waited(LAST_REPORTS);
                runs == 0 && told && (tasks == 0 || waited(LAST_TASKS))
            }
            Shutdown::Detach => true,
        }
    }

    fn publish(&self) {
        self.p.shared.state.write().running = self.p.runs.len();
        self.p.shared.changed();
    }
}
