use super::*;
use crate::{
    Arrival, Dataset, Distribution, Scenario, Scorer, TokenSource, Window,
    dataset::{Input, Item},
};

/// Median of a distribution of `values` in microseconds, in milliseconds.
fn median(values: impl Iterator<Item = u64>) -> f64 {
    let mut distribution = Distribution::default();
    values.for_each(|value| distribution.add_us(value));
    distribution.percentile_ms(50.0).expect("has values")
}

/// Both in milliseconds. Loose, because a busy machine delays what is measured; a wrong definition is off by far more.
fn assert_near(what: &str, measured: f64, truth: f64) {
    assert!((measured - truth).abs() <= truth * 0.2, "{what}: measured {measured} ms, truth {truth} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measured_times_agree_with_what_the_service_did() {
    let mut plan = plan();
    plan.arrival = Arrival::Closed { concurrency: 8 };
    plan.max_requests = Some(24);
    let options = StubOptions { ttft: ms(200), itl: ms(25), tokens: 23, tokens_per_event: 2, ..StubOptions::default() };
    let measured = measure(plan, options).await;
    assert_eq!((measured.summary.succeeded, measured.summary.failed), (24, 0));
    for record in &measured.records {
        let truth = measured.truth(record);
        assert_eq!((record.completion_tokens, record.events), (Some(truth.tokens), truth.events));
        assert_eq!((truth.tokens, truth.events), (23, 12));
        assert_eq!((record.prompt_tokens, record.token_source), (Some(truth.prompt_tokens), Some(TokenSource::Usage)));
        let times = [
            record.intended_us,
            record.sent_us,
            record.first_byte_us,
            record.first_token_us,
            record.last_token_us,
            record.end_us,
        ];
        assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{times:?}");
        assert_eq!(record.itl_us.len(), 11);
        let span = record.last_token_us.expect("set") - record.first_token_us.expect("set");
        assert_eq!(record.itl_us.iter().sum::<u64>(), span);
        // Nothing arrives before it was sent: cut to microseconds on both sides.
        let first = truth.token_us[0] - truth.received_us;
        assert!(record.ttft_us().expect("set") + 2 >= first, "{record:?} {truth:?}");
        let last = truth.token_us[11] - truth.received_us;
        assert!(record.e2el_us().expect("set") + 2 >= last, "{record:?} {truth:?}");
    }
    let truths = || measured.truths.values();
    let metric = |name| measured.summary.metric(name).expect("has a value");
    assert_near("ttft", metric("ttft_p50"), median(truths().map(|truth| truth.token_us[0] - truth.received_us)));
    assert_near("e2el", metric("e2el_p50"), median(truths().map(|truth| truth.token_us[11] - truth.received_us)));
    assert_near(
        "tpot",
        metric("tpot_p50"),
        median(truths().map(|truth| (truth.token_us[11] - truth.token_us[0]) / 22)),
    );
    let gaps = truths().flat_map(|truth| truth.token_us.windows(2).map(|pair| pair[1] - pair[0]));
    assert_near("itl", metric("itl_p50"), median(gaps));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_summary_of_the_run_is_the_sum_of_its_records() {
    let mut plan = plan();
    plan.arrival = Arrival::Closed { concurrency: 3 };
    plan.warmup = ms(100);
    plan.run = ms(300);
    let measured = measure(plan, StubOptions { ttft: ms(10), itl: ms(1), tokens: 8, ..StubOptions::default() }).await;
    assert!(measured.summary.warmup_requests > 0 && measured.summary.requests > 0);
    let again = crate::summarize(&measured.records, Window::default(), crate::Slo::default());
    assert_eq!(again.metrics(), measured.summary.metrics());
    let load = || measured.records.iter().filter(|record| record.phase == crate::Phase::Load);
    assert_eq!(load().count() as u64, measured.summary.requests);
    assert!(load().all(|record| record.intended_us >= Some(100_000)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_one_piece_have_no_token_times_but_all_counts() {
    for scenario in [Scenario::ChatCompletion, Scenario::Completion] {
        let mut plan = plan();
        plan.scenario = scenario;
        plan.streaming = false;
        plan.max_requests = Some(3);
        plan.max_tokens = Some(5);
        let measured = measure(plan, StubOptions { ttft: ms(20), itl: ms(1), ..StubOptions::default() }).await;
        assert_eq!((measured.summary.succeeded, measured.summary.output_tokens), (3, 15));
        let record = &measured.records[0];
        assert_eq!((record.first_token_us, record.finish_reason.as_deref()), (None, Some("length")));
        assert!(record.e2el_us().expect("set") >= 24_000);
        assert_eq!(measured.summary.metric("ttft_avg"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_stream_and_embeddings_are_vectors() {
    let mut streamed = plan();
    streamed.scenario = Scenario::Completion;
    streamed.max_requests = Some(2);
    let options = StubOptions { ttft: ms(5), itl: ms(1), tokens: 4, ..StubOptions::default() };
    let measured = measure(streamed, options.clone()).await;
    assert_eq!((measured.summary.succeeded, measured.summary.ttft.count(), measured.summary.itl.count()), (2, 2, 6));
    let mut vectors = plan();
    vectors.scenario = Scenario::Embedding;
    vectors.max_requests = Some(2);
    let measured = measure(vectors, options).await;
    assert_eq!((measured.summary.succeeded, measured.summary.output_tokens), (2, 0));
    assert!(measured.summary.input_tokens > 0);
    assert_eq!(measured.truth(&measured.records[0]).path, "/v1/embeddings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_answers_are_scored_through_the_stream() {
    let item = |n: u32, reference: String| Item {
        id: format!("q{n}"),
        input: Input::Text("question".to_owned()),
        max_tokens: Some(n),
        reference: Some(reference),
    };
    let mut plan = plan();
    plan.scorer = Scorer::Exact;
    plan.dataset =
        Dataset::from_items("scored", vec![item(6, stub::text(6)), item(7, stub::text(6)), item(8, stub::text(8))]);
    plan.max_requests = Some(6);
    let measured =
        measure(plan, StubOptions { ttft: ms(5), itl: ms(0), tokens_per_event: 3, ..StubOptions::default() }).await;
    assert_eq!((measured.summary.scored, measured.summary.accuracy), (6, Some(4.0 / 6.0)));
    let values: Vec<(&str, f64)> = measured
        .records
        .iter()
        .map(|record| (record.item.as_str(), record.score.as_ref().expect("scored").value))
        .collect();
    assert_eq!(values[..3], [("q6", 1.0), ("q7", 0.0), ("q8", 1.0)]);
}
