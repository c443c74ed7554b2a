use super::*;
use crate::{Arrival, ErrorClass, Phase, Schedule};

fn quick() -> StubOptions {
    StubOptions { ttft: ms(2), itl: ms(0), tokens: 2, ..StubOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_is_due_at_fixed_times_whatever_happens() {
    let mut plan = plan();
    plan.arrival = Arrival::Constant { qps: 50.0, concurrency: None };
    plan.warmup = ms(400);
    plan.run = ms(1000);
    let measured = measure(plan, quick()).await;
    let intended: Vec<u64> = measured.records.iter().filter_map(|record| record.intended_us).collect();
    let expected: Vec<u64> = (0..70).map(|n| n * 20_000).collect();
    assert_eq!(intended, expected);
    assert!(measured.records.iter().all(|record| record.sent_us >= record.intended_us));
    assert!(
        measured.records.iter().all(|record| (record.intended_us < Some(400_000)) == (record.phase == Phase::Warmup))
    );
    assert_eq!((measured.summary.warmup_requests, measured.summary.requests), (20, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poisson_requests_are_due_when_their_seed_says() {
    let mut plan = plan();
    plan.arrival = Arrival::Poisson { qps: 80.0, concurrency: None, seed: 11 };
    plan.run = ms(500);
    let schedule = Schedule::of(&plan.arrival).expect("an open loop");
    let expected: Vec<u64> = schedule.take_while(|due| *due < 500_000).collect();
    let measured = measure(plan, quick()).await;
    assert_eq!(measured.records.iter().filter_map(|record| record.intended_us).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_too_slow_for_the_rate_cannot_hide_it() {
    let mut plan = plan();
    plan.arrival = Arrival::Constant { qps: 20.0, concurrency: Some(1) };
    plan.run = ms(1000);
    plan.streaming = false;
    let measured = measure(plan, StubOptions { ttft: ms(150), itl: ms(0), ..StubOptions::default() }).await;
    let summary = &measured.summary;
    assert_eq!(summary.requests + summary.not_sent, 20, "every due request is accounted for");
    assert!(summary.not_sent >= 10, "at most seven answers fit, {} were not sent", summary.not_sent);
    assert_eq!(summary.error_rate(), Some(0.0), "not sent is not the service's failure");
    // Never two at once, and the delay of the waiting ones is counted from when they were due.
    let mut sent: Vec<&Record> = measured.records.iter().filter(|record| record.sent_us.is_some()).collect();
    sent.sort_by_key(|record| record.sent_us);
    assert!(sent.windows(2).all(|pair| pair[1].sent_us >= pair[0].end_us));
    let metric = |name| summary.metric(name).expect("has a value");
    let last = sent.last().expect("some were sent");
    assert_eq!(metric("queue_max"), last.queue_us().expect("sent") as f64 / 1e3);
    assert!(metric("e2el_from_intended_max") > 2.0 * metric("e2el_p50"));
    let unsent = measured.records.iter().find(|record| record.sent_us.is_none()).expect("some were not sent");
    assert_eq!((unsent.error_class, unsent.end_us), (Some(ErrorClass::NotSent), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_keeps_its_workers_busy_and_no_more() {
    let mut plan = plan();
    plan.arrival = Arrival::Closed { concurrency: 3 };
    plan.run = ms(500);
    let measured = measure(plan, StubOptions { ttft: ms(40), itl: ms(0), ..StubOptions::default() }).await;
    let in_flight =
        |at: Option<u64>| measured.records.iter().filter(|record| record.sent_us <= at && at < record.end_us).count();
    let most = measured.records.iter().map(|record| in_flight(record.sent_us)).max();
    assert_eq!(most, Some(3));
    assert!(measured.records.iter().all(|record| record.sent_us < Some(600_000)), "nothing new is sent after the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_limit_ends_every_kind_of_arrival() {
    for arrival in [Arrival::Closed { concurrency: 4 }, Arrival::Constant { qps: 500.0, concurrency: None }] {
        let mut plan = plan();
        plan.arrival = arrival;
        plan.max_requests = Some(9);
        let measured = measure(plan, quick()).await;
        assert_eq!((measured.summary.requests, measured.records.len()), (9, 9), "{arrival:?}");
    }
}
