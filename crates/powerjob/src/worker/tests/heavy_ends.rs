//! Ends of instances with tasks that somebody wants: a worker that is cancelled, stops at every moment.

use super::{tasks::Pair, *};

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_worker_hands_the_tasks_of_another_ones_instance_back_before_it_leaves() {
    let pair = Pair::new().await;
    let (owner, other) = (pair.owner().await, pair.other().await);
    let params = json!({"tasks": 8, "stuck": other.address()});
    pair.dispatch(&[&owner, &other], 1, ("MAP_REDUCE", "API"), params).await;
    until("the other worker has some", || other.status().open_tasks > 0).await;
    tokio::time::timeout(4 * PATIENCE, other.shutdown(Shutdown::Cancel)).await.expect("it leaves");
    // A task may have been on its way to the port that was closing: it is held until the owner takes the other one for lost.
    let ended = async {
        while pair.rig.fake.finals(1).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(5 * PATIENCE, ended).await.expect("it ends");
    let last = pair.rig.fake.finals(1).remove(0);
    assert_eq!((last.instance_status, last.result.as_deref()), (5, Some("reduced 9")), "8 tasks and the root");
    let told = |line: &crate::wire::InstanceLogContent| {
        let text = &line.log_content;
        text.contains("is tried again (1 of 1)") && text.contains("cancelled by the agent's shutdown")
    };
    until("the reason is in the log", || pair.rig.fake.lines(1).iter().any(told)).await;
}

/// Its own runs are waited for without a bound: nobody else could end them.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_worker_does_not_wait_for_ever_for_tasks_of_another_ones_instance_that_do_not_listen() {
    let pair = Pair::new().await;
    let (owner, other) = (pair.owner().await, pair.other().await);
    pair.dispatch(&[&owner, &other], 1, ("BROADCAST", "API"), json!({"deaf": other.address()})).await;
    until("the other worker has one", || other.status().open_tasks > 0).await;
    let began = std::time::Instant::now();
    tokio::time::timeout(8 * PATIENCE, other.shutdown(Shutdown::Cancel)).await.expect("it leaves");
    assert!(began.elapsed() >= Duration::from_secs(25), "it gave the task time: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_worker_ends_its_own_instances_on_all_workers_and_reports_them() {
    let pair = Pair::new().await;
    let (owner, other) = (pair.owner().await, pair.other().await);
    let kinds = [("BROADCAST", 1), ("MAP", 2), ("MAP_REDUCE", 3)];
    for (kind, id) in kinds {
        let params = if kind == "BROADCAST" { json!({}) } else { json!({"tasks": 6}) };
        let mut params = params;
        params["sleep"] = json!(600_000);
        pair.dispatch(&[&owner, &other], id, (kind, "API"), params).await;
    }
    until("all are at work on both", || {
        let running = owner.status().instances.iter().filter(|i| i.tasks.is_some_and(|tasks| tasks.total > 1)).count();
        running == kinds.len() && other.status().open_tasks > 2
    })
    .await;
    tokio::time::timeout(4 * PATIENCE, owner.shutdown(Shutdown::Cancel)).await.expect("it leaves");
    // What a busy server has not taken within ten seconds is told by the next start.
    let owner = pair.owner().await;
    for (kind, id) in kinds {
        until("the report", || !pair.rig.fake.finals(id).is_empty()).await;
        let finals = pair.rig.fake.finals(id);
        let result = finals.first().and_then(|report| report.result.clone()).unwrap_or_default();
        assert_eq!(finals.first().map(|report| report.instance_status), Some(4), "{kind}");
        assert!(result.contains("cancelled by the agent's shutdown"), "{kind}: {result}");
        assert!(result.contains("its tasks were told to end"), "{kind}: {result}");
    }
    until("the other worker was told", || other.status().open_tasks == 0).await;
    owner.shutdown(Shutdown::Detach).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_the_start_twice_after_the_end_and_of_an_unknown_instance_ends_right() {
    let pair = Pair::new().await;
    let (owner, other) = (pair.owner().await, pair.other().await);
    let workers = [&owner, &other];
    for (n, kind) in ["BROADCAST", "MAP", "MAP_REDUCE"].into_iter().enumerate() {
        let (early, running, ended, unknown) = (10 * n as i64, 10 * n as i64 + 1, 10 * n as i64 + 2, 10 * n as i64 + 3);
        let long = json!({"tasks": if kind == "BROADCAST" { 0 } else { 6 }, "sleep": 600_000});

        pair.rig.stop(&owner, early).await;
        pair.dispatch(&workers, early, (kind, "API"), long.clone()).await;

        pair.dispatch(&workers, running, (kind, "API"), long.clone()).await;
        until("both work", || owner.status().open_tasks > 0 && other.status().open_tasks > 0).await;
        pair.rig.stop(&owner, running).await;
        pair.rig.stop(&owner, running).await;
        pair.rig.closed(&owner, running).await;
        pair.rig.stop(&owner, running).await;
        until("nothing is left", || owner.status().open_tasks + other.status().open_tasks == 0).await;

        pair.dispatch(&workers, ended, (kind, "API"), json!({"tasks": long["tasks"]})).await;
        assert_eq!(pair.result(ended).await.instance_status, 5, "{kind}");
        pair.rig.stop(&owner, ended).await;
        pair.rig.closed(&owner, ended).await;
        pair.rig.stop(&owner, ended).await;

        pair.rig.stop(&owner, unknown).await;
        // A worker that was only told by a tracker that it does not know.
        let answer = pair.rig.post(&other, "/processorTracker/stopInstance", &json!({"instanceId": unknown})).await;
        assert_eq!(answer, (200, String::new()));

        for id in [early, running, unknown] {
            assert!(pair.rig.fake.finals(id).is_empty(), "{kind} {id}: a stop is silence");
        }
        assert!(owner.status().instances.is_empty(), "{kind}: {:?}", owner.status().instances);
    }
    // Both are as before: one more runs.
    pair.dispatch(&workers, 99, ("MAP_REDUCE", "API"), json!({"tasks": 6})).await;
    assert_eq!(pair.result(99).await.result.as_deref(), Some("reduced 7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_there_and_takes_no_reports_counts_as_silent_for_a_frequent_job() {
    let pair = Pair::new().await;
    let owner = pair.owner().await;
    pair.rig.fake.book.lock().refuses_running = true;
    pair.dispatch(&[&owner], 1, ("STANDALONE", "FIXED_RATE"), json!({})).await;
    until("reports that are refused", || pair.rig.fake.reports(1).len() > 1).await;
    let silent = || owner.shared.server_silent_ms(1);
    let before = silent();
    until("the silence grows", || silent() > before + 300).await;
    assert!(owner.shared.owner.borrow().is_some(), "discovery finds it all the while");
    let told = pair.rig.fake.reports(1).len();
    pair.rig.fake.book.lock().refuses_running = false;
    let mut last = silent();
    until("a report that is taken ends it", || silent() < std::mem::replace(&mut last, silent())).await;
    assert!(pair.rig.fake.reports(1).len() > told);
}
