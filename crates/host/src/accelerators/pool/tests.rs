use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;

use super::*;
use crate::accelerators::card::{Accelerator, CardProcess, Observed, Vendor};

/// A provider whose answers a test changes.
struct Fake {
    seen: Mutex<Result<Observation, String>>,
    hang: Mutex<Duration>,
    looks: AtomicUsize,
    /// From this look on the first card is used by somebody else.
    taken_from: Mutex<Option<usize>>,
}

impl Provider for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn observe(&self) -> Result<Observation, String> {
        let looks = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        let hang = *self.hang.lock();
        std::thread::sleep(hang);
        let mut seen = self.seen.lock().clone()?;
        if self.taken_from.lock().is_some_and(|from| looks >= from) {
            seen.cards[0].state.processes = Some(vec![CardProcess { pid: 1, ..CardProcess::default() }]);
        }
        Ok(seen)
    }
}

fn cards(count: u32) -> Observation {
    let card = |at: u32| Observed {
        card: Accelerator::new(at, format!("C-{at}"), Vendor::Other, "stub", 1 << 34),
        state: CardState { processes: Some(Vec::new()), ..CardState::default() },
    };
    Observation { through: "a test".into(), cards: (0..count).map(card).collect(), ..Observation::default() }
}

struct Rig {
    dir: tempfile::TempDir,
    fake: Arc<Fake>,
    pool: Pool,
}

fn rig(count: u32) -> Rig {
    let dir = tempfile::tempdir().expect("dir");
    let fake = Arc::new(Fake {
        seen: Mutex::new(Ok(cards(count))),
        hang: Mutex::default(),
        looks: AtomicUsize::default(),
        taken_from: Mutex::default(),
    });
    let book = Book::open(&dir.path().join("leases.db"), "agent").expect("book");
    let settings = Settings { look_limit: Duration::from_millis(500), ..Settings::default() };
    let pool = Pool::new(Arc::clone(&fake) as Arc<dyn Provider>, book, settings);
    Rig { dir, fake, pool }
}

fn ask(instance: i64, count: u32) -> LeaseRequest {
    LeaseRequest {
        holder: BoundaryId::new(instance, 1),
        count,
        kind: None,
        min_memory_bytes: None,
        device_ids: Vec::new(),
        words: format!("instance {instance}"),
        waits: false,
    }
}

fn indices(lease: &Lease) -> Vec<u32> {
    lease.devices.iter().map(|card| card.index).collect()
}

#[tokio::test]
async fn two_runs_share_the_cards_and_a_third_is_told_who_has_them() {
    let rig = rig(3);
    let first = rig.pool.lease(&ask(1, 2)).await.expect("free");
    assert_eq!(indices(&first), [0, 1]);
    assert_eq!(rig.pool.lease(&ask(1, 2)).await.expect("the same again"), first);
    assert_eq!(indices(&rig.pool.lease(&ask(2, 1)).await.expect("one is left")), [2]);
    let busy = rig.pool.lease(&ask(3, 1)).await.expect_err("none is left").to_string();
    assert!(busy.contains("2 (stub): leased to instance 2"), "{busy}");
    let impossible = rig.pool.lease(&ask(3, 4)).await.expect_err("never").to_string();
    assert!(impossible.contains("asked were 4 accelerators, there is 3 stub with 16.0 GiB"), "{impossible}");
    assert_eq!(rig.pool.release(&BoundaryId::new(1, 1)).await.expect("kept"), Released::Now);
    assert_eq!(indices(&rig.pool.lease(&ask(3, 2)).await.expect("free again")), [0, 1]);
    let watched = rig.pool.watch().expect("cards").borrow().clone().expect("somebody looked");
    assert_eq!(
        (watched.free(), watched.cards[2].lease.as_ref().map(|lease| lease.words.as_str())),
        (0, Some("instance 2"))
    );
}

#[tokio::test]
async fn who_only_asks_what_it_would_get_takes_nothing() {
    let rig = rig(3);
    let shown = async |count| {
        let cards = rig.pool.would_get(&ask(9, count)).await?;
        Ok::<Vec<u32>, LeaseError>(cards.iter().map(|card| card.index).collect())
    };
    assert_eq!(shown(2).await.expect("free"), [0, 1]);
    assert_eq!(shown(2).await.expect("still free"), [0, 1]);
    assert_eq!(indices(&rig.pool.lease(&ask(1, 2)).await.expect("free")), [0, 1]);
    assert_eq!(shown(1).await.expect("one is left"), [2]);
    assert!(matches!(shown(2).await, Err(LeaseError::Busy { .. })));
    assert!(matches!(shown(4).await, Err(LeaseError::Impossible { .. })));
    assert_eq!(shown(0).await.expect("nothing was asked"), [0; 0]);
}

