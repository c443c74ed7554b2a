//! The server goes away and comes back, or another one takes its place; the store fails.

use super::*;

const ID: i64 = 1_004_402_621_408_084_032;

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_ends_while_the_server_is_gone_is_reported_with_its_whole_log_when_it_is_back() {
    let mut rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"lines": 3, "sleep": 700})).await;
    until("RUNNING", || !rig.fake.reports(ID).is_empty()).await;
    rig.fake.kill();
    until("it waits for the server", || worker.status().instances.iter().any(|i| i.stage == "draining")).await;
    until("the worker knows", || worker.status().discovery_error.is_some()).await;
    let beats = rig.fake.heartbeats().len();
    rig.fake.revive();
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    assert!(rig.fake.heartbeats().len() > beats, "the heartbeat came before its time");
    assert_eq!(rig.fake.finals(ID)[0].instance_status, 5);
    let texts: Vec<String> = rig.fake.lines(ID).into_iter().map(|line| line.log_content).collect();
    for n in 0..3 {
        assert_eq!(texts.iter().filter(|text| **text == format!("line {n}")).count(), 1, "{texts:?}");
    }
    assert!(texts.last().is_some_and(|text| text.starts_with("SUCCEED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_without_any_server_and_registers_when_one_is_there() {
    let mut rig = Rig::new().await;
    rig.fake.kill();
    let worker = rig.start().await;
    until("it says why", || worker.status().discovery_error.is_some()).await;
    let why = worker.status().discovery_error.expect("a reason");
    assert!(why.contains(&rig.fake.server()) && !worker.status().listed, "{why}");
    rig.fake.revive();
    until("it is listed", || worker.status().listed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_born_again_gets_the_log_of_open_instances_from_line_0() {
    let mut rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"lines": 30, "sleep": 60_000})).await;
    until("the log is there", || rig.fake.lines(ID).len() > 30).await;
    let first: Vec<_> = rig.fake.lines(ID);
    rig.fake.kill();
    {
        let mut book = rig.fake.book.lock();
        book.born_time += 1;
        book.seen.clear();
    }
    rig.fake.revive();
    until("the log is there again", || rig.fake.lines(ID).len() > 30).await;
    assert_eq!(rig.fake.lines(ID)[..first.len()], first, "the same lines with the same log times");
    drop(worker);
}

/// The real server takes the app over when it is asked and the owner does not answer it; so does the second one here.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_owner_dies_the_next_one_has_a_heartbeat_and_the_whole_log_in_the_moment_of_its_discovery() {
    let mut rig = Rig::new().await;
    let next = Fake::start().await;
    next.book.lock().transport = rig.fake.transport();
    next.book.lock().born_time += 7;
    rig.config.servers.push(next.server());
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"lines": 30, "sleep": 60_000})).await;
    until("the log is there", || rig.fake.lines(ID).len() > 30).await;
    let lines = rig.fake.lines(ID);
    rig.fake.kill();
    // Still the dead one's, as until the lock of a takeover is had.
    until("it is asked again and again", || next.book.lock().acquires.len() >= 3).await;
    assert!(next.heartbeats().is_empty());
    let taken_over = std::time::Instant::now();
    let own = next.transport();
    next.book.lock().transport = own;
    until("a heartbeat", || !next.heartbeats().is_empty()).await;
    // Heartbeats alone would come within 10 s, discoveries every second.
    assert!(taken_over.elapsed() < Duration::from_secs(6), "{:?}", taken_over.elapsed());
    until("RUNNING and the log", || !next.reports(ID).is_empty() && next.lines(ID).len() >= lines.len()).await;
    assert_eq!(next.lines(ID)[..lines.len()], lines, "from line 0, with the same log times");
    assert!(worker.status().owner.is_some_and(|owner| owner.transport == next.transport()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_report_that_is_refused_is_repeated_with_the_same_report_time() {
    let rig = Rig::new().await;
    rig.fake.book.lock().final_answers =
        vec![(500, json!({})), (200, json!({"success": false, "message": "deadlock"}))];
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"fail": "x"})).await;
    until("three reports", || rig.fake.finals(ID).len() >= 3).await;
    rig.closed(&worker, ID).await;
    let finals = rig.fake.finals(ID);
    assert!(finals.iter().all(|report| *report == finals[0]), "{finals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_that_cannot_be_stored_is_answered_500_and_not_run_and_the_worker_recovers() {
    let rig = Rig::new().await;
    let migrations = [crate::MIGRATIONS, testrig_joblog::MIGRATIONS].concat();
    let store = testrig_store::Store::open(&rig.dir.path().join("worker.db"), &migrations).expect("a store");
    let worker = rig.builder().store(store.clone()).start().await.expect("starts");
    until("it is listed", || worker.status().listed).await;
    store.write(|db| db.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()))).await.expect("the disk is full");
    let body = request(&worker, ID, "fail", json!({"text": "x".repeat(200_000)}));
    let (status, text) = rig.post(&worker, "/worker/runJob", &body).await;
    assert_eq!(status, 500, "{text}");
    assert!(text.contains("state store"), "{text}");
    assert!(worker.status().instances.is_empty() && worker.status().counters.dispatches_not_stored == 1);
    store.write(|db| db.query_row("PRAGMA max_page_count = 100000000", [], |_| Ok(()))).await.expect("space again");
    rig.dispatch(&worker, ID, "fail", json!({})).await;
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    let accepted = rig.fake.lines(ID).iter().filter(|line| line.log_content.contains("accepted")).count();
    assert_eq!(accepted, 1, "only the second dispatch was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_held_in_order_while_the_store_fails() {
    let rig = Rig::new().await;
    let migrations = [crate::MIGRATIONS, testrig_joblog::MIGRATIONS].concat();
    let store = testrig_store::Store::open(&rig.dir.path().join("worker.db"), &migrations).expect("a store");
    let worker = rig.builder().store(store.clone()).start().await.expect("starts");
    until("it is listed", || worker.status().listed).await;
    let body = request(&worker, ID, "fail", json!({"sleep": 500, "fail": "y".repeat(8000)}));
    rig.post(&worker, "/worker/runJob", &body).await;
    until("it runs", || worker.status().running == 1).await;
    store
        .write(|db| {
            db.execute_batch(
                "CREATE TRIGGER full BEFORE INSERT ON powerjob_instance BEGIN SELECT RAISE(ABORT, 'disk is full'); END",
            )
        })
        .await
        .expect("a trigger");
    until("the failure is seen", || worker.status().store_error.is_some()).await;
    let why = worker.status().store_error.expect("a reason");
    assert!(why.contains("disk is full"), "{why}");
    until("the server is told", || rig.fake.heartbeats().last().is_some_and(|beat| beat.overload)).await;
    let (status, _) = rig.post(&worker, "/worker/runJob", &request(&worker, ID + 1, "fail", json!({}))).await;
    assert_eq!(status, 500);
    store.write(|db| db.execute_batch("DROP TRIGGER full")).await.expect("space again");
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    assert_eq!(rig.fake.finals(ID)[0].instance_status, 4);
    until("the error is gone", || worker.status().store_error.is_none()).await;
    assert!(rig.fake.reports(ID + 1).is_empty());
}

