//! Lines of many instances in one request: what several logs have to say at the same time goes to the server together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use testrig_joblog::{Line, SinkError};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    core::Owner,
    wire::{InstanceLogContent, WorkerLogReportReq},
    worker::shared::Shared,
};

/// While batches come more often than this, they leave together at the end of such a time. After a pause the first one
/// does not wait.
const EVERY: Duration = Duration::from_millis(50);
/// From the first batch of a common moment to the request: the others read their lines meanwhile.
const GATHER: Duration = Duration::from_millis(1);
/// A batch of so many lines or bytes leaves by itself and at once.
const ALONE_LINES: usize = 20;
const ALONE_BYTES: usize = 16 * 1024;
/// Lines of a common request at most.
const REQUEST_LINES: usize = 1000;

/// What the logs of a worker have in common on their way to the server.
pub(in crate::worker) struct Collector {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    /// When the next batches leave together.
    moment: Mutex<Instant>,
    waiting: Mutex<Vec<Waiting>>,
}

/// A batch that waits for its request.
struct Waiting {
    contents: Vec<InstanceLogContent>,
    /// The server that it is for.
    owner: Owner,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Collector {
    pub(in crate::worker) fn new(shared: Arc<Shared>, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { shared, tasks, moment: Mutex::new(Instant::now()), waiting: Mutex::default() })
    }

    /// Waits for the moment in which a batch of so many lines shall be read.
    pub(in crate::worker) async fn ready(&self, waiting: u64) {
        if waiting >= ALONE_LINES as u64 {
            return;
        }
        let at = *self.moment.lock();
        if at > Instant::now() {
            tokio::time::sleep_until(at).await;
        }
        let mut moment = self.moment.lock();
        let now = Instant::now();
        if *moment <= now {
            *moment = now + EVERY;
        }
    }

    /// Sends a batch, with those of others if they come at the same time. `alone` remembers that a common request failed:
    /// the next try has one of its own, so that no log suffers for what another one says.
    pub(in crate::worker) async fn send(
        self: &Arc<Self>,
        instance_id: i64,
        lines: &[Line],
        alone: &AtomicBool,
    ) -> Result<(), SinkError> {
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
        let contents = contents.collect();
        let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
        let sent = if lines.len() >= ALONE_LINES || bytes > ALONE_BYTES || alone.load(Ordering::Relaxed) {
            self.post(&owner, contents).await
        } else {
            let (answer, answered) = oneshot::channel();
            self.add(Waiting { contents, owner, answer });
            answered.await.unwrap_or_else(|_| Err("the worker ends".to_owned()))
        };
        alone.store(sent.is_err(), Ordering::Relaxed);
        sent.map_err(SinkError::Retry)?;
        self.shared.counters.log_lines_sent.add(lines.len() as u64);
        Ok(())
    }

    fn add(self: &Arc<Self>, batch: Waiting) {
        let mut waiting = self.waiting.lock();
        waiting.push(batch);
        if waiting.len() > 1 {
            return;
        }
        let collector = self.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(GATHER).await;
            let waiting = std::mem::take(&mut *collector.waiting.lock());
            collector.send_together(waiting).await;
        });
    }

    async fn send_together(&self, mut waiting: Vec<Waiting>) {
        let owner = self.shared.log_owner.borrow().clone();
        while !waiting.is_empty() {
            let mut contents = Vec::new();
            let mut answers = Vec::new();
            while let Some(batch) = waiting.pop() {
                if owner.as_ref() != Some(&batch.owner) {
                    // A new server gets every log from its first line on.
                    let _ = batch.answer.send(Err("the app's server changed".to_owned()));
                } else if !batch.answer.is_closed() {
                    contents.extend(batch.contents);
                    answers.push(batch.answer);
                }
                if contents.len() >= REQUEST_LINES {
                    break;
                }
            }
            if let Some(owner) = owner.as_ref().filter(|_| !contents.is_empty()) {
                let given_up = async {
                    for answer in &mut answers {
                        answer.closed().await;
                    }
                };
                let sent = tokio::select! {
                    biased;
                    sent = self.post(owner, contents) => sent,
                    // Nobody wants it sent any more: the request is cut off where it is.
                    () = given_up => continue,
                };
                for answer in answers {
                    // Its log may have been stopped meanwhile.
                    let _ = answer.send(sent.clone());
                }
            }
        }
    }

    async fn post(&self, owner: &Owner, instance_log_contents: Vec<InstanceLogContent>) -> Result<(), String> {
        let report = WorkerLogReportReq { worker_address: self.shared.address.clone(), instance_log_contents };
        let sent = self.shared.transport.tell(&owner.transport, "/server/reportLog", &report).await;
        sent.map_err(|why| why.to_string())
    }
}
