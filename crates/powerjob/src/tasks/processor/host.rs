//! Drives the [`Machine`]: one loop that stores, then acts.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use testrig_joblog::Level;
use testrig_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    Action, Answered, Event, InstanceLogs, Machine, Options, Output, Write,
    execute::{Execution, Executor},
    receipts::Receipts,
};
use crate::{
    StopSignal,
    core::Now,
    server::Engaged,
    tasks::api::{PeerError, ResultSource, StartTask, TrackerPeer, WorkerPeer},
    worker::{Counters, Registry},
};

/// Events that wait for the loop. When it is full, whoever brings one waits.
const INBOX: usize = 4096;
/// Events of one transaction.
const BATCH: usize = 1024;
/// Whether a tracker is known is answered within this time, or counts as no.
const PROMPT: Duration = Duration::from_secs(10);
/// Pause before a failed transaction is tried again.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// What processor trackers need of the worker around them.
pub(crate) struct ProcessorDeps {
    /// The lane; several share the store.
    pub(crate) lane: String,
    /// This worker, as the server and other workers know it.
    pub(crate) address: String,
    /// Keeps the tasks of other workers' trackers.
    pub(crate) store: Store,
    /// The processors.
    pub(crate) registry: Registry,
    /// The instances' logs.
    pub(crate) logs: Arc<dyn InstanceLogs>,
    /// The way to trackers: the own address leads to this process, others over HTTP.
    pub(crate) trackers: Arc<dyn TrackerPeer>,
    /// The time.
    pub(crate) clock: Arc<dyn Fn() -> Now + Send + Sync>,
    /// Counts panics.
    pub(crate) counters: Arc<Counters>,
    /// Owner of what goes on beside the loop.
    pub(crate) tasks: TaskTracker,
    /// Numbers.
    pub(crate) options: Options,
}

/// All processor trackers of a worker. Dropping it cuts off what is at work, as a crash would; what is stored of it is taken
/// up by the next start.
pub(crate) struct ProcessorTrackers {
    address: String,
    inbox: mpsc::Sender<Input>,
    open: watch::Receiver<usize>,
    /// No more tasks are taken from other workers.
    cancelled: AtomicBool,
    _driver: AbortOnDropHandle<()>,
}

/// What comes to the loop.
enum Input {
    Event(Event),
    Start(Handed),
    /// Answered when nothing runs any more of what is to stop.
    Stop {
        instance_id: i64,
        own: bool,
        done: oneshot::Sender<()>,
    },
    /// Whether there is something of the instance from this tracker.
    Has {
        instance_id: i64,
        tracker: String,
        answer: oneshot::Sender<bool>,
    },
}

/// A task handed over within this process.
struct Handed {
    task: StartTask,
    results: Option<Arc<dyn ResultSource>>,
    /// Taken: it has a place.
    taken: oneshot::Sender<()>,
}

impl ProcessorTrackers {
    /// Takes up what the store holds, and works.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn start(deps: ProcessorDeps) -> Result<Self, StoreError> {
        let receipts = Receipts::new(deps.store, deps.lane);
        let stored = receipts.load().await?;
        let executor = Arc::new(Executor {
            address: deps.address.clone(),
            registry: deps.registry,
            logs: deps.logs,
            trackers: deps.trackers,
            counters: deps.counters,
        });
        let mut machine = Machine::new(deps.address.clone(), deps.options);
        let taken_up = stored.len();
        let output = machine.recover((deps.clock)(), stored, &|task| executor.restart_policy(task));
        if taken_up > 0 {
            tracing::info!(tasks = taken_up, "tasks of other workers' instances are taken up after a restart");
        }
        let (inbox, inputs) = mpsc::channel(INBOX);
        let (open_sender, open) = watch::channel(machine.open_tasks());
        let driver = Driver {
            machine,
            executor,
            receipts,
            clock: deps.clock,
            inbox: inbox.clone(),
            tasks: deps.tasks.clone(),
            running: HashMap::new(),
            results: HashMap::new(),
            waiting: VecDeque::new(),
            stops: HashMap::new(),
            open: open_sender,
        };
        let driver = AbortOnDropHandle::new(deps.tasks.spawn(driver.run(inputs, output)));
        Ok(Self { address: deps.address, inbox, open, cancelled: AtomicBool::new(false), _driver: driver })
    }

    /// Tasks that wait, are at work, or whose outcome is on its way.
    pub(crate) fn open_tasks(&self) -> usize {
        *self.open.borrow()
    }

    /// Has trackers of other workers send no more, as far as they can choose; or takes that back.
    pub(crate) async fn drain(&self, on: bool) {
        // A closed channel means that the worker is gone.
        let _ = self.inbox.send(Input::Event(Event::Drain(on))).await;
    }

    /// Has what is done for trackers of other workers end, and reported failed with the reason. [`Self::idle`] tells when that is
    /// done.
    pub(crate) async fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        // As above.
        let _ = self.inbox.send(Input::Event(Event::Cancel)).await;
    }

    /// Waits until there are none.
    pub(crate) async fn idle(&self) {
        // The loop ends only with this value.
        let _ = self.open.clone().wait_for(|&open| open == 0).await;
    }
}

