//! The worker is cut off as by `kill -9` and started again on the same state.

use super::*;

const ID: i64 = 1_004_402_621_408_084_032;

/// Dispatches, cuts the worker off in the middle and starts it again.
async fn cut(rig: &Rig, processor: &str, params: Value) -> WorkerHandle {
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, processor, params).await;
    until("RUNNING", || !rig.fake.reports(ID).is_empty()).await;
    let address = worker.address().to_owned();
    rig.fake.book.lock().instances.insert(ID, (3, address.clone()));
    worker.crash().await;
    let worker = rig.start().await;
    assert_eq!(worker.address(), address, "open instances keep their address");
    worker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_can_be_taken_up_goes_on_after_a_crash_and_its_log_has_no_hole() {
    let rig = Rig::new().await;
    let worker = cut(&rig, "resume", json!({"lines": 5, "sleep": 60_000})).await;
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    let end = rig.fake.finals(ID)[0].clone();
    assert_eq!((end.instance_status, end.result.as_deref()), (5, Some("resumed in attempt 1")));
    let running = rig.fake.reports(ID);
    assert!(running.iter().filter(|r| r.instance_status == 3).all(|r| r.report_time < end.report_time));
    rig.closed(&worker, ID).await;
    let mut texts: Vec<String> = rig.fake.lines(ID).into_iter().map(|line| line.log_content).collect();
    texts.dedup();
    for text in ["line 0", "line 4", "resumed"] {
        assert!(texts.iter().any(|line| line == text), "{text} in {texts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_taken_up_fails_after_a_crash_and_says_why() {
    let rig = Rig::new().await;
    let worker = cut(&rig, "fail", json!({"sleep": 60_000})).await;
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    let end = rig.fake.finals(ID)[0].clone();
    assert_eq!(end.instance_status, 4);
    assert!(end.result.as_deref().is_some_and(|text| text.contains("worker was restarted")), "{end:?}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_run_starts_anew_after_a_crash() {
    let rig = Rig::new().await;
    let worker = cut(&rig, "rerun", json!({"sleep": 700})).await;
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    assert_eq!(rig.fake.finals(ID)[0].result.as_deref(), Some("done"));
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_15_and_trap_23_an_instance_that_was_stopped_while_the_worker_was_dead_is_emptied_without_report_or_line()
{
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "rerun", json!({"sleep": 60_000})).await;
    until("RUNNING", || !rig.fake.reports(ID).is_empty()).await;
    rig.fake.book.lock().instances.insert(ID, (10, worker.address().to_owned()));
    worker.crash().await;
    let (reports, lines) = (rig.fake.reports(ID).len(), rig.fake.lines(ID).len());
    let worker = rig.start().await;
    rig.closed(&worker, ID).await;
    assert_eq!(rig.fake.reports(ID).len(), reports, "nothing is reported");
    assert_eq!(rig.fake.lines(ID).len(), lines, "no line, because nobody knows how long ago the stop was");
    assert!(journal_text(&rig.journals(), ID).contains("STOPPED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_report_that_was_not_accepted_before_the_crash_is_sent_again_with_its_own_time() {
    let rig = Rig::new().await;
    let refused = || (200, json!({"success": false, "message": "database is away"}));
    rig.fake.book.lock().final_answers = (0..50).map(|_| refused()).collect();
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "fail", json!({})).await;
    until("a refused report", || !rig.fake.finals(ID).is_empty()).await;
    rig.fake.book.lock().instances.insert(ID, (3, worker.address().to_owned()));
    worker.crash().await;
    let before = rig.fake.finals(ID);
    rig.fake.book.lock().final_answers.clear();
    let worker = rig.start().await;
    until("another report", || rig.fake.finals(ID).len() > before.len()).await;
    rig.closed(&worker, ID).await;
    assert!(rig.fake.finals(ID).iter().all(|report| *report == before[0]), "one and the same report");
    let runs = rig.fake.lines(ID).iter().filter(|line| line.log_content.contains("accepted")).count();
    assert_eq!(runs, 1, "it ran once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_worker_leaves_its_runs_to_the_next_start() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.dispatch(&worker, ID, "resume", json!({"sleep": 60_000})).await;
    until("RUNNING", || !rig.fake.reports(ID).is_empty()).await;
    rig.fake.book.lock().instances.insert(ID, (3, worker.address().to_owned()));
    worker.shutdown(Shutdown::Detach).await;
    assert!(rig.fake.heartbeats().last().expect("a heartbeat").overload, "the last word is overload");
    assert!(rig.fake.finals(ID).is_empty());
    let worker = rig.start().await;
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    assert_eq!(rig.fake.finals(ID)[0].instance_status, 5);
    drop(worker);
}