/// The first dispatch waits in a slow store, so that the end of the run and the second dispatch come to one transaction,
/// which fails. On a slow machine they come one after the other, and all of it is true as well.
#[tokio::test(flavor = "multi_thread")]
async fn of_what_shares_a_transaction_that_fails_only_dispatches_are_given_back() {
    let rig = Rig::new().await;
    let migrations = [crate::MIGRATIONS, testrig_joblog::MIGRATIONS].concat();
    let store = testrig_store::Store::open(&rig.dir.path().join("worker.db"), &migrations).expect("a store");
    let worker = rig.builder().store(store.clone()).start().await.expect("starts");
    until("it is listed", || worker.status().listed).await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 1000})).await;
    let slow = store.write(|db| {
        std::thread::sleep(Duration::from_millis(2000));
        db.execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON powerjob_instance BEGIN SELECT RAISE(ABORT, 'disk is full'); END",
        )
    });
    let dispatched = async |id: i64, after: u64| {
        tokio::time::sleep(Duration::from_millis(after)).await;
        rig.post(&worker, "/worker/runJob", &request(&worker, id, "fail", json!({}))).await.0
    };
    let (slow, first, second) = tokio::join!(slow, dispatched(ID + 1, 300), dispatched(ID + 2, 1500));
    slow.expect("a trigger");
    // Both came to the store behind the trigger.
    assert_eq!((first, second), (500, 500));
    store.write(|db| db.execute_batch("DROP TRIGGER full")).await.expect("space again");
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    assert_eq!(rig.fake.finals(ID)[0].instance_status, 5);
    assert!(rig.fake.reports(ID + 1).is_empty() && rig.fake.reports(ID + 2).is_empty(), "given back to the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_never_answers_does_not_hold_up_the_end_of_the_worker() {
    let rig = Rig::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    rig.fake.book.lock().transport = silent.local_addr().expect("an address").to_string();
    let worker = rig.start().await;
    until("an owner", || worker.status().owner.is_some()).await;
    let began = std::time::Instant::now();
    worker.shutdown(Shutdown::Drain).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_taken_back_lets_jobs_in_again() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    worker.drain(true).await;
    until("overload is told", || rig.fake.heartbeats().last().is_some_and(|beat| beat.overload)).await;
    rig.dispatch(&worker, ID, "fail", json!({})).await;
    assert!(worker.status().draining && worker.status().counters.overload_ignored == 1);
    worker.drain(false).await;
    until("the flag is gone", || rig.fake.heartbeats().last().is_some_and(|beat| !beat.overload)).await;
    rig.dispatch(&worker, ID, "fail", json!({})).await;
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
}
