//! The loop of one instance: events, one transaction, then what follows from it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use testrig_joblog::Level;
use testrig_store::{Store, StoreError};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Handle, Inner, Input, deps::TrackerStart, results::StoredResults};
use crate::{
    ProcessResult,
    causes::with_causes,
    processor::StopReason,
    tasks::{
        api::{PeerError, ResultSource, StartTask, TrackerEnd, is_frequent},
        table::Table,
        tracker::{Action, Answer, End, Event, Output, Recovery, Spec, StartTicket, Tracker, why_it_ends},
    },
};

/// Events of one transaction.
const BATCH: usize = 1_024;
/// Tasks on their way to one worker at the same time.
const AT_ONCE: usize = 8;
/// A table that cannot be written is tried again as often.
const TABLE_RETRY: Duration = Duration::from_secs(1);
/// A table that cannot be opened is tried so many times before the instance has failed.
const OPEN_TRIES: u32 = 10;
/// Tasks that are being handed over to other workers when the instance ends are given this time, so that no stop overtakes
/// them. The own worker is told at once.
const LAST_STARTS: Duration = Duration::from_secs(3);

pub(super) struct Driver {
    inner: Arc<Inner>,
    start: TrackerStart,
    handle: Handle,
    events: mpsc::Receiver<Input>,
    /// Tasks on their way to other workers.
    starts: JoinSet<()>,
    /// Tasks on their way to the own worker, and questions: of no use when the instance has ended.
    passing: JoinSet<()>,
    told_to_stop: bool,
}

/// What a transaction gives back.
struct Turn {
    tracker: Box<Tracker>,
    answers: Vec<Answer>,
    output: Output,
}

impl Driver {
    pub(super) fn new(inner: Arc<Inner>, start: TrackerStart, handle: Handle, events: mpsc::Receiver<Input>) -> Self {
        Self { inner, start, handle, events, starts: JoinSet::new(), passing: JoinSet::new(), told_to_stop: false }
    }

    pub(super) async fn run(mut self) -> TrackerEnd {
        let deps = &self.inner.deps;
        let spec = match Spec::new(&deps.address, &self.start.request, deps.options) {
            Ok(spec) => Spec { attempt: self.start.attempt, ..spec },
            Err(why) => return failed(format!("init TaskTracker failed, reason: {why}")),
        };
        let store = match self.open().await {
            Ok(store) => store,
            Err(why) => return failed(format!("init TaskTracker failed, reason: {why}")),
        };
        let end = self.own(&spec, &store).await;
        let used = self.handle.view.lock().used.clone();
        // Before the own worker is told to stop, so that nothing follows.
        self.passing.shutdown().await;
        let starts = &mut self.starts;
        let last = async {
            let all = async { while starts.join_next().await.is_some() {} };
            if tokio::time::timeout(LAST_STARTS, all).await.is_err() {
                starts.shutdown().await;
            }
        };
        self.inner.stops.stop(spec.info.instance_id, &spec.own, &used, last).await;
        self.inner.deps.table.sweep();
        TrackerEnd {
            result: ProcessResult { success: end.success, message: end.result, retryable: false },
            appended_context: end.context,
            progress: crate::tasks::api::Progress {
                total: end.counts.0,
                succeeded: end.counts.1,
                failed: end.counts.2,
                alert: None,
            },
        }
    }

    async fn open(&self) -> Result<Store, String> {
        let mut tries = 1;
        loop {
            match self.inner.deps.table.open().await {
                Ok(store) => return Ok(store.clone()),
                Err(error) if tries < OPEN_TRIES && self.start.stop.reason().is_none() && error.is_passing() => {
                    tries += 1;
                    tokio::time::sleep(TABLE_RETRY).await;
                }
                Err(error) => return Err(with_causes(&error)),
            }
        }
    }