#[tokio::test]
async fn a_lease_outlives_the_agent_and_is_forgotten_only_when_its_run_is_over() {
    let rig = rig(2);
    let lease = rig.pool.lease(&ask(1, 1)).await.expect("free");
    // Another process of the same agent: the first one is gone.
    let book = Book::open(&rig.dir.path().join("leases.db"), "agent").expect("book").as_process((i32::MAX, 1));
    let next = Pool::new(Arc::clone(&rig.fake) as Arc<dyn Provider>, book, Settings::default());
    assert_eq!(next.leased(&BoundaryId::new(1, 1)).await.expect("read"), Some(lease));
    let open = BTreeSet::from([BoundaryId::new(1, 1)]);
    assert_eq!(rig.pool.forgotten(&open).await.expect("read"), []);
    assert_eq!(rig.pool.forgotten(&BTreeSet::new()).await.expect("read"), [BoundaryId::new(1, 1)]);
    assert_eq!(next.forgotten(&BTreeSet::new()).await.expect("read"), [], "the process that made it still lives");
}

#[tokio::test]
async fn a_card_that_still_shows_a_process_of_the_run_comes_back_later() {
    let rig = rig(1);
    rig.pool.lease(&ask(1, 1)).await.expect("free");
    let mut sleep = std::process::Command::new("sleep");
    let mut sleep = sleep.arg("100").env(crate::ENV_BOUNDARY, "testrig-1-1").spawn().expect("sleep");
    if let Ok(seen) = &mut *rig.fake.seen.lock() {
        seen.cards[0].state.processes = Some(vec![CardProcess { pid: sleep.id(), ..CardProcess::default() }]);
    }
    let released = rig.pool.release(&BoundaryId::new(1, 1)).await.expect("kept");
    let Released::Later(why) = released else { panic!("{released:?}") };
    assert!(why.contains("instance 1 has ended, but sleep (pid"), "{why}");
    assert!(matches!(rig.pool.lease(&ask(2, 1)).await, Err(LeaseError::Busy { .. })));
    sleep.kill().expect("killed");
    sleep.wait().expect("reaped");
    *rig.fake.seen.lock() = Ok(cards(1));
    assert_eq!(rig.pool.view().await.expect("seen").free(), 1);
    assert_eq!(rig.pool.release(&BoundaryId::new(1, 1)).await.expect("nothing is left to do"), Released::Now);
}

#[tokio::test]
async fn a_card_that_somebody_takes_at_the_same_moment_is_not_handed_out() {
    let rig = rig(1);
    *rig.fake.taken_from.lock() = Some(2);
    let error = rig.pool.lease(&ask(1, 1)).await.expect_err("taken meanwhile").to_string();
    assert!(error.contains("0 (stub): in use by"), "{error}");
    assert_eq!(rig.pool.leased(&BoundaryId::new(1, 1)).await.expect("read"), None, "the lease was taken back");
}

#[tokio::test]
async fn a_driver_that_hangs_is_told_and_does_not_hold_up_the_agent() {
    let rig = rig(1);
    *rig.fake.hang.lock() = Duration::from_secs(2);
    let error = rig.pool.lease(&ask(1, 1)).await.expect_err("hangs").to_string();
    assert!(error.contains("no answer through fake within 0.5 s"), "{error}");
    let error = rig.pool.lease(&ask(1, 1)).await.expect_err("still inside").to_string();
    assert!(error.contains("has not come back"), "{error}");
    *rig.fake.hang.lock() = Duration::ZERO;
    let deadline = Instant::now() + Duration::from_secs(20);
    while rig.pool.lease(&ask(1, 1)).await.is_err() {
        assert!(Instant::now() < deadline, "it comes back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    *rig.fake.seen.lock() = Err("GPU is lost".into());
    assert!(rig.pool.view().await.expect_err("told").to_string().ends_with("GPU is lost"));
}
