//! The worker is killed: the next process takes the instance up.

use super::*;

async fn cut(rig: &Rig, request: &Arc<ServerScheduleJobReq>, when: impl FnMut() -> bool) {
    let (host, start) = (rig.host.clone(), rig.start(request, false));
    let run = tokio::spawn(async move { host.run(start).await });
    until("the moment of the kill", when).await;
    run.abort();
    assert!(run.await.is_err_and(|error| error.is_cancelled()));
    assert!(rig.host.progress(7).is_none(), "nobody speaks for it now");
}

#[tokio::test]
async fn a_killed_tracker_goes_on_from_its_table() {
    for (policy, failed) in [(RestartPolicy::Rerun, 0..=0), (RestartPolicy::Fail, 5..=20)] {
        let dir = tempfile::tempdir().expect("a directory");
        let request = job("MAP_REDUCE", "API", "");
        let first = Rig::open(dir.path(), policy, true, |task, _| match task.task_name.as_str() {
            ROOT_TASK => Some((200, true, String::new())),
            _ if task.task_id.len() < 4 => ok("early"),
            _ => None,
        });
        let begun = first.acted.clone();
        cut(&first, &request, || begun.begun.lock().len() >= 31).await;
        let second = Rig::open(dir.path(), policy, true, |task, _| ok(task.task_name.clone()));
        second.acted.time.store(1_000_000, Ordering::Relaxed);
        // What the other worker still had is reported to the new process.
        let elsewhere: Vec<String> =
            first.begun().into_iter().filter(|(a, id)| a == OTHER && id.len() >= 4).map(|(_, id)| id).collect();
        assert!(!elsewhere.is_empty());
        let (host, acted) = (second.host.clone(), second.acted.clone());
        tokio::spawn(async move {
            until("the new process is there", || host.progress(7).is_some_and(|progress| progress.total > 0)).await;
            for task_id in elsewhere {
                let report_time = acted.now();
                let report = ReportTask {
                    instance_id: 7,
                    sub_instance_id: 7,
                    task_id,
                    status: 6,
                    result: Some("late".to_owned()),
                    report_time,
                    ..ReportTask::default()
                };
                host.report_task(OWN, report).await.expect("taken");
            }
        });
        let end = second.run(&request, true).await;
        assert_eq!((end.result.success, end.result.message.as_str()), (true, LAST_TASK), "{}", second.log(7));
        assert_eq!(end.progress.total, 202);
        assert!(failed.contains(&end.progress.failed), "{policy:?} {end:?}\n{}", second.log(7));
        let reduced = second.acted.reduced.lock().clone();
        let ids: HashSet<&str> = reduced.iter().map(|result| result.task_id.as_str()).collect();
        assert_eq!((reduced.len(), ids.len()), (201, 201));
        let twice = second.begun().into_iter().any(|(_, id)| id == "0" || id.len() == 3);
        assert!(!twice, "what had ended is not run again");
    }
}

#[tokio::test]
async fn the_end_of_an_instance_outlives_a_kill_before_it_was_written_down_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let request = job("MAP", "API", "");
    let first = Rig::open(dir.path(), RestartPolicy::Fail, true, |_, _| ok("done"));
    let end = first.run(&request, false).await;
    let second = Rig::open(dir.path(), RestartPolicy::Fail, true, |_, _| None);
    let again = second.run(&request, true).await;
    assert_eq!((again.result, again.progress), (end.result, end.progress));
    assert!(second.begun().is_empty(), "nothing ran twice");
    assert_eq!(*second.acted.stops.lock(), [(OWN.to_owned(), 7)]);
    let third = Rig::open(dir.path(), RestartPolicy::Fail, true, |_, _| ok("done"));
    third.run(&request, false).await;
    assert_eq!(third.begun().len(), 1, "a new dispatch of the id begins from the start");
}

#[tokio::test]
async fn an_instance_that_was_killed_before_its_first_transaction_begins() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |_, _| ok("done"));
    let end = rig.run(&job("MAP", "API", ""), true).await;
    assert_eq!(end.result.message, "total:1,succeed:1,failed:0");
}

