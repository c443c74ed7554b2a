//! The task of a pump.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    PumpOptions, PumpState, Shared,
    batching::{Batching, Verdict},
};
use crate::{Cursors, Journal, Line, Sink, SinkError};

/// So many lines are read at once, without a thread for blocking work.
const FEW: u64 = 32;

pub(super) struct Task {
    journal: Arc<Journal>,
    sink: Arc<dyn Sink>,
    cursors: Cursors,
    options: PumpOptions,
    shared: Arc<Shared>,
    batching: Batching,
    /// Index of the next line to send.
    next: u64,
    /// The rewinds that `next` knows of.
    rewinds: u64,
    /// The pump that this one takes the place of.
    before: Option<watch::Receiver<PumpState>>,
    _ended: Ended,
}

/// Asked to stop.
struct Stop;

impl Task {
    pub(super) fn new(
        journal: Arc<Journal>,
        sink: Arc<dyn Sink>,
        cursors: Cursors,
        options: PumpOptions,
        shared: Arc<Shared>,
        before: Option<watch::Receiver<PumpState>>,
    ) -> Self {
        let batching = Batching::new(&options);
        let _ended = Ended(Arc::clone(&shared));
        Self { journal, sink, cursors, options, shared, batching, next: 0, rewinds: 0, before, _ended }
    }

    pub(super) async fn run(mut self) {
        // The only way out: somebody asked to stop.
        let Stop = match self.begin().await {
            Ok(()) => self.forward().await,
            Err(stop) => stop,
        };
    }

    async fn begin(&mut self) -> Result<(), Stop> {
        if let Some(mut before) = self.before.take() {
            // Also when this one is to stop itself: who comes in its place must not begin while that one's batch is on its way. Of
            // one whose handle is gone nothing comes any more, either.
            let _ = before.wait_for(|state| state.stopped).await;
            self.go_on()?;
        }
        self.load().await
    }

    async fn load(&mut self) -> Result<(), Stop> {
        if self.journal.take_fresh() {
            self.tell();
            return Ok(());
        }
        loop {
            self.go_on()?;
            match self.cursors.get(self.journal.instance_id(), self.sink.name()).await {
                Ok(next) => {
                    let len = self.journal.len();
                    if next > len {
                        let (instance, sink) = (self.journal.instance_id(), self.sink.name());
                        tracing::warn!(
                            instance,
                            sink,
                            next,
                            len,
                            "a cursor is behind the end of its journal; it goes back"
                        );
                    }
                    self.next = next.min(len);
                    self.tell();
                    return Ok(());
                }
                Err(e) => {
                    self.pause(format!("failed to read the cursor: {e}")).await?;
                }
            }
        }
    }

