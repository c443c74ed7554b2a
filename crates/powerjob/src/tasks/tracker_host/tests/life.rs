//! Instances from their dispatch to their end.

use super::*;
use crate::StopReason;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[tokio::test]
async fn a_map_reduce_ends_at_once_with_every_result_before_reduce_and_all_workers_stopped() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |task, address| match task.task_name.as_str() {
        ROOT_TASK => Some((20, true, "mapped".to_owned())),
        LAST_TASK => ok("reduced"),
        _ => ok(format!("{} on {address}", task.task_id)),
    });
    let since = Instant::now();
    let end = rig.run(&job("MAP_REDUCE", "API", ""), false).await;
    assert!(end.result.success && !end.result.retryable, "{end:?}");
    assert_eq!((end.result.message.as_str(), end.progress.total, end.progress.succeeded), ("reduced", 22, 22));
    assert!(since.elapsed() < Duration::from_secs(10));
    let reduced = rig.acted.reduced.lock().clone();
    let ids: HashSet<&str> = reduced.iter().map(|result| result.task_id.as_str()).collect();
    assert_eq!((reduced.len(), ids.len()), (21, 21), "the root and every sub-task, once");
    let begun = rig.begun();
    assert_eq!(begun.len(), 22);
    assert!(begun.iter().filter(|(address, _)| address == OTHER).count() >= 5, "{begun:?}");
    let mut stops = rig.acted.stops.lock().clone();
    stops.sort();
    assert_eq!(stops, [(OWN.to_owned(), 7), (OTHER.to_owned(), 7)]);
    let log = rig.log(7);
    assert!(log.contains("MAP_REDUCE with 2 workers") && log.contains("tasks by worker"), "{log}");
}

#[tokio::test]
async fn a_broadcast_runs_once_on_every_worker_between_its_two_steps() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |task, _| ok(task.task_name.clone()));
    let end = rig.run(&job("BROADCAST", "API", ""), false).await;
    assert_eq!((end.result.success, end.result.message.as_str()), (true, LAST_TASK));
    let expected = [(OWN, "0"), (OWN, "0.0"), (OWN, "9999"), (OTHER, "0.1")];
    assert_eq!(rig.begun(), expected.map(|(address, id)| (address.to_owned(), id.to_owned())));
    assert_eq!(rig.acted.reduced.lock().len(), 3);
}

#[tokio::test]
async fn a_broadcast_does_not_wait_for_ever_for_a_worker_that_nobody_reaches() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |task, _| ok(task.task_name.clone()));
    rig.acted.dead.lock().insert(OTHER.to_owned());
    let end = rig.run(&job("BROADCAST", "API", ""), false).await;
    assert_eq!((end.result.success, end.progress.failed), (true, 1));
    let reduced = rig.acted.reduced.lock().clone();
    assert!(reduced.iter().any(|result| !result.success && result.result == "maybe worker down"), "{reduced:?}");
    assert!(rig.log(7).contains("10.0.0.2:27777 is lost"), "{}", rig.log(7));
}

#[tokio::test]
async fn tasks_of_a_worker_that_nobody_reaches_go_to_another_one() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |task, _| match task.task_name.as_str() {
        ROOT_TASK => Some((20, true, String::new())),
        _ => ok("done"),
    });
    rig.acted.dead.lock().insert(OTHER.to_owned());
    let end = rig.run(&job("MAP", "API", ""), false).await;
    assert_eq!(end.result.message, "total:21,succeed:21,failed:0");
    assert!(rig.begun().iter().all(|(address, _)| address == OWN));
}

#[tokio::test]
async fn a_stop_silences_the_instance_and_a_time_limit_ends_it_as_failed() {
    let dir = dir();
    for (reason, text) in [(StopReason::Stopped, "stopped"), (StopReason::TimedOut, "instance execute timeout")] {
        let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |_, _| None);
        let (stop, acted) = (rig.stop.clone(), rig.acted.clone());
        tokio::spawn(async move {
            until("the root begins", || !acted.begun.lock().is_empty()).await;
            stop.raise(reason);
        });
        let end = rig.run(&job("MAP", "API", ""), false).await;
        assert_eq!((end.result.success, end.result.message.as_str()), (false, text));
        assert_eq!(*rig.acted.stops.lock(), [(OWN.to_owned(), 7)], "only who had something of it");
        let late =
            ReportTask { instance_id: 7, sub_instance_id: 7, task_id: "0".into(), status: 6, ..Default::default() };
        assert!(matches!(rig.host.report_task(OWN, late).await, Err(PeerError::Unreachable(_))));
    }
}

