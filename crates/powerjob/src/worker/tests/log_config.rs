//! `logConfig`: where a log goes, and that nobody waits for lines that go nowhere.

use super::*;

const ID: i64 = 1_004_402_621_408_084_032;

fn configured(worker: &WorkerHandle, id: i64, params: Value, config: &str) -> Value {
    let mut body = request(worker, id, "fail", params);
    body["logConfig"] = json!(config);
    body
}

/// The texts in the journal of an instance.
fn texts(rig: &Rig, id: i64) -> Vec<String> {
    let store = testrig_store::Store::open_in_memory(testrig_joblog::MIGRATIONS).expect("a store");
    let journals =
        testrig_joblog::Journals::open(&rig.journals(), testrig_joblog::Limits::default(), store).expect("journals");
    let journal = journals.existing(id).expect("readable").expect("a journal");
    journal.read(0, 10_000, 1 << 24).expect("readable").into_iter().map(|line| line.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_for_the_server_stays_here_and_delays_no_report() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    for (n, kind) in (0_i64..).zip([2, 3, 999]) {
        let id = ID + n;
        // Shorter than a worker waits for the first line at most: a RUNNING report in between was not held up by it.
        let body =
            configured(&worker, id, json!({"lines": 3, "sleep": 1500}), &format!(r#"{{"type":{kind},"level":2}}"#));
        assert_eq!(rig.post(&worker, "/worker/runJob", &body).await, (200, String::new()));
    }
    for (n, kept) in (0_i64..).zip([true, true, false]) {
        let id = ID + n;
        rig.closed(&worker, id).await;
        let statuses: Vec<i32> = rig.fake.reports(id).iter().map(|report| report.instance_status).collect();
        assert_eq!((statuses.first(), statuses.last()), (Some(&3), Some(&5)), "{id}: {statuses:?}");
        assert!(rig.fake.lines(id).is_empty(), "{id}: {:?}", rig.fake.lines(id));
        assert!(journal_text(&rig.journals(), id).contains("SUCCEED"), "whoever reads the log sees how it ended");
        let texts = texts(&rig, id);
        assert_eq!(
            texts.iter().filter(|text| text.starts_with("line ")).count(),
            if kept { 3 } else { 0 },
            "{texts:?}"
        );
        assert_eq!(
            texts.iter().any(|text| text.contains("accepted")),
            kept,
            "the worker's own lines obey, too: {texts:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_and_online_goes_both_ways() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    let body = configured(&worker, ID, json!({"lines": 3}), r#"{"type":4}"#);
    assert_eq!(rig.post(&worker, "/worker/runJob", &body).await, (200, String::new()));
    rig.closed(&worker, ID).await;
    let sent: Vec<String> = rig.fake.lines(ID).into_iter().map(|line| line.log_content).collect();
    assert!(sent.contains(&"line 2".to_owned()), "{sent:?}");
    assert_eq!(sent, texts(&rig, ID));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_below_the_level_are_in_no_log_and_nobody_waits_for_a_first_line_that_is_below_it() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    let body = configured(&worker, ID, json!({"lines": 3, "sleep": 1500, "fail": "why"}), r#"{"type":1,"level":4}"#);
    assert_eq!(rig.post(&worker, "/worker/runJob", &body).await, (200, String::new()));
    rig.closed(&worker, ID).await;
    let sent: Vec<String> = rig.fake.lines(ID).into_iter().map(|line| line.log_content).collect();
    assert!(sent.len() == 1 && sent[0].starts_with("FAILED after") && sent[0].ends_with("why"), "{sent:?}");
    assert_eq!(sent, texts(&rig, ID));
    assert_eq!(rig.fake.reports(ID).first().map(|report| report.instance_status), Some(3));
    let body = configured(&worker, ID + 1, json!({"lines": 3}), r#"{"type":1,"level":99}"#);
    assert_eq!(rig.post(&worker, "/worker/runJob", &body).await, (200, String::new()));
    rig.closed(&worker, ID + 1).await;
    assert!(rig.fake.lines(ID + 1).is_empty() && texts(&rig, ID + 1).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_attempt_of_an_instance_obeys_what_its_dispatch_says() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    for (config, lines) in [(r#"{"type":2}"#, 0), (r#"{"type":1}"#, 3)] {
        let body = configured(&worker, ID, json!({"lines": 3}), config);
        assert_eq!(rig.post(&worker, "/worker/runJob", &body).await, (200, String::new()));
        until("it is taken", || !rig.fake.finals(ID).is_empty()).await;
        rig.closed(&worker, ID).await;
        let sent = rig.fake.lines(ID).iter().filter(|line| line.log_content.starts_with("line ")).count();
        // A log that becomes one for the server goes there from its beginning.
        assert!(sent >= lines && (lines > 0 || sent == 0), "{config}: {sent} lines");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_all_logs_gets_no_line_of_a_local_one_and_its_result_at_once() {
    let mut rig = Rig::new().await;
    let worker = rig.listed().await;
    let body = configured(&worker, ID, json!({"lines": 3, "sleep": 1000}), r#"{"type":2}"#);
    assert_eq!(rig.post(&worker, "/worker/runJob", &body).await, (200, String::new()));
    rig.fake.kill();
    rig.fake.book.lock().born_time += 1;
    rig.fake.revive();
    rig.closed(&worker, ID).await;
    assert!(!rig.fake.finals(ID).is_empty() && rig.fake.lines(ID).is_empty());
}
