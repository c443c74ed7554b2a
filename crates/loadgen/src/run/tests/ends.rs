use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::{
    Arrival, ErrorClass, LoadError,
    stub::{FaultKind, Faults},
};

fn stalling() -> StubOptions {
    StubOptions {
        ttft: ms(5),
        itl: ms(0),
        faults: Faults::new(vec![(FaultKind::Stall, 1.0)]).expect("good rates"),
        ..StubOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_outlive_the_drain_are_cancelled_failures() {
    for arrival in [Arrival::Closed { concurrency: 2 }, Arrival::Constant { qps: 20.0, concurrency: None }] {
        let mut plan = plan();
        plan.arrival = arrival;
        plan.run = ms(200);
        plan.drain = ms(300);
        let measured = measure(plan, stalling()).await;
        let summary = &measured.summary;
        assert!(summary.requests >= 2);
        assert_eq!(
            (summary.cancelled, summary.failed, summary.error_rate()),
            (summary.requests, summary.requests, Some(1.0))
        );
        let record = &measured.records[0];
        assert_eq!(record.error_class, Some(ErrorClass::Cancelled));
        assert_eq!(record.error.as_deref(), Some("still in flight 0.3 s after the last request was due"));
        assert!(record.first_token_us.is_some() && record.end_us >= Some(500_000), "what was seen is kept: {record:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_run_at_once_and_keeps_what_there_was() {
    for arrival in [Arrival::Closed { concurrency: 2 }, Arrival::Constant { qps: 20.0, concurrency: Some(1) }] {
        let mut plan = plan();
        plan.arrival = arrival;
        plan.run = Duration::from_secs(3600);
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ms(300)).await;
            stopper.cancel();
        });
        let measured = measure_until(plan, stalling(), stop).await;
        assert!(measured.summary.cancelled >= 1);
        let cancelled = measured.records.iter().find(|record| record.sent_us.is_some()).expect("one was sent");
        assert_eq!(cancelled.error.as_deref(), Some("the run was stopped"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_counts_up_to_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut plan = plan();
    plan.base_url = format!("http://{}", listener.local_addr().expect("bound"));
    plan.arrival = Arrival::Constant { qps: 20.0, concurrency: None };
    plan.run = ms(1500);
    let shutdown = CancellationToken::new();
    let options = StubOptions { ttft: ms(5), itl: ms(0), ..StubOptions::default() };
    let service = tokio::spawn(stub::serve(listener, options, shutdown.clone()));
    let told = parking_lot::Mutex::new(Vec::new());
    let seen = Arc::new(AtomicU64::new(0));
    let observer = Arc::clone(&seen);
    let sink = RecordSink::none().observe(move |_| {
        observer.fetch_add(1, Ordering::Relaxed);
    });
    crate::run(plan, sink, |progress| told.lock().push(progress), CancellationToken::new()).await.expect("a run");
    shutdown.cancel();
    service.await.expect("no panic").expect("the service ran");
    let told = told.into_inner();
    assert!(told.len() >= 2, "one each second, and one at the end");
    assert!(told[0].qps > 0.0 && told[0].ttft_ms.is_some() && told[0].target_qps == Some(20.0), "{told:?}");
    let last = told.last().expect("has some");
    assert_eq!((last.done, last.failed, last.in_flight), (30, 0, 0));
    assert_eq!(seen.load(Ordering::Relaxed), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_kept_end_the_run_with_the_file_and_the_reason() {
    let mut plan = plan();
    plan.run = Duration::from_secs(3600);
    let run = |plan, sink| crate::run(plan, sink, |_| {}, CancellationToken::new());
    let missing = RecordSink::in_dir(Path::new("/nowhere"), plan.scenario);
    let error = run(plan.clone(), missing).await.expect_err("no directory");
    assert_eq!(error.to_string(), "failed to write `/nowhere/metrics-chat_completion.log`");
    // A disk that is full: the run does not go on for an hour without a true result.
    let full = RecordSink::none().records("/dev/full".into());
    let error = run(plan, full).await.expect_err("a full disk");
    let LoadError::Write(error) = error else { panic!("{error}") };
    assert_eq!(error.source.kind(), std::io::ErrorKind::StorageFull);
}

#[tokio::test]
async fn plans_that_make_no_sense_are_refused_before_anything_is_sent() {
    type Change = fn(&mut LoadPlan);
    let cases: [(Change, &str); 7] = [
        (
            |plan| plan.base_url = "127.0.0.1:8000".to_owned(),
            "cannot run this load: url `127.0.0.1:8000` cannot be read",
        ),
        (
            |plan| plan.base_url = "ftp://h".to_owned(),
            "cannot run this load: url `ftp://h/` is not an http or https address",
        ),
        (|plan| plan.model = " ".to_owned(), "cannot run this load: model is empty"),
        (|plan| plan.run = Duration::ZERO, "cannot run this load: runSeconds is 0; accepted is more than 0"),
        (
            |plan| plan.arrival = Arrival::Closed { concurrency: 0 },
            "cannot run this load: concurrency is 0; accepted is 1 to 65536",
        ),
        (
            |plan| plan.arrival = Arrival::Constant { qps: -1.0, concurrency: None },
            "cannot run this load: qps is -1; accepted is more than 0",
        ),
        (|plan| plan.temperature = Some(f64::NAN), "cannot run this load: temperature is NaN"),
    ];
    for (change, expected) in cases {
        let mut plan = plan();
        change(&mut plan);
        let error = crate::run(plan, RecordSink::none(), |_| {}, CancellationToken::new())
            .await
            .expect_err(expected)
            .to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