    /// From the first transaction to the end.
    async fn own(&mut self, spec: &Spec, store: &Store) -> End {
        let policy = (self.inner.deps.restart_policy)(&self.start.request);
        let mut recovery = self.start.resumed.then_some(Recovery::Restarted(policy));
        let deadline = self.start.time_left_ms.map(|left| (self.inner.deps.clock)().mono_ms.saturating_add(left));
        let frequent = is_frequent(&self.start.request.time_expression_type);
        let mut tracker: Option<Box<Tracker>> = None;
        loop {
            let batch = match &tracker {
                Some(tracker) => self.wait(tracker.wake_at(), deadline).await,
                None => Vec::new(),
            };
            let (inputs, mut events): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|input| (input.answer, input.event)).unzip();
            if let Some(reason) = self.stop_reason(deadline) {
                events.push(Event::Stop(reason));
            }
            let lane = self.inner.deps.lane.clone();
            let silent = if frequent { (self.inner.deps.server_silent_ms)(spec.info.instance_id) } else { 0 };
            let (clock, spec_now) = (self.inner.deps.clock.clone(), spec.clone());
            let held = tracker.take();
            let turn = store
                .write(move |db| {
                    let now = clock();
                    let table = Table::new(db, &lane, spec_now.info.instance_id);
                    let mut output = Output::default();
                    let mut tracker = match held {
                        Some(tracker) => tracker,
                        None => Box::new(enter(spec_now, &table, now, recovery, &mut output)?),
                    };
                    let mut answers = Vec::with_capacity(events.len());
                    for event in events {
                        answers.push(tracker.handle(&table, now, event, &mut output)?);
                    }
                    tracker.settle(&table, now, silent, &mut output)?;
                    Ok(Turn { tracker, answers, output })
                })
                .await;
            match turn {
                Ok(turn) => {
                    recovery = None;
                    self.publish(&turn.tracker);
                    for (waiter, answer) in inputs.into_iter().zip(turn.answers) {
                        if let Some(waiter) = waiter {
                            // Whoever asked may have stopped waiting.
                            let _ = waiter.send(answer);
                        }
                    }
                    self.act(turn.output, store);
                    if let Some(end) = turn.tracker.end() {
                        return end.clone();
                    }
                    tracker = Some(turn.tracker);
                }
                Err(error) => {
                    for waiter in inputs.into_iter().flatten() {
                        let _ = waiter.send(Err(PeerError::Unreachable(with_causes(&error))));
                    }
                    if let Some(end) = self.cannot_write(&error, deadline).await {
                        return end;
                    }
                    // What the tracker thought is not what the table has: it is read again.
                    recovery = recovery.or(Some(Recovery::Rolledback));
                }
            }
        }
    }

    /// Waits for events, the stop or the time; takes all events that are there.
    async fn wait(&mut self, wake_at: Option<u64>, deadline: Option<u64>) -> Vec<Input> {
        let now = (self.inner.deps.clock)().mono_ms;
        let until = [wake_at, deadline].into_iter().flatten().min();
        let pause = until.map_or(Duration::from_secs(60), |at| Duration::from_millis(at.saturating_sub(now)));
        let mut batch = Vec::new();
        let stop = self.start.stop.clone();
        tokio::select! {
            // First: once raised nothing else matters.
            biased;
            _ = stop.raised(), if !self.told_to_stop => {}
            taken = self.events.recv_many(&mut batch, BATCH) => debug_assert!(taken > 0, "the handle keeps it open"),
            () = tokio::time::sleep(pause) => {}
        }
        while self.starts.try_join_next().is_some() || self.passing.try_join_next().is_some() {}
        batch
    }

    fn stop_reason(&mut self, deadline: Option<u64>) -> Option<StopReason> {
        let passed = deadline.is_some_and(|at| (self.inner.deps.clock)().mono_ms >= at);
        let reason = self.start.stop.reason().or(passed.then_some(StopReason::TimedOut))?;
        (!std::mem::replace(&mut self.told_to_stop, true)).then_some(reason)
    }

    /// Tells that the table cannot be written, and waits. An instance that shall stop does not wait for it.
    async fn cannot_write(&mut self, error: &StoreError, deadline: Option<u64>) -> Option<End> {
        let text = format!("the tasks of the instance cannot be written: {}", with_causes(error));
        tracing::error!(instance_id = self.start.request.instance_id, "{text}; it is tried again");
        self.start.log.warn(format!("{text}; it is tried again"));
        if !error.is_passing() {
            return Some(ended(text, false));
        }
        self.told_to_stop = false;
        if let Some(reason) = self.stop_reason(deadline) {
            return Some(ended(format!("{}; {text}", why_it_ends(reason)), reason == StopReason::Stopped));
        }
        tokio::time::sleep(TABLE_RETRY).await;
        None
    }

    fn publish(&self, tracker: &Tracker) {
        let mut view = self.handle.view.lock();
        view.progress = tracker.progress();
        view.started_at = tracker.started_at();
        view.stages = tracker.stages();
        view.frequent = tracker.is_frequent();
        view.firings = if view.frequent { tracker.firings() } else { Vec::new() };
        view.runs = tracker.run_keys();
        if view.used.len() != tracker.used_workers().len() {
            view.used = tracker.used_workers().to_vec();
        }
    }

    fn act(&mut self, output: Output, store: &Store) {
        let mut starts: BTreeMap<String, Vec<Start>> = BTreeMap::new();
        for action in output.actions {
            match action {
                Action::Start { ticket, task, results } => {
                    let results = results.map(|(run, root)| -> Arc<dyn ResultSource> {
                        Arc::new(StoredResults { store: store.clone(), run, root })
                    });
                    starts.entry(ticket.address.clone()).or_default().push((ticket, task, results));
                }
                Action::AskCluster => self.ask_cluster(),
                Action::Log(level, text) => {
                    let level = if level >= 3 { Level::Warn } else { Level::Info };
                    self.start.log.log(level, "tracker", &text);
                }
                Action::Sweep => self.inner.deps.table.sweep(),
                // The loop sees it in the tracker.
                Action::Finish(_) => {}
            }
        }
        for (address, tasks) in starts {
            self.hand_over(address, tasks);
        }
    }

    fn hand_over(&mut self, address: String, tasks: Vec<Start>) {
        let (peers, inbox) = (self.inner.deps.peers.clone(), self.handle.inbox.clone());
        let own = address == self.inner.deps.address;
        let requests = if own { &mut self.passing } else { &mut self.starts };
        requests.spawn(async move {
            let (peers, inbox, address) = (&peers, &inbox, &address);
            let each = |(ticket, task, results): Start| async move {
                if let Err(error) = peers.start_task(address, *task, results).await {
                    // A loop that is gone needs no answer.
                    let _ = inbox.send(Input { event: Event::StartFailed { ticket, error }, answer: None }).await;
                }
            };
            futures_util::stream::iter(tasks).for_each_concurrent(AT_ONCE, each).await;
        });
    }

    fn ask_cluster(&mut self) {
        let (cluster, inbox) = (self.inner.deps.cluster.clone(), self.handle.inbox.clone());
        let job_id = self.start.request.job_id;
        self.passing.spawn(async move {
            let answer = cluster.workers(job_id).await;
            let _ = inbox.send(Input { event: Event::Cluster(answer), answer: None }).await;
        });
    }
}

type Start = (StartTicket, Box<StartTask>, Option<Arc<dyn ResultSource>>);

/// The tracker as the table knows it, or a new one.
fn enter(
    spec: Spec,
    table: &Table<'_>,
    now: crate::core::Now,
    recovery: Option<Recovery>,
    output: &mut Output,
) -> rusqlite::Result<Tracker> {
    if let Some(recovery) = recovery
        && let Some(tracker) = Tracker::recover(spec.clone(), table, now, recovery, output)?
    {
        return Ok(tracker);
    }
    Tracker::start(spec, table, now, output)
}

fn failed(text: String) -> TrackerEnd {
    TrackerEnd {
        result: ProcessResult::rejected(text),
        appended_context: BTreeMap::new(),
        progress: crate::tasks::api::Progress::default(),
    }
}

fn ended(result: String, stopped: bool) -> End {
    End { success: false, result, stopped, counts: (0, 0, 0), context: BTreeMap::new() }
}