    async fn forward(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.batch().await {
                return stop;
            }
        }
    }

    /// One batch, or one failure with its pause.
    async fn batch(&mut self) -> Result<(), Stop> {
        self.go_on()?;
        if self.rewound() {
            return self.take_rewind().await;
        }
        if !self.lines_wait().await? {
            return Ok(());
        }
        self.sink_ready().await?;
        if self.rewound() {
            return Ok(());
        }
        let (lines, bytes) = (self.batching.lines(), self.options.max_bytes);
        // A few lines are still in the page cache: a thread of their own would cost more than the read.
        let read = if self.journal.len().saturating_sub(self.next) <= FEW {
            self.journal.read(self.next, lines, bytes)
        } else {
            self.journal.read_async(self.next, lines, bytes).await
        };
        let lines = match read {
            Ok(lines) if !lines.is_empty() => lines,
            Ok(_) => return self.pause("the journal gave no line".to_owned()).await,
            Err(e) => return self.pause(format!("failed to read the journal: {e}")).await,
        };
        let answer = self.send(&lines).await?;
        if self.rewound() {
            // Whatever it was, it was the answer of a sink that has forgotten it.
            return Ok(());
        }
        match answer {
            Ok(()) => {
                self.advance(lines.len() as u64).await?;
                self.batching.taken();
            }
            Err(SinkError::Retry(reason)) => self.pause(reason).await?,
            Err(SinkError::Refused(reason)) => self.refused(&lines, reason).await?,
        }
        Ok(())
    }

    async fn sink_ready(&self) -> Result<(), Stop> {
        let waiting = self.journal.len().saturating_sub(self.next);
        tokio::select! {
            biased;
            () = self.sink.ready(waiting) => Ok(()),
            () = self.shared.stop.cancelled() => Err(Stop),
        }
    }

    async fn send(&self, lines: &[Line]) -> Result<Result<(), SinkError>, Stop> {
        let send = self.sink.send(self.journal.instance_id(), lines);
        let given_up = async {
            self.shared.stop.cancelled().await;
            sleep(self.options.stop_within).await;
        };
        tokio::select! {
            // An answer that is there is taken, also at the last moment.
            biased;
            answer = send => Ok(answer),
            () = given_up => Err(Stop),
        }
    }

    async fn refused(&mut self, lines: &[Line], reason: String) -> Result<(), Stop> {
        match self.batching.refused(lines.len()) {
            Verdict::Smaller => Ok(()),
            Verdict::AskAgain => self.pause(reason).await,
            Verdict::Skip => {
                let line = lines.first().expect("a batch has a line");
                let (instance, sink) = (self.journal.instance_id(), self.sink.name());
                tracing::warn!(instance, sink, line = line.index, reason, "a line was refused for good and is skipped");
                self.shared.state.send_modify(|state| state.refused += 1);
                if let Some(tell) = &self.options.on_refused {
                    tell(line, &reason);
                }
                self.advance(1).await?;
                self.pause(reason).await
            }
        }
    }

    /// Makes the cursor durable and then goes on: never the other way, or a crash would double more than one batch.
    async fn advance(&mut self, lines: u64) -> Result<(), Stop> {
        let next = self.next + lines;
        self.persist(next).await?;
        self.next = next;
        self.tell();
        Ok(())
    }

    async fn take_rewind(&mut self) -> Result<(), Stop> {
        self.rewinds = self.shared.state.borrow().rewinds;
        self.next = 0;
        self.batching.fresh();
        self.persist(0).await
    }

    async fn persist(&mut self, next: u64) -> Result<(), Stop> {
        loop {
            // Not after a rewind: a cursor that somebody has set back must not go forward again.
            let (shared, rewinds) = (Arc::clone(&self.shared), self.rewinds);
            let wanted = move || shared.state.borrow().rewinds == rewinds;
            // Tried once even if asked to stop: the sink has the lines.
            match self.cursors.set_if(self.journal.instance_id(), self.sink.name(), next, wanted).await {
                Ok(()) => return Ok(()),
                Err(e) => {
                    self.pause(format!("failed to note how far the log was sent: {e}")).await?;
                }
            }
        }
    }

    /// Waits until there is something to send. False if there is something else to do first.
    async fn lines_wait(&self) -> Result<bool, Stop> {
        let mut changes = self.journal.subscribe();
        let mut until: Option<Instant> = None;
        loop {
            self.go_on()?;
            if self.rewound() {
                return Ok(false);
            }
            let (backlog, closed) = {
                let journal = changes.borrow_and_update();
                (journal.len.saturating_sub(self.next), journal.closed.is_some())
            };
            if backlog > 0 {
                let until = *until.get_or_insert_with(|| Instant::now() + self.options.linger);
                let hurry = closed || self.next == 0 || self.shared.hurrying.load(Ordering::Acquire) > 0;
                if hurry || backlog >= self.options.min_lines as u64 || Instant::now() >= until {
                    return Ok(true);
                }
            }
            let lingered = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                }
            };
            // The order does not matter: every branch leads back to the checks above.
            tokio::select! {
                () = self.shared.stop.cancelled() => {}
                () = self.shared.wake.notified() => {}
                _ = changes.changed() => {}
                () = lingered => {}
            }
        }
    }

    /// Waits out a failure; a kick, a rewind or a stop ends the wait.
    async fn pause(&mut self, reason: String) -> Result<(), Stop> {
        tracing::debug!(instance = self.journal.instance_id(), sink = self.sink.name(), reason, "a log batch waits");
        self.shared.state.send_modify(|state| state.failing = Some(reason));
        let until = Instant::now() + self.batching.pause(rand::random());
        loop {
            self.go_on()?;
            if self.shared.kicked.swap(false, Ordering::AcqRel) {
                self.batching.fresh();
                return Ok(());
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => {}
                () = self.shared.wake.notified() => {}
                () = sleep_until(until) => return Ok(()),
            }
        }
    }

    fn go_on(&self) -> Result<(), Stop> {
        if self.shared.stop.is_cancelled() { Err(Stop) } else { Ok(()) }
    }

    fn rewound(&self) -> bool {
        self.shared.state.borrow().rewinds != self.rewinds
    }

    /// Tells how far it is, unless a rewind came in between.
    fn tell(&self) {
        self.shared.state.send_if_modified(|state| {
            let current = state.rewinds == self.rewinds;
            if current {
                state.next = self.next;
                state.failing = None;
            }
            current
        });
    }
}

/// Says that the task has ended, also if the sink panicked.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.stopped = true);
    }
}
