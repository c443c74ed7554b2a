//! Moments between two events that belong together.

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    client::Transport,
    core::Owner,
    worker::{Counters, driver::Input, logs::Logs, shared::Shared},
};

const ID: i64 = 1_004_402_621_408_084_032;

fn owner(fake: &Fake) -> Owner {
    Owner { transport: fake.transport(), web: fake.server(), born_time: Some(1), app_id: 7 }
}

pub(super) fn shared(config: WorkerConfig) -> Arc<Shared> {
    Arc::new(Shared {
        config,
        address: "127.0.0.1:1".to_owned(),
        counters: Arc::new(Counters::default()),
        transport: Transport::new(),
        trackers: Arc::new(super::heavy::Stand::default()),
        processors: None,
        silence: crate::worker::silence::Silence::new(std::time::Instant::now()),
        clock: Arc::default(),
        owner: tokio::sync::watch::Sender::new(None),
        log_owner: tokio::sync::watch::Sender::new(None),
        records: parking_lot::RwLock::default(),
        state: parking_lot::RwLock::default(),
        generation: tokio::sync::watch::Sender::new(0),
    })
}

async fn drained(inputs: &mut mpsc::Receiver<Input>) -> (i64, u64) {
    loop {
        let input = tokio::time::timeout(PATIENCE, inputs.recv()).await.expect("in time");
        if let Some(Input::Drained { instance_id, round, .. }) = input {
            return (instance_id, round);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_taken_back_after_its_last_line_but_before_its_end_is_heard_of_goes_to_the_new_owner() {
    let rig = Rig::new().await;
    let other = Fake::start().await;
    let store = testrig_store::Store::open_in_memory(testrig_joblog::MIGRATIONS).expect("a store");
    let journals =
        testrig_joblog::Journals::open(&rig.journals(), testrig_joblog::Limits::default(), store).expect("journals");
    let shared = shared(rig.config.clone());
    shared.log_owner.send_replace(Some(owner(&rig.fake)));
    let (inbox, mut inputs) = mpsc::channel(64);
    let mut logs = Logs::new(journals, std::collections::HashMap::new(), shared.clone(), inbox, TaskTracker::new());
    logs.open(ID, true);
    for n in 0..5 {
        logs.line(ID, 2, &format!("line {n}"));
    }
    logs.drain(ID, 1, None);
    let (_, first) = drained(&mut inputs).await;
    assert_eq!(rig.fake.lines(ID).len(), 5);
    // The driver hears of the new owner first.
    logs.rewind(ID).await;
    shared.log_owner.send_replace(Some(owner(&other)));
    logs.kick();
    assert!(!logs.drain_ended(ID, first), "the end of what the old owner got says nothing of the new one");
    let (_, second) = drained(&mut inputs).await;
    assert_eq!(other.lines(ID), rig.fake.lines(ID)[..5]);
    assert!(logs.drain_ended(ID, second) && !logs.drain_ended(ID, second), "it ends once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_drain_fell_into_an_outage_goes_once_to_the_server_that_lost_its_memory() {
    let rig = Rig::new().await;
    let store = testrig_store::Store::open_in_memory(testrig_joblog::MIGRATIONS).expect("a store");
    let journals =
        testrig_joblog::Journals::open(&rig.journals(), testrig_joblog::Limits::default(), store).expect("journals");
    let shared = shared(rig.config.clone());
    let (inbox, mut inputs) = mpsc::channel(64);
    let mut logs = Logs::new(journals, std::collections::HashMap::new(), shared.clone(), inbox, TaskTracker::new());
    for id in ID..ID + 20 {
        shared.log_owner.send_replace(Some(owner(&rig.fake)));
        logs.open(id, true);
        logs.line(id, 2, "before the outage");
        until("the first line is there", || rig.fake.lines(id).len() == 1).await;
        shared.log_owner.send_replace(None);
        // So many that they are read by a thread of their own.
        for n in 0..60 {
            logs.line(id, 2, &format!("line {n}"));
        }
        logs.drain(id, 1, None);
        tokio::time::sleep(Duration::from_millis(5)).await;
        logs.rewind(id).await;
        shared.log_owner.send_replace(Some(owner(&rig.fake)));
        logs.kick();
        let (_, round) = drained(&mut inputs).await;
        assert!(logs.drain_ended(id, round));
        // One batch that is sent beside another one would come a little later.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let lines = rig.fake.lines(id);
        assert_eq!(lines.len(), 1 + 61, "the first line before the outage, and all of them once after it");
        logs.close(id, "SUCCEED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_falls_due_in_the_moment_of_a_stop_is_not_sent() {
    let rig = Rig::new().await;
    let migrations = [crate::MIGRATIONS, testrig_joblog::MIGRATIONS].concat();
    let store = testrig_store::Store::open(&rig.dir.path().join("worker.db"), &migrations).expect("a store");
    let worker = rig.builder().store(store.clone()).start().await.expect("starts");
    until("it is listed", || worker.status().listed).await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 60_000})).await;
    until("the first RUNNING", || !rig.fake.reports(ID).is_empty()).await;
    // The store is slow while the second RUNNING falls due, so that it and the stop are handled together.
    let slow = tokio::spawn({
        let store = store.clone();
        async move {
            let sleep = |_: &rusqlite::Connection| {
                std::thread::sleep(Duration::from_millis(2000));
                Ok(())
            };
            store.write(sleep).await
        }
    });
    let other = request(&worker, ID + 1, "fail", json!({"sleep": 60_000}));
    let blocks = rig.post(&worker, "/worker/runJob", &other);
    let stops = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        worker.drain(false).await;
        rig.stop(&worker, ID).await;
        rig.fake.reports(ID).len()
    };
    let (_, before) = tokio::join!(blocks, stops);
    slow.await.expect("not cancelled").expect("written");
    rig.closed(&worker, ID).await;
    assert_eq!(rig.fake.reports(ID).len(), before, "nothing is reported after the stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_detaches_does_not_wait_for_a_server_that_hangs() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "resume", json!({"lines": 5, "sleep": 60_000})).await;
    until("it runs", || !rig.fake.reports(ID).is_empty()).await;
    // Takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let hangs = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    rig.fake.book.lock().transport = address.clone();
    until("the new owner is known", || worker.status().owner.is_some_and(|o| o.transport == address)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = std::time::Instant::now();
    worker.shutdown(Shutdown::Detach).await;
    // Goodbye, batches under way, last answers; a batch alone may take 5 s.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    hangs.abort();
}
