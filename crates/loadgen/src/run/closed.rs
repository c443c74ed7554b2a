//! The closed loop: workers that send their next request when the last one has ended.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::Run;
use crate::failure::ErrorClass;

/// Pause of a worker that found nobody to connect to: a service that is gone would otherwise fill the disk with failures.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn send_all(run: &Arc<Run>, concurrency: usize) {
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let run = Arc::clone(run);
        workers.spawn(async move { worker(&run).await });
    }
    while workers.join_next().await.is_some() {}
}

async fn worker(run: &Run) {
    while !run.abort.is_cancelled() && run.clock.elapsed() < run.sending() {
        let intended_us = run.clock.now_us();
        let Some(number) = run.next_number(intended_us) else {
            return;
        };
        let Some(class) = run.perform(number, intended_us).await else {
            return;
        };
        if class == Some(ErrorClass::Connect) {
            tokio::select! {
                () = run.abort.cancelled() => return,
                () = tokio::time::sleep(CONNECT_PAUSE) => {}
            }
        }
    }
}
