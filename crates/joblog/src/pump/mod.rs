//! Brings one journal to one sink.
//!
//! ```text
//! wait for lines -> sink ready -> read a batch -> send -> acknowledged -> cursor durable -> wait for lines
//!                                    |-> retry: back off, the same lines again
//!                                    `-> refused: half of them, down to one line; after some tries that is skipped and told
//! ```
//!
//! Promises: lines arrive in order; exactly one batch is in flight; the next is not sent before the cursor of the last
//! is durable, so that a crash doubles one batch at most; a line that is sent again is the same, its log time included;
//! no line is skipped without being counted and told.

mod batching;
mod task;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{Cursors, Journal, Line, Sink};

/// Told of a line that the sink refuses for good, with the sink's reason.
pub type OnRefused = Arc<dyn Fn(&Line, &str) + Send + Sync>;

/// How a pump sends.
#[derive(Clone)]
pub struct PumpOptions {
    /// So many waiting lines are sent without waiting for more.
    pub min_lines: usize,
    /// Lines of a batch at most.
    pub max_lines: usize,
    /// Bytes of a batch at most, in the journal's encoding; a single longer line is sent alone.
    pub max_bytes: usize,
    /// How long fewer than `min_lines` wait for more. The very first line, and the last ones while somebody waits in
    /// [`Pump::drained`], do not wait.
    pub linger: Duration,
    /// The first pause after a failure; it doubles up to `longest_pause`, with a random part taken off.
    pub first_pause: Duration,
    /// The longest pause after a failure.
    pub longest_pause: Duration,
    /// A line that was refused alone so many times is skipped. The pauses between do not start over before something
    /// is taken again, so that a sink that refuses everything costs one line in some seconds and not the log.
    pub refusals: u32,
    /// How long [`Pump::stop`] waits for the batch in flight.
    pub stop_within: Duration,
    /// Told of each line that is skipped, besides the count in [`PumpState`] and a warning of the agent.
    pub on_refused: Option<OnRefused>,
}

impl Default for PumpOptions {
    fn default() -> Self {
        Self {
            min_lines: 20,
            max_lines: 1000,
            max_bytes: 1 << 20,
            linger: Duration::from_millis(250),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
            refusals: 3,
            stop_within: Duration::from_secs(2),
            on_refused: None,
        }
    }
}

impl fmt::Debug for PumpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PumpOptions").field("max_lines", &self.max_lines).finish_non_exhaustive()
    }
}

/// How far a pump is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PumpState {
    /// Every line before this index is acknowledged, durably.
    pub next: u64,
    /// Why the last try failed; none while all is well.
    pub failing: Option<String>,
    /// Lines that were skipped because the sink refused them for good.
    pub refused: u64,
    /// The pump has ended and sends nothing more.
    pub stopped: bool,
    /// Counts the rewinds, so that an answer from before one is not taken for one after it.
    rewinds: u64,
}

/// Drives one journal and sink with one task. Dropping it ends the task; [`Pump::stop`] waits for that.
#[derive(Debug)]
pub struct Pump {
    journal: Arc<Journal>,
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and the task have in common.
#[derive(Debug)]
struct Shared {
    state: watch::Sender<PumpState>,
    /// Wakes the task after one of the fields below, or the state, was changed by the handle.
    wake: Notify,
    kicked: AtomicBool,
    /// How many wait for the end of the backlog.
    hurrying: AtomicUsize,
    stop: CancellationToken,
}

impl Pump {
    /// Starts the task on the current runtime. It goes on behind the last acknowledged line.
    pub fn spawn(journal: Arc<Journal>, sink: Arc<dyn Sink>, cursors: Cursors, options: PumpOptions) -> Self {
        Self::spawn_after(None, journal, sink, cursors, options)
    }

    /// As [`Pump::spawn`], in the place of another one for the same journal and sink: it begins when that one has ended, behind
    /// the last line that it had acknowledged. Somebody must stop that one: until then this one does not even stop.
    pub fn spawn_after(
        before: Option<&Self>,
        journal: Arc<Journal>,
        sink: Arc<dyn Sink>,
        cursors: Cursors,
        options: PumpOptions,
    ) -> Self {
        let before = before.map(Self::state);
        let shared = Arc::new(Shared {
            state: watch::Sender::default(),
            wake: Notify::new(),
            kicked: AtomicBool::new(false),
            hurrying: AtomicUsize::new(0),
            stop: CancellationToken::new(),
        });
        let task = task::Task::new(Arc::clone(&journal), sink, cursors, options, Arc::clone(&shared), before);
        Self { journal, shared, task: Mutex::new(Some(tokio::spawn(task.run()))) }
    }

    /// Waits until the sink has taken a line (after a [`Pump::rewind`]: again). False if the pump ended before.
    pub async fn first_sent(&self) -> bool {
        self.reached(|state| state.next > 0).await
    }

    /// Waits until the sink has taken every line that is in the journal by then, durably noted, for at most `limit`.
    /// Meanwhile nothing waits to be sent with more. False if the time is over or the pump ended before.
    pub async fn drained(&self, limit: Option<Duration>) -> bool {
        let _hurry = Hurry::new(&self.shared);
        let done = self.reached(|state| state.next >= self.journal.len());
        match limit {
            None => done.await,
            Some(limit) => tokio::time::timeout(limit, done).await.unwrap_or(false),
        }
    }

    /// Sends everything again from line 0: the sink has lost what it had. In effect at once; the batch in flight does
    /// not count any more. Durable when the task has come to it, before it sends the next batch.
    pub fn rewind(&self) {
        self.shared.state.send_modify(|state| {
            state.next = 0;
            state.rewinds += 1;
        });
        self.kick();
    }

    /// Tries again at once, if a failure is being waited out: somebody has found the sink again.
    pub fn kick(&self) {
        self.shared.kicked.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }

    /// How far it is, now and on each change.
    pub fn state(&self) -> watch::Receiver<PumpState> {
        self.shared.state.subscribe()
    }

    /// Sends nothing more. The batch in flight may end within [`PumpOptions::stop_within`]; one that does not is given
    /// up and will be sent again by the next pump.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        let task = self.task.lock().take();
        match task {
            // A panic of the sink has been reported by the runtime.
            Some(task) => drop(task.await),
            None => {
                let _stopped = self.reached(|state| state.stopped).await;
            }
        }
    }

    async fn reached(&self, wanted: impl Fn(&PumpState) -> bool) -> bool {
        let mut changes = self.shared.state.subscribe();
        // The sender lives as long as the handle does.
        changes.wait_for(|state| state.stopped || wanted(state)).await.is_ok_and(|state| wanted(&state))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// While it lives the task does not wait for full batches.
struct Hurry<'a>(&'a Shared);

impl<'a> Hurry<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.hurrying.fetch_add(1, Ordering::AcqRel);
        shared.wake.notify_one();
        Self(shared)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurrying.fetch_sub(1, Ordering::AcqRel);
    }
}
