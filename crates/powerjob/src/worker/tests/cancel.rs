//! The end of a worker whose operator does not want to wait.

use super::*;

const ID: i64 = 1_004_402_621_408_084_032;

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_what_runs_and_what_waits_and_the_server_hears_it_before_the_worker_is_gone() {
    let mut rig = Rig::new().await;
    rig.config.slots = 1;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 600_000})).await;
    rig.dispatch(&worker, ID + 1, "fail", json!({})).await;
    let waiting = async {
        // A drain waits for both, for ever; the cancel that comes meanwhile ends it.
        tokio::join!(worker.shutdown(Shutdown::Drain), async {
            until("the server knows", || rig.fake.heartbeats().last().is_some_and(|beat| beat.overload)).await;
            worker.drain(false).await;
            worker.shutdown(Shutdown::Cancel).await;
        })
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the worker ends");
    for (id, what) in [(ID, "was running"), (ID + 1, "was waiting for a slot")] {
        let finals = rig.fake.finals(id);
        let result = finals.first().and_then(|report| report.result.clone()).unwrap_or_default();
        assert_eq!(finals.first().map(|report| report.instance_status), Some(4), "{id}");
        assert!(result.contains("cancelled by the agent's shutdown") && result.contains(what), "{result}");
    }
    assert!(rig.fake.finals(ID)[0].result.as_deref().is_some_and(|said| said.contains("ended early: Cancelled")));
    assert!(rig.fake.heartbeats().last().is_some_and(|beat| beat.overload), "a resume does not bring it back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_without_a_server_ends_the_worker_and_the_next_start_reports() {
    let mut rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 600_000})).await;
    rig.fake.kill();
    tokio::time::timeout(PATIENCE, worker.shutdown(Shutdown::Cancel)).await.expect("the worker ends");
    assert!(rig.fake.finals(ID).is_empty());
    rig.fake.revive();
    let worker = rig.start().await;
    until("the report", || !rig.fake.finals(ID).is_empty()).await;
    let result = rig.fake.finals(ID)[0].result.clone().unwrap_or_default();
    assert!(result.contains("cancelled by the agent's shutdown"), "{result}");
    worker.shutdown(Shutdown::Detach).await;
}

/// Nothing can be made durable at the moment of the order, and what was ordered holds when it can again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_comes_while_the_store_fails_is_carried_out_when_it_works_again() {
    let rig = Rig::new().await;
    let migrations = [crate::MIGRATIONS, testrig_joblog::MIGRATIONS].concat();
    let store = testrig_store::Store::open(&rig.dir.path().join("worker.db"), &migrations).expect("a store");
    let worker = rig.builder().store(store.clone()).start().await.expect("starts");
    until("it is listed", || worker.status().listed).await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 600_000})).await;
    until("it runs", || worker.status().running == 1).await;
    let full = "CREATE TRIGGER full BEFORE INSERT ON powerjob_instance BEGIN SELECT RAISE(ABORT, 'disk is full'); END";
    store.write(move |db| db.execute_batch(full)).await.expect("a trigger");
    until("the failure is seen", || worker.status().store_error.is_some()).await;
    let ending = async {
        tokio::join!(worker.shutdown(Shutdown::Cancel), async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            store.write(|db| db.execute_batch("DROP TRIGGER full")).await.expect("space again");
        })
    };
    tokio::time::timeout(PATIENCE, ending).await.expect("the worker ends");
    let result = rig.fake.finals(ID).first().and_then(|report| report.result.clone()).unwrap_or_default();
    assert!(result.contains("cancelled by the agent's shutdown"), "{result}");
}
