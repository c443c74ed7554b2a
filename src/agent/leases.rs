//! Looks at the accelerators from time to time: what a run left comes back, and what is free is told to the servers.

use std::{sync::Arc, time::Duration};

use powerjob_worker::HostNotice;
use testrig_host::accelerators::{Accelerators, View};
use testrig_processors::{Environment, run_llm_test};
use testrig_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Lane;

const EVERY: Duration = Duration::from_secs(5);
/// A driver that has failed is not asked as often.
const EVERY_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Looks until `stop`. A host without accelerators has nothing to look at.
pub(super) async fn run(env: Arc<Environment>, store: Store, stop: CancellationToken) {
    if env.accelerators.watch().is_none() {
        return stop.cancelled().await;
    }
    let mut failing: Option<String> = None;
    loop {
        let looked = look(&env, &store).await;
        match (&looked, &failing) {
            (Ok(freed), _) => {
                for lease in freed {
                    tracing::info!("accelerators came back: {lease}");
                }
                if failing.take().is_some() {
                    tracing::info!("the accelerators can be looked at again");
                }
            }
            (Err(error), Some(said)) if error == said => {}
            (Err(error), _) => {
                tracing::warn!("{error}");
                failing = Some(error.clone());
            }
        }
        let pause = if looked.is_ok() { EVERY } else { EVERY_AFTER_FAILURE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn look(env: &Environment, store: &Store) -> Result<Vec<String>, String> {
    let freed = run_llm_test::free_forgotten_leases(env, store).await?;
    env.accelerators.view().await.map_err(|error| error.to_string())?;
    Ok(freed)
}

/// What a lane's heartbeats say of the host: its accelerators, if it has any, and whether its disk is `low`.
pub(super) fn notices(
    accelerators: &dyn Accelerators,
    mut low: watch::Receiver<bool>,
    lane: &Lane,
) -> watch::Receiver<HostNotice> {
    let (mut disk, mut cards) = (low.clone(), accelerators.watch());
    let mut views = accelerators.watch();
    let wanted = lane.accelerators.then_some(lane.smallest_lease);
    let mut now = move || {
        let low = *low.borrow_and_update();
        let cards =
            views.as_mut().map(|views| notice(views.borrow_and_update().as_deref(), wanted)).unwrap_or_default();
        HostNotice { full: cards.full || low, ..cards }
    };
    let (tell, told) = watch::channel(now());
    tokio::spawn(async move {
        // Ends with what it watches or with the last lane that listens.
        loop {
            tokio::select! {
                changed = disk.changed() => if changed.is_err() { return },
                changed = changed(cards.as_mut()) => if changed.is_err() { return },
                () = tell.closed() => return,
            }
            let next = now();
            tell.send_if_modified(|last| std::mem::replace(last, next.clone()) != next);
        }
    });
    told
}

/// The next change of the cards; never where there are none.
async fn changed(views: Option<&mut watch::Receiver<Option<Arc<View>>>>) -> Result<(), watch::error::RecvError> {
    match views {
        Some(views) => views.changed().await,
        None => std::future::pending().await,
    }
}

/// A lane that wants cards is full while not so many of them are free, or while nobody can look at them.
fn notice(view: Option<&View>, wanted: Option<usize>) -> HostNotice {
    let free = view.map_or(0, View::free);
    HostNotice { full: wanted.is_some_and(|wanted| free < wanted), extra: view.map(View::extra) }
}

#[cfg(test)]
mod tests {
    use testrig_host::accelerators::{Accelerator, Availability, CardState, CardView, NoAccelerators, Vendor};

    use super::*;

    #[test]
    fn a_lane_is_full_while_fewer_cards_are_free_than_it_wants_or_nobody_can_look() {
        let card = |index, availability| CardView {
            card: Accelerator::new(index, index.to_string(), Vendor::Other, "x", 1 << 30),
            state: CardState::default(),
            availability,
            lease: None,
        };
        let view = View {
            cards: vec![card(0, Availability::Free), card(1, Availability::Leased("run".into()))],
            ..View::default()
        };
        assert!(!notice(Some(&view), Some(1)).full && notice(Some(&view), Some(2)).full);
        assert!(!notice(Some(&view), None).full, "a lane for light jobs takes them always");
        assert_eq!(
            notice(Some(&view), None).extra.as_deref(),
            Some(r#"{"accelerators":[{"type":"x","total":2,"free":1,"memoryMiB":1024}]}"#)
        );
        assert_eq!(notice(None, Some(1)), HostNotice { full: true, extra: None });
    }

    #[tokio::test]
    async fn a_lane_is_full_while_the_disk_is_low_also_on_a_host_without_accelerators() {
        let (disk, low) = watch::channel(false);
        let mut told = notices(&NoAccelerators, low, &Lane::default());
        assert!(!told.borrow().full);
        for short in [true, false] {
            disk.send_replace(short);
            told.changed().await.expect("told");
            assert_eq!(told.borrow_and_update().full, short);
        }
    }
}
