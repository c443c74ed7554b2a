//! The life of an instance when all goes well, and the ends that are not SUCCEED.

use super::*;

const ID: i64 = 1_004_402_621_408_084_032;

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_gives_its_first_log_line_then_running_then_its_whole_log_then_the_final_report() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    let mut body = request(&worker, ID, "fail", json!({"lines": 50, "sleep": 300}));
    body["wfInstanceId"] = json!(ID - 1);
    body["instanceParams"] = json!(r#"{"k":"v"}"#);
    assert_eq!(rig.post(&worker, "/worker/runJob", &body).await, (200, String::new()));
    until("the final report", || !rig.fake.finals(ID).is_empty()).await;

    let order = rig.fake.seen(|seen| match seen {
        fake::Seen::Line(_) => Some("line"),
        fake::Seen::Report(report) if report.instance_status == 3 => Some("running"),
        fake::Seen::Report(_) => Some("final"),
        fake::Seen::Heartbeat(_) => None,
    });
    assert_eq!(order.first(), Some(&"line"));
    let running = order.iter().position(|what| *what == "running").expect("a RUNNING report");
    let end = order.iter().position(|what| *what == "final").expect("a final report");
    assert!(running < end && order[end..].iter().all(|what| *what == "final"), "{order:?}");

    let lines = rig.fake.lines(ID);
    assert_eq!(lines.iter().filter(|line| line.log_content.starts_with("line ")).count(), 50);
    assert!(lines.windows(2).all(|pair| pair[0].log_time < pair[1].log_time), "log times increase");

    let report = &rig.fake.finals(ID)[0];
    assert_eq!((report.instance_status, report.result.as_deref()), (5, Some("done")));
    assert_eq!((report.app_id, report.job_id, report.wf_instance_id), (fake::APP_ID, 11, Some(ID - 1)));
    assert_eq!(report.appended_wf_context.as_ref().expect("a context")["from"], "v");
    assert_eq!((report.total_task_num, report.succeed_task_num, report.failed_task_num), (1, 1, 0));
    assert!(report.end_time.expect("an end") >= report.start_time);
    rig.closed(&worker, ID).await;
    assert!(journal_text(&rig.journals(), ID).contains("SUCCEED"));
    assert_eq!(worker.status().counters.succeeded, 1);
    worker.shutdown(Shutdown::Detach).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_10_every_message_carries_one_and_the_same_address() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 200})).await;
    until("the final report", || !rig.fake.finals(ID).is_empty()).await;
    assert!(rig.fake.heartbeats().iter().all(|beat| beat.worker_address == worker.address()));
    assert!(rig.fake.reports(ID).iter().all(|report| report.source_address == worker.address()));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_11_report_times_increase_and_trap_12_an_early_final_report_is_repeated_with_its_own() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({})).await;
    until("the repeat", || rig.fake.finals(ID).len() == 2).await;
    rig.closed(&worker, ID).await;
    let finals = rig.fake.finals(ID);
    assert_eq!(finals[0], finals[1]);
    let reports = rig.fake.reports(ID);
    let first_final = reports.iter().position(|report| report.instance_status != 3).expect("a final report");
    assert!(reports[..first_final].windows(2).all(|pair| pair[0].report_time < pair[1].report_time));
    assert!(reports[..first_final].iter().all(|report| report.report_time < finals[0].report_time));
    assert_eq!(reports.len(), first_final + 2, "no RUNNING behind the final report");
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_12_two_hundred_jobs_that_end_at_once_are_each_run_once_and_reported() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    for n in 0..200 {
        rig.dispatch(&worker, ID + n, "fail", json!({})).await;
    }
    until("all are closed", || worker.status().counters.succeeded == 200).await;
    for n in 0..200 {
        let finals = rig.fake.finals(ID + n);
        assert!(finals.len() == 2 && finals[0] == finals[1], "{n}: {finals:?}");
        let ends = rig.fake.lines(ID + n).iter().filter(|line| line.log_content.starts_with("SUCCEED")).count();
        assert_eq!(ends, 1, "instance {n} ran once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_13_an_instance_that_waits_for_a_slot_is_reported_running() {
    let mut rig = Rig::new().await;
    rig.config.slots = 1;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 60_000})).await;
    rig.dispatch(&worker, ID + 1, "fail", json!({})).await;
    until("RUNNING of the waiting one", || !rig.fake.reports(ID + 1).is_empty()).await;
    assert_eq!(worker.status().instances[1].stage, "queued");
    until("overload is told at once", || rig.fake.heartbeats().last().is_some_and(|beat| beat.overload)).await;
    rig.stop(&worker, ID).await;
    until("the waiting one ran", || !rig.fake.finals(ID + 1).is_empty()).await;
    until("the flag is gone", || rig.fake.heartbeats().last().is_some_and(|beat| !beat.overload)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_14_an_open_instance_is_not_started_twice_and_a_closed_one_is_run_again() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 500})).await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 500})).await;
    until("the first end", || !rig.fake.finals(ID).is_empty()).await;
    rig.closed(&worker, ID).await;
    assert_eq!(worker.status().counters.duplicates_ignored, 1);
    let first = rig.fake.finals(ID)[0].clone();
    rig.dispatch(&worker, ID, "fail", json!({"fail": "the second time"})).await;
    until("the second end", || rig.fake.finals(ID).iter().any(|report| report.instance_status == 4)).await;
    let second = rig.fake.finals(ID).into_iter().find(|report| report.instance_status == 4).expect("the second");
    assert!(second.report_time > first.report_time);
    assert_eq!(second.result.as_deref(), Some("the second time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_15_after_a_stop_nothing_is_reported_and_the_processor_is_told() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 60_000})).await;
    until("RUNNING", || !rig.fake.reports(ID).is_empty()).await;
    rig.stop(&worker, ID).await;
    rig.closed(&worker, ID).await;
    let reports = rig.fake.reports(ID).len();
    assert!(rig.fake.finals(ID).is_empty());
    until("its last lines", || rig.fake.lines(ID).iter().any(|line| line.log_content == "asked to end: Stopped")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(rig.fake.reports(ID).len(), reports, "nothing behind the stop");
    assert!(journal_text(&rig.journals(), ID).contains("STOPPED"));
    let answer = rig.post(&worker, "/worker/queryInstanceStatus", &json!({"instanceId": ID})).await;
    assert_eq!(answer, (200, r#"{"success":false,"message":"can't find TaskTracker"}"#.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_16_the_time_limit_is_enforced_and_the_instance_fails() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    let mut body = request(&worker, ID, "fail", json!({"sleep": 60_000}));
    body["instanceTimeoutMS"] = json!(300);
    rig.post(&worker, "/worker/runJob", &body).await;
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    let end = &rig.fake.finals(ID)[0];
    assert_eq!(end.instance_status, 4);
    assert!(end.result.as_deref().is_some_and(|text| text.contains("timeout") && text.contains("TimedOut")), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_does_not_end_keeps_its_slot() {
    let mut rig = Rig::new().await;
    rig.config.slots = 1;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 1500, "deaf": true})).await;
    until("it runs", || worker.status().running == 1).await;
    rig.stop(&worker, ID).await;
    rig.dispatch(&worker, ID + 1, "fail", json!({})).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((worker.status().running, rig.fake.finals(ID + 1).len()), (1, 0));
    until("the next one had the slot", || !rig.fake.finals(ID + 1).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_17_what_cannot_be_taken_is_ignored_and_never_reported_failed() {
    let mut rig = Rig::new().await;
    (rig.config.slots, rig.config.backlog) = (1, 0);
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 60_000})).await;
    rig.dispatch(&worker, ID + 1, "fail", json!({})).await;
    until("overload is told", || rig.fake.heartbeats().last().is_some_and(|beat| beat.overload)).await;
    assert_eq!(worker.status().counters.overload_ignored, 1);
    assert!(rig.fake.reports(ID + 1).is_empty() && worker.status().instances.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_the_instance_with_its_text_and_the_worker_goes_on() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"panic": "index 7 of 3"})).await;
    rig.dispatch(&worker, ID + 1, "fail", json!({})).await;
    until("both ends", || !rig.fake.finals(ID).is_empty() && !rig.fake.finals(ID + 1).is_empty()).await;
    let result = rig.fake.finals(ID)[0].result.clone().expect("a text");
    assert!(result.contains("`fail` panicked: index 7 of 3"), "{result}");
    assert_eq!(worker.status().counters.panics, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_processor_fails_with_what_was_asked_what_is_served_and_what_to_do() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "com.example.ResumeProcessor", json!({})).await;
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    let result = rig.fake.finals(ID)[0].result.clone().expect("a text");
    for part in ["com.example.ResumeProcessor", "did you mean `resume`", "`fail`, `rerun`, `resume`", "processorInfo"] {
        assert!(result.contains(part), "{part} in {result}");
    }
    assert_eq!(rig.fake.finals(ID)[0].instance_status, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_says_goodbye_with_overload_and_is_gone_within_two_seconds() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    let began = std::time::Instant::now();
    worker.shutdown(Shutdown::Drain).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(rig.fake.heartbeats().last().expect("a heartbeat").overload);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_open_instances_end_and_be_reported() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 700})).await;
    worker.shutdown(Shutdown::Drain).await;
    assert_eq!(rig.fake.finals(ID)[0].instance_status, 5);
    assert!(worker.status().instances.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_what_is_open_and_whether_the_server_lists_the_worker() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({"sleep": 60_000})).await;
    let runs = || worker.status().running == 1 && worker.status().instances.iter().any(|i| i.stage == "running");
    until("it runs", runs).await;
    let status = worker.status();
    assert!(status.listed && status.owner.as_ref().is_some_and(|owner| owner.app_id == fake::APP_ID), "{status:?}");
    assert_eq!(status.instances[0].instance_id, ID.to_string());
    assert_eq!((status.instances[0].attempt, status.running), (1, 1));
    assert!(serde_json::to_string(&status).expect("JSON").contains("\"stage\":\"running\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_counts_as_told_only_when_the_server_has_taken_a_heartbeat_that_was_made_after_it() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    until("the first answer", || worker.status().listed).await;
    rig.fake.book.lock().held.push(fake::HEARTBEAT);
    worker.drain(true).await;
    until("it drains", || worker.status().draining).await;
    assert!(!worker.status().drain_told, "no server can know");
    worker.drain(false).await;
    until("it resumes", || !worker.status().draining).await;
    // What the server heard last is the word of before the drain: no overload.
    let status = worker.status();
    assert!(!status.overload && !status.drain_told, "{status:?}");
    let before = rig.fake.heartbeats().len();
    rig.fake.book.lock().held.clear();
    until("the server knows", || worker.status().drain_told).await;
    let after = rig.fake.heartbeats();
    assert!(after[before..].iter().any(|beat| !beat.overload), "{after:?}");
    worker.drain(true).await;
    until("told again", || worker.status().draining && worker.status().drain_told).await;
    assert!(rig.fake.heartbeats().iter().any(|beat| beat.overload));
}
