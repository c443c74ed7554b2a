//! The open loop: requests are due at times that were fixed in advance.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::Run;
use crate::arrival::Schedule;

pub(super) async fn send_all(run: &Arc<Run>) {
    let schedule = Schedule::of(&run.plan.arrival).expect("an open loop has a schedule");
    let slots = Arc::new(Semaphore::new(run.plan.arrival.slots()));
    let mut requests = JoinSet::new();
    let end = run.sending();
    for intended_us in schedule {
        let due = Duration::from_micros(intended_us);
        if due >= end || run.abort.is_cancelled() {
            break;
        }
        tokio::select! {
            () = run.abort.cancelled() => break,
            () = tokio::time::sleep_until(run.clock.at(due)) => {}
        }
        let Some(number) = run.next_number(intended_us) else {
            break;
        };
        // A late send does not move the next due time: the delay stays visible in every request that it hits.
        match slot(run, &slots, end).await {
            Some(slot) => {
                let run = Arc::clone(run);
                requests.spawn(async move {
                    run.perform(number, intended_us).await;
                    drop(slot);
                });
            }
            None => run.not_sent(number, intended_us).await,
        }
        // Ended requests leave the set at once, or it would grow over the run.
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

/// Waits for a free slot until the end of the run.
async fn slot(run: &Run, slots: &Arc<Semaphore>, end: Duration) -> Option<OwnedSemaphorePermit> {
    // A free slot first, even if this loop itself was late and the time is over.
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return Some(slot);
    }
    tokio::select! {
        slot = Arc::clone(slots).acquire_owned() => Some(slot.expect("the semaphore is never closed")),
        () = run.abort.cancelled() => None,
        () = tokio::time::sleep_until(run.clock.at(end)) => None,
    }
}