fn ends() -> PeerError {
    PeerError::Unreachable("this worker is ending".to_owned())
}

#[async_trait]
impl WorkerPeer for ProcessorTrackers {
    async fn start_task(
        &self,
        _: &str,
        task: StartTask,
        results: Option<Arc<dyn ResultSource>>,
    ) -> Result<(), PeerError> {
        if task.task_tracker_address != self.address {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(PeerError::Refused(format!("worker {} is being ended by its operator", self.address)));
            }
            // Not acknowledged by this, but by the report that follows.
            return self.inbox.send(Input::Event(Event::Start(task))).await.map_err(|_| ends());
        }
        // The own tracker waits for a place; it would only send again.
        let (taken, place) = oneshot::channel();
        self.inbox.send(Input::Start(Handed { task, results, taken })).await.map_err(|_| ends())?;
        place.await.map_err(|_| ends())
    }

    /// The own address stands for the own tracker; whatever else is one of another worker.
    async fn stop_instance(&self, address: &str, instance_id: i64) -> Result<(), PeerError> {
        let (done, stopped) = oneshot::channel();
        let own = address == self.address;
        self.inbox.send(Input::Stop { instance_id, own, done }).await.map_err(|_| ends())?;
        stopped.await.map_err(|_| ends())
    }
}

#[async_trait]
impl Engaged for ProcessorTrackers {
    async fn has_tasks_of(&self, instance_id: i64, tracker: &str) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = self.inbox.send(Input::Has { instance_id, tracker: tracker.to_owned(), answer });
        let said = tokio::time::timeout(PROMPT, async {
            asked.await.ok()?;
            answered.await.ok()
        });
        // While the store fails nobody answers, and nothing is taken.
        said.await.ok().flatten().unwrap_or(false)
    }
}

/// The loop.
struct Driver {
    machine: Machine,
    executor: Arc<Executor>,
    receipts: Receipts,
    clock: Arc<dyn Fn() -> Now + Send + Sync>,
    inbox: mpsc::Sender<Input>,
    tasks: TaskTracker,
    /// Executions; dropped, they are cut off.
    running: HashMap<u64, Running>,
    /// What the last task of an instance reads.
    results: HashMap<(i64, String), Arc<dyn ResultSource>>,
    /// Tasks of the own tracker that wait for a place.
    waiting: VecDeque<Handed>,
    stops: HashMap<i64, Vec<oneshot::Sender<()>>>,
    open: watch::Sender<usize>,
}

struct Running {
    stop: StopSignal,
    _task: AbortOnDropHandle<()>,
}

