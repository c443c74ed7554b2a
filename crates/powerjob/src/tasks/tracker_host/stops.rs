//! Telling workers that an instance is over.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};

use crate::tasks::api::WorkerPeer;

/// The end of an instance waits as long for workers elsewhere; those that have not answered then are told in the background.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// When a worker that could not be reached is told again.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(30), Duration::from_secs(60)];
/// As many ended instances are remembered, for workers that go on with them.
const REMEMBERED: usize = 1_000;

pub(super) struct Stops {
    peers: Arc<dyn WorkerPeer>,
    inner: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    /// Under way in the background, by instance.
    tasks: HashMap<i64, Vec<AbortHandle>>,
    ended: VecDeque<i64>,
}

impl Stops {
    pub(super) fn new(peers: Arc<dyn WorkerPeer>) -> Self {
        Self { peers, inner: Mutex::default() }
    }

    /// The instance begins (anew): nobody is told to stop it any more.
    pub(super) fn forget(&self, instance_id: i64) {
        let mut pending = self.inner.lock();
        pending.ended.retain(|&ended| ended != instance_id);
        for task in pending.tasks.remove(&instance_id).unwrap_or_default() {
            task.abort();
        }
    }

    /// Tells everybody: the own worker at once, the others when `last` is over. Returns when nothing runs on the own worker any
    /// more and the others have been told, or cannot be reached now.
    pub(super) async fn stop(&self, instance_id: i64, own: &str, workers: &[String], last: impl Future<Output = ()>) {
        {
            let mut pending = self.inner.lock();
            pending.ended.push_back(instance_id);
            while pending.ended.len() > REMEMBERED {
                pending.ended.pop_front();
            }
        }
        let own_part = async {
            if workers.iter().any(|address| address == own)
                && let Err(why) = self.peers.stop_instance(own, instance_id).await
            {
                tracing::warn!(instance_id, ?why, "the own worker was not told to stop");
            }
        };
        let others = async {
            last.await;
            self.tell_others(instance_id, workers.iter().filter(|address| *address != own)).await;
        };
        tokio::join!(own_part, others);
    }

    async fn tell_others(&self, instance_id: i64, workers: impl Iterator<Item = &String>) {
        let mut others = JoinSet::new();
        for address in workers {
            let (peers, address) = (self.peers.clone(), address.clone());
            let (told, heard) = tokio::sync::oneshot::channel();
            let task = tokio::spawn(async move {
                let mut told = Some(told);
                for pause in std::iter::once(Duration::ZERO).chain(AGAIN) {
                    tokio::time::sleep(pause).await;
                    let answer = peers.stop_instance(&address, instance_id).await;
                    // Told or not, nobody waits for the next attempt.
                    told.take();
                    match answer {
                        Ok(()) => return,
                        Err(why) => tracing::debug!(instance_id, address, ?why, "a worker was not told to stop"),
                    }
                }
                tracing::warn!(instance_id, address, "a worker could not be told that the instance is over");
            });
            self.remember(instance_id, task.abort_handle());
            others.spawn(async move {
                // Dropped unsent when the first attempt is over.
                let _: Result<(), _> = heard.await;
            });
        }
        let all = async { while others.join_next().await.is_some() {} };
        let _in_the_background_from_here = tokio::time::timeout(PATIENCE, all).await;
    }

    /// A worker speaks of an instance that nobody knows: if it has ended here, the worker is told so.
    pub(super) fn stray(&self, address: &str, instance_id: i64) {
        if !self.inner.lock().ended.contains(&instance_id) {
            return;
        }
        let (peers, address) = (self.peers.clone(), address.to_owned());
        let task = tokio::spawn(async move {
            // It speaks again if this does not reach it.
            let _ = peers.stop_instance(&address, instance_id).await;
        });
        self.remember(instance_id, task.abort_handle());
    }

    fn remember(&self, instance_id: i64, task: AbortHandle) {
        let mut pending = self.inner.lock();
        pending.tasks.retain(|_, tasks| {
            tasks.retain(|task| !task.is_finished());
            !tasks.is_empty()
        });
        pending.tasks.entry(instance_id).or_default().push(task);
    }
}