#[tokio::test]
async fn a_stop_reaches_the_own_worker_at_once_though_tasks_are_on_their_way_to_another_one() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |task, _| match task.task_name.as_str() {
        ROOT_TASK => Some((4, true, String::new())),
        _ => None,
    });
    rig.acted.mute.lock().insert(OTHER.to_owned());
    let (host, start) = (rig.host.clone(), rig.start(&job("MAP", "API", ""), false));
    let run = tokio::spawn(async move { host.run(start).await });
    until("both have tasks", || rig.acted.begun.lock().iter().any(|(address, _)| address == OTHER)).await;
    rig.stop.raise(StopReason::Stopped);
    run.await.expect("no panic");
    assert_eq!(rig.acted.last_words.lock().first(), Some(&"own stop"), "{:?}", rig.acted.last_words);
    assert!(rig.acted.last_words.lock().contains(&"start given up"), "no stop overtakes a task");
    assert!(rig.acted.stops.lock().contains(&(OTHER.to_owned(), 7)));
}

#[tokio::test]
async fn an_instance_that_ends_while_its_tasks_cannot_be_written_says_what_ended_it_and_why_it_could_not() {
    let each = [
        (StopReason::Stopped, "stopped"),
        (StopReason::Cancelled, "its tasks were told to end"),
        (StopReason::TimedOut, "instance execute timeout"),
    ];
    let each = each.map(|(reason, text)| async move {
        let dir = dir();
        let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |_, _| None);
        let (host, start) = (rig.host.clone(), rig.start(&job("MAP", "API", ""), false));
        let run = tokio::spawn(async move { host.run(start).await });
        until("the root begins", || !rig.acted.begun.lock().is_empty()).await;
        // Another process writes and does not end.
        let other = rusqlite::Connection::open(dir.path().join("tasks.db")).expect("the table");
        other.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
        rig.stop.raise(reason);
        let end = tokio::time::timeout(Duration::from_secs(60), run).await.expect("it ends").expect("no panic");
        other.execute_batch("ROLLBACK").expect("ended");
        assert!(!end.result.success, "{end:?}");
        assert!(end.result.message.starts_with(text), "{}", end.result.message);
        assert!(end.result.message.contains("cannot be written"), "{}", end.result.message);
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test]
async fn a_worker_that_was_not_reached_by_the_stop_is_told_when_it_speaks_again() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |task, _| match task.task_name.as_str() {
        ROOT_TASK => Some((4, true, String::new())),
        _ => None,
    });
    let (stop, acted) = (rig.stop.clone(), rig.acted.clone());
    tokio::spawn(async move {
        until("both have tasks", || acted.begun.lock().iter().any(|(address, _)| address == OTHER)).await;
        acted.dead.lock().insert(OTHER.to_owned());
        stop.raise(StopReason::Stopped);
    });
    rig.run(&job("MAP", "API", ""), false).await;
    rig.acted.dead.lock().clear();
    let load = ReportWorker { kind: 2, instance_id: 7, time: 99, remain_task_num: 1, address: OTHER.to_owned() };
    assert!(rig.host.report_worker(OWN, load.clone()).await.is_err());
    until("it is told", || rig.acted.stops.lock().iter().any(|(address, _)| address == OTHER)).await;
    let unknown = ReportWorker { instance_id: 8, ..load };
    assert!(rig.host.report_worker(OWN, unknown).await.is_err());
    assert!(rig.acted.stops.lock().iter().all(|(_, id)| *id == 7), "of an unknown one nothing is said");
}