impl Driver {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>, recovered: Output) {
        self.carry_out(recovered).await;
        loop {
            let wake = self.wake();
            let first = tokio::select! {
                // Inputs first: they do what is due as well.
                biased;
                input = inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => return,
                },
                () = wake => None,
            };
            let mut output = Output::default();
            let mut events = first.into_iter().collect::<VecDeque<_>>();
            while events.len() < BATCH
                && let Ok(input) = inputs.try_recv()
            {
                events.push_back(input);
            }
            if self.machine.wake_at().is_some_and(|at| at <= (self.clock)().mono_ms) {
                self.handle(Event::Tick, &mut output);
            }
            for input in events {
                self.take(input, &mut output);
            }
            self.place(&mut output);
            self.carry_out(output).await;
            self.open.send_if_modified(|open| {
                let now = self.machine.open_tasks();
                std::mem::replace(open, now) != now
            });
        }
    }

    fn wake(&self) -> impl Future<Output = ()> + use<> {
        let now = (self.clock)();
        let left = self.machine.wake_at().map(|at| Duration::from_millis(at.saturating_sub(now.mono_ms)));
        async move {
            match left {
                Some(left) => tokio::time::sleep_until((Instant::now() + left).into()).await,
                None => std::future::pending().await,
            }
        }
    }

    fn handle(&mut self, event: Event, output: &mut Output) {
        let more = self.machine.handle((self.clock)(), event);
        output.writes.extend(more.writes);
        output.actions.extend(more.actions);
    }

    fn take(&mut self, input: Input, output: &mut Output) {
        match input {
            Input::Event(event) => {
                if let Event::Ended { execution, .. } = &event {
                    self.running.remove(execution);
                }
                self.handle(event, output);
            }
            Input::Start(handed) => self.waiting.push_back(handed),
            Input::Has { instance_id, tracker, answer } => {
                // Whoever asked may have gone.
                let _ = answer.send(self.machine.has_part(instance_id, &tracker));
            }
            Input::Stop { instance_id, own, done } => {
                self.stops.entry(instance_id).or_default().push(done);
                if !own {
                    return self.handle(Event::StopForOthers(instance_id), output);
                }
                // What waits for a place is of before the stop.
                self.waiting.retain(|handed| handed.task.instance.instance_id != instance_id);
                self.results.retain(|(id, _), _| *id != instance_id);
                self.handle(Event::Stop(instance_id), output);
            }
        }
    }

    /// Gives places to tasks of the own tracker, in their order.
    fn place(&mut self, output: &mut Output) {
        let mut full = VecDeque::new();
        while let Some(handed) = self.waiting.pop_front() {
            if handed.taken.is_closed() {
                continue;
            }
            let (id, tracker) = (handed.task.instance.instance_id, handed.task.task_tracker_address.clone());
            if !self.machine.has_room(id, &tracker) {
                full.push_back(handed);
                continue;
            }
            let Handed { task, results, taken } = handed;
            if let Some(results) = results {
                self.results.insert((id, task.task_id.clone()), results);
            }
            self.handle(Event::Start(task), output);
            // Whoever handed it over may have gone.
            let _ = taken.send(());
        }
        self.waiting = full;
    }

    async fn carry_out(&mut self, output: Output) {
        if !output.writes.is_empty() {
            self.store(output.writes).await;
        }
        for action in output.actions {
            testrig_store::kill_point();
            self.act(action).await;
        }
    }

    /// Nothing is acknowledged before it is durable: while the store fails, nothing goes on here, no load is told, and
    /// the trackers give the tasks to others.
    async fn store(&self, writes: Vec<Write>) {
        let mut failures = 0_u32;
        while let Err(error) = self.receipts.commit(writes.clone()).await {
            if failures.is_multiple_of(20) {
                tracing::error!(%error, "failed to store tasks of other workers' instances; trying again");
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(STORE_RETRY).await;
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Run { execution, task, resumed, time_left_ms } => {
                let stop = StopSignal::new();
                let results = self.results.remove(&(task.instance.instance_id, task.task_id.clone()));
                let work = Execution { task, resumed, time_left_ms, results, stop: stop.clone() };
                let (executor, inbox) = (self.executor.clone(), self.inbox.clone());
                let run = self.tasks.spawn(async move {
                    let (result, context) = executor.run(work).await;
                    // A closed channel means that the worker is gone.
                    let _ = inbox.send(Input::Event(Event::Ended { execution, result, context })).await;
                });
                self.running.insert(execution, Running { stop, _task: AbortOnDropHandle::new(run) });
            }
            Action::StopRun { execution, reason } => {
                if let Some(running) = self.running.get(&execution) {
                    running.stop.raise(reason);
                }
            }
            Action::Report { part, tracker, report } => {
                let (executor, inbox) = (self.executor.clone(), self.inbox.clone());
                self.tasks.spawn(async move {
                    let (task_id, report_time) = (report.task_id.clone(), report.report_time);
                    let answered = match executor.trackers.report_task(&tracker, report).await {
                        Ok(()) => Answered::Accepted,
                        Err(PeerError::Unreachable(why) | PeerError::Refused(why)) => Answered::Lost(why),
                    };
                    let event = Event::Reported { part, task_id, report_time, answered };
                    let _ = inbox.send(Input::Event(event)).await;
                });
            }
            Action::Load { tracker, report } => {
                let executor = self.executor.clone();
                self.tasks.spawn(async move {
                    if let Err(why) = executor.trackers.report_worker(&tracker, report).await {
                        tracing::debug!(tracker, ?why, "a load report did not arrive; the next one follows");
                    }
                });
            }
            Action::Line { instance_id, log_config, error, text } => {
                let level = if error { Level::Error } else { Level::Warn };
                self.executor.logs.line(instance_id, log_config, level, text).await;
            }
            Action::Stopped(instance_id) => {
                for waiter in self.stops.remove(&instance_id).unwrap_or_default() {
                    let _ = waiter.send(());
                }
            }
            Action::Release(instance_id) => self.executor.logs.release(instance_id).await,
        }
    }
}