#[tokio::test]
async fn a_frequent_job_counts_on_after_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let request = job("STANDALONE", "FIXED_DELAY", r#","timeExpression":"10""#);
    let first = Rig::open(dir.path(), RestartPolicy::Rerun, true, |_, _| ok("done"));
    let host = first.host.clone();
    cut(&first, &request, || host.progress(7).is_some_and(|progress| progress.succeeded >= 5)).await;
    let second = Rig::open(dir.path(), RestartPolicy::Rerun, true, |_, _| ok("done"));
    let (host, start) = (second.host.clone(), second.start(&request, true));
    let run = tokio::spawn(async move { host.run(start).await });
    until("it goes on", || second.host.progress(7).is_some_and(|progress| progress.succeeded >= 10)).await;
    let numbers: Vec<i64> = second.begun().iter().map(|(_, id)| id.parse().expect("a number")).collect();
    assert!(numbers.iter().all(|&number| number >= 5), "{numbers:?}");
    second.stop.raise(crate::StopReason::Stopped);
    run.await.expect("no panic");
}

#[tokio::test]
async fn what_a_processor_takes_up_comes_back_to_this_worker_marked_as_cut() {
    let dir = tempfile::tempdir().expect("a directory");
    let request = job("MAP_REDUCE", "API", "");
    let first = Rig::open(dir.path(), RestartPolicy::Resume, true, |task, _| match task.task_name.as_str() {
        ROOT_TASK => Some((50, true, String::new())),
        _ => None,
    });
    let begun = first.acted.clone();
    cut(&first, &request, || begun.begun.lock().iter().filter(|(address, _)| address == OWN).count() >= 4).await;
    let at_work: HashSet<String> =
        first.begun().into_iter().filter(|(address, id)| address == OWN && id != "0").map(|(_, id)| id).collect();
    let resumed = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = resumed.clone();
    let second = Rig::open(dir.path(), RestartPolicy::Resume, false, move |task, address| {
        if task.resumed {
            seen.lock().push((address.to_owned(), task.task_id.clone()));
        }
        ok("done")
    });
    second.acted.dead.lock().insert(OTHER.to_owned());
    let (host, start) = (second.host.clone(), second.start(&request, true));
    let run = tokio::spawn(async move { host.run(start).await });
    let again = || at_work.iter().all(|id| resumed.lock().iter().any(|(_, resumed)| resumed == id));
    until("they have begun again", again).await;
    let end = tokio::time::timeout(std::time::Duration::from_secs(60), run).await.expect("it ends").expect("no panic");
    assert!(end.result.success, "{end:?}");
    let resumed = resumed.lock();
    assert!(resumed.iter().all(|(address, _)| address == OWN), "{resumed:?}");
    // The rest never began here: it waited, or was at the other worker.
    assert!(resumed.len() < 40, "{resumed:?}");
}

#[tokio::test]
async fn rows_of_an_instance_that_ended_while_the_table_could_not_be_written_are_deleted_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let request = job("MAP_REDUCE", "API", "");
    let rig = Rig::open(dir.path(), RestartPolicy::Rerun, true, |task, _| match task.task_name.as_str() {
        ROOT_TASK => Some((50, true, String::new())),
        _ => None,
    });
    let (host, start) = (rig.host.clone(), rig.start(&request, false));
    let run = tokio::spawn(async move { host.run(start).await });
    until("tasks are at work", || rig.acted.begun.lock().len() > 5).await;
    let store = rig.host.inner.deps.table.open().await.expect("open").clone();
    let rename = |from: &'static str, to: &'static str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        let store = store.clone();
        async move { store.write(move |db| db.execute_batch(&sql)).await.expect("renamed") }
    };
    rename("tracker", "away").await;
    // Whatever comes now, the stop itself at last, finds the table broken: the instance ends without it.
    rig.stop.raise(crate::StopReason::Stopped);
    let report =
        ReportTask { instance_id: 7, sub_instance_id: 7, task_id: "0.1".into(), status: 6, ..ReportTask::default() };
    let _ = rig.host.report_task(OWN, report).await;
    tokio::time::timeout(Duration::from_secs(60), run).await.expect("it ends").expect("no panic");
    rename("away", "tracker").await;
    let rows = |db: &rusqlite::Connection| {
        db.query_row(
            "SELECT (SELECT count(*) FROM task) + (SELECT count(*) FROM run) + (SELECT count(*) FROM tracker)",
            [],
            |row| row.get::<_, i64>(0),
        )
    };
    let before = store.read(rows).await.expect("read");
    assert!(before > 50, "{before}");
    rig.host.tidy().await;
    assert_eq!(store.read(rows).await.expect("read"), before, "the worker has it open, for all the table knows");
    rig.open.store(0, Ordering::Relaxed);
    rig.host.tidy().await;
    let since = Instant::now();
    while store.read(rows).await.expect("read") > 0 {
        assert!(since.elapsed() < Duration::from_secs(30), "rows are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
