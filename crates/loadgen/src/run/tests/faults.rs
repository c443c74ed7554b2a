use super::*;
use crate::{
    Arrival, ErrorClass, Scenario,
    stub::{FaultKind, Faults},
};

fn rates() -> Faults {
    let rates = FaultKind::ALL.iter().map(|(_, kind)| (*kind, if *kind == FaultKind::Stall { 0.04 } else { 0.07 }));
    Faults::new(rates.collect()).expect("good rates")
}

/// The class that a fault must be found as; None where the answer is good.
fn expected(fault: Option<FaultKind>) -> Option<ErrorClass> {
    Some(match fault? {
        FaultKind::Http500 => ErrorClass::Http5xx,
        FaultKind::Http429 => ErrorClass::Http4xx,
        FaultKind::InBandError => ErrorClass::InBandError,
        FaultKind::Truncate | FaultKind::Abort => ErrorClass::Truncated,
        FaultKind::Stall => ErrorClass::Timeout,
        FaultKind::Reset => ErrorClass::Disconnected,
        FaultKind::Empty => ErrorClass::Empty,
        FaultKind::Malformed => ErrorClass::Malformed,
        FaultKind::Slow => return None,
    })
}

async fn every_fault_is_counted(scenario: Scenario, streaming: bool, seed: u64) {
    let mut plan = plan();
    plan.scenario = scenario;
    plan.streaming = streaming;
    plan.arrival = Arrival::Closed { concurrency: 10 };
    plan.max_requests = Some(120);
    // Only what stalls takes so long, also on a busy machine.
    plan.request_timeout = Duration::from_secs(5);
    let options = StubOptions { ttft: ms(10), itl: ms(1), tokens: 8, faults: rates(), seed, ..StubOptions::default() };
    let measured = measure(plan, options).await;
    assert_eq!(measured.records.len(), 120);
    let mut injected: HashMap<&str, u64> = HashMap::new();
    for record in &measured.records {
        let truth = measured.truth(record);
        let class = expected(truth.fault);
        assert_eq!(record.error_class, class, "{:?}: {:?}", truth.fault, record.error);
        assert_eq!((record.ok, record.error.is_some()), (class.is_none(), class.is_some()));
        if let Some(class) = class {
            *injected.entry(class.as_str()).or_default() += 1;
        } else if scenario.generates() {
            assert_eq!(record.completion_tokens, Some(truth.tokens));
        }
    }
    assert_eq!(injected.len(), 8, "the seed brings every class: {injected:?}");
    let counted: HashMap<&str, u64> = measured.summary.failures.iter().map(|(class, count)| (*class, *count)).collect();
    assert_eq!(counted, injected);
    let failed: u64 = injected.values().sum();
    assert_eq!((measured.summary.failed, measured.summary.succeeded), (failed, 120 - failed));
    assert_eq!(measured.summary.e2el.count(), 120 - failed, "failures are in no latency");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_injected_fault_of_a_stream_is_found_and_counted_once() {
    every_fault_is_counted(Scenario::ChatCompletion, true, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_injected_fault_of_a_whole_answer_is_found_and_counted_once() {
    every_fault_is_counted(Scenario::ChatCompletion, false, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_injected_fault_of_an_embedding_is_found_and_counted_once() {
    every_fault_is_counted(Scenario::Embedding, true, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_not_there_is_a_connect_failure_and_fills_no_disk() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut plan = plan();
    plan.base_url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    plan.arrival = Arrival::Closed { concurrency: 2 };
    plan.run = ms(500);
    let summary = crate::run(plan, RecordSink::none(), |_| {}, CancellationToken::new()).await.expect("a run");
    assert_eq!(summary.failures.get("connect"), Some(&summary.requests));
    assert!((2..=12).contains(&summary.requests), "{} requests", summary.requests);
    assert_eq!(summary.error_rate(), Some(1.0));
}