#[tokio::test]
async fn a_workflow_node_hands_on_what_its_tasks_append_and_names_what_is_too_long() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |_, _| ok("done"));
    let end = rig.run(&job("BROADCAST", "WORKFLOW", r#","wfInstanceId":70"#), false).await;
    assert_eq!(end.appended_context.keys().collect::<Vec<_>>(), ["0", "0.0", "0.1", "9999"]);
    let end = rig.run(&job("BROADCAST", "API", ""), false).await;
    assert!(end.appended_context.is_empty(), "outside of a workflow there is no context");
}

#[tokio::test]
async fn a_job_that_cannot_be_executed_says_what_is_wrong() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |_, _| None);
    for (kind, time, more, text) in [
        ("MAP", "FIXED_RATE", r#","timeExpression":"20""#, "20 ms; 50 ms or more"),
        ("STANDALONE", "FIXED_DELAY", r#","timeExpression":"soon""#, "is `soon`; a number of milliseconds"),
        ("SHARDING", "API", "", "execute type `SHARDING` is not known"),
    ] {
        let end = rig.run(&job(kind, time, more), false).await;
        assert!(!end.result.success && end.result.message.contains(text), "{}", end.result.message);
    }
}

#[tokio::test]
async fn a_frequent_job_fires_counts_alarms_and_is_shown() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, false, |task, _| {
        let odd = task.sub_instance_id % 2 == 1;
        Some((0, odd, format!("firing {}", task.sub_instance_id)))
    });
    let zeros = r#","timeExpression":"50","alarmConfig":"{\"alertThreshold\":0,\"silenceWindowLen\":0,\"statisticWindowLen\":0}""#;
    let request = job("STANDALONE", "FIXED_RATE", zeros);
    let (host, start) = (rig.host.clone(), rig.start(&request, false));
    let run = tokio::spawn(async move { host.run(start).await });
    let ended = |progress: &Progress| progress.succeeded + progress.failed;
    until("twelve firings", || rig.host.progress(7).is_some_and(|progress| ended(&progress) >= 12)).await;
    let progress = rig.host.progress(7).expect("it runs");
    assert!(progress.total >= ended(&progress) && progress.failed >= 5, "{progress:?}");
    let alert = rig.host.take_alert(7).expect("failures alarm");
    assert!(alert.starts_with("firing "), "{alert}");
    rig.host.give_back_alert(7, alert);
    assert!(rig.host.take_alert(7).is_some());
    let detail = rig.host.detail(7, None).await.expect("it runs");
    let firings = detail.sub_instance_details.expect("firings");
    assert!(firings.len() == 10 && firings.is_sorted_by_key(|firing| -firing.sub_instance_id), "{firings:?}");
    rig.silent.store(60_000, Ordering::Relaxed);
    until("it holds still", || rig.log(7).contains("does not fire until")).await;
    let held = rig.host.progress(7).expect("it runs").total;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.host.progress(7).expect("it runs").total, held);
    rig.silent.store(0, Ordering::Relaxed);
    until("it fires again", || rig.host.progress(7).is_some_and(|progress| progress.total > held)).await;
    rig.stop.raise(StopReason::Stopped);
    let end = run.await.expect("no panic");
    assert_eq!(end.result.message, "stopped");
}

#[tokio::test]
async fn the_console_sees_numbers_and_the_tasks_that_it_asks_for() {
    let dir = dir();
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, true, |task, _| match task.task_name.as_str() {
        ROOT_TASK => Some((4, true, "mapped".to_owned())),
        _ if task.task_id == "0.3" => None,
        _ => ok(task.task_id.clone()),
    });
    let request = job("MAP_REDUCE", "API", "");
    let (host, start) = (rig.host.clone(), rig.start(&request, false));
    let run = tokio::spawn(async move { host.run(start).await });
    until("all but one", || rig.host.progress(7).is_some_and(|progress| progress.succeeded == 4)).await;
    let old = rig.host.detail(7, None).await.expect("it runs").task_detail.expect("numbers");
    assert_eq!((old.total_task_num, old.succeed_task_num, old.running_task_num), (5, 4, None));
    let query = "status = 6 order by task_id";
    let new = rig.host.detail(7, Some(query)).await.expect("it runs");
    assert_eq!(new.task_detail.and_then(|numbers| numbers.running_task_num), Some(1));
    let listed = new.queried_task_detail_info_list.expect("tasks");
    let ids: Vec<&str> = listed.iter().map(|task| task.task_id.as_str()).collect();
    assert_eq!(ids, ["0", "0.0", "0.1", "0.2"]);
    rig.stop.raise(StopReason::Stopped);
    run.await.expect("no panic");
    assert!(rig.host.detail(7, None).await.is_none());
}
