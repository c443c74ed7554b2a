use super::*;
use crate::record::{RECORD_VERSION, Score, TokenSource};

const START_MS: i64 = 1_700_000_000_000;

/// A successful stream: due, sent, first token, last token, end (microseconds), output tokens.
fn success(times: [u64; 5], tokens: u64) -> Record {
    let [intended, sent, first, last, end] = times;
    let start_unix_ms = START_MS + i64::try_from(sent / 1000).expect("small");
    Record {
        v: RECORD_VERSION,
        id: "r".to_owned(),
        phase: Phase::Load,
        scenario: "chat_completion".to_owned(),
        item: "1".to_owned(),
        start_unix_ms,
        intended_us: Some(intended),
        sent_us: Some(sent),
        first_byte_us: Some(sent),
        first_token_us: Some(first),
        last_token_us: Some(last),
        end_us: Some(end),
        ok: true,
        error_class: None,
        error: None,
        http_status: Some(200),
        finish_reason: Some("stop".to_owned()),
        prompt_tokens: Some(10),
        completion_tokens: Some(tokens),
        token_source: Some(TokenSource::Usage),
        events: tokens,
        itl_us: Vec::new(),
        score: None,
        tags: serde_json::Map::new(),
    }
}

fn failure(intended: u64, end: Option<u64>, class: ErrorClass) -> Record {
    Record {
        ok: false,
        error_class: Some(class),
        sent_us: (class != ErrorClass::NotSent).then_some(intended),
        first_token_us: None,
        last_token_us: None,
        end_us: end,
        ..success([intended, intended, 0, 0, 0], 0)
    }
}

fn sum(records: &[Record]) -> Summary {
    summarize(records, Window::default(), Slo::default())
}

fn assert_metrics(summary: &Summary, expected: &[(&str, f64)]) {
    for (name, expected) in expected {
        let found = summary.metric(name).unwrap_or_else(|| panic!("{name} has a value"));
        assert!((found - expected).abs() < 1e-9, "{name} is {found}, expected {expected}");
    }
}

#[test]
fn three_requests_give_what_a_hand_computes() {
    // TTFT 100, 200, 400 ms; E2EL 500, 700, 1000 ms; queue 0, 0, 50 ms; TPOT 400/4, 500/5, 590/1 ms
    let mut records = [
        success([0, 0, 100_000, 500_000, 500_000], 5),
        success([500_000, 500_000, 700_000, 1_200_000, 1_200_000], 6),
        success([950_000, 1_000_000, 1_400_000, 1_990_000, 2_000_000], 2),
    ];
    records[0].itl_us = vec![100_000, 300_000];
    records[1].itl_us = vec![200_000];
    let summary = sum(&records);
    assert_metrics(
        &summary,
        &[
            ("requests", 3.0),
            ("succeeded", 3.0),
            ("error_rate", 0.0),
            ("duration_seconds", 2.0),
            ("qps", 1.5),
            ("input_tokens", 30.0),
            ("output_tokens", 13.0),
            ("input_token_rate", 15.0),
            ("output_token_rate", 6.5),
            ("total_token_rate", 21.5),
            ("ttft_avg", 700.0 / 3.0),
            ("ttft_p50", 200.0),
            ("ttft_p90", 360.0),
            ("ttft_p95", 380.0),
            ("ttft_p99", 396.0),
            ("ttft_max", 400.0),
            ("ttft_min", 100.0),
            ("tpot_p50", 100.0),
            ("tpot_max", 590.0),
            ("tpot_avg", 790.0 / 3.0),
            ("itl_avg", 200.0),
            ("itl_p90", 280.0),
            ("e2el_p50", 700.0),
            ("e2el_p99", 994.0),
            ("latency_p99", 994.0),
            ("latency_avg", 2200.0 / 3.0),
            ("queue_max", 50.0),
            ("e2el_from_intended_max", 1050.0),
            ("ttft_p99.5", 398.0),
        ],
    );
    assert_eq!(summary.metric("accuracy"), None);
    assert_eq!(summary.metric("goodput"), None);
}

#[test]
fn failures_are_counted_by_class_and_are_in_no_latency() {
    let records = [
        success([0, 0, 100_000, 200_000, 200_000], 2),
        failure(100_000, Some(150_000), ErrorClass::Http5xx),
        failure(200_000, Some(5_000_000), ErrorClass::Truncated),
        failure(300_000, Some(900_000_000), ErrorClass::Cancelled),
        failure(400_000, None, ErrorClass::NotSent),
    ];
    let summary = sum(&records);
    assert_eq!(
        (summary.requests, summary.succeeded, summary.failed, summary.cancelled, summary.not_sent),
        (4, 1, 3, 1, 1)
    );
    let classes: Vec<(&str, u64)> = summary.failures.iter().map(|(class, count)| (*class, *count)).collect();
    assert_eq!(classes, [("cancelled", 1), ("http_5xx", 1), ("not_sent", 1), ("truncated", 1)]);
    // The end of a cancelled request is ours and stretches nothing.
    assert_metrics(&summary, &[("error_rate", 0.75), ("e2el_max", 200.0), ("duration_seconds", 5.0), ("qps", 0.2)]);
}

#[test]
fn a_failure_without_a_class_is_still_a_failure() {
    let mut record = success([0, 0, 1, 2, 3], 2);
    record.ok = false;
    let summary = sum(&[record]);
    assert_eq!((summary.succeeded, summary.failed, summary.failures.get("other")), (0, 1, Some(&1)));
}

#[test]
fn warm_up_is_counted_and_not_measured() {
    let mut warm = success([0, 0, 900_000, 900_000, 950_000], 1);
    warm.phase = Phase::Warmup;
    let summary = sum(&[warm, success([1_000_000, 1_000_000, 1_100_000, 1_100_000, 1_500_000], 1)]);
    assert_eq!((summary.requests, summary.warmup_requests), (1, 1));
    assert_metrics(&summary, &[("duration_seconds", 0.5), ("ttft_max", 100.0)]);
    // One token has no time per further token.
    assert_eq!(summary.metric("tpot_avg"), None);
}

#[test]
fn no_records_give_counts_and_no_invented_figures() {
    let summary = sum(&[]);
    assert_eq!(summary.metric("requests"), Some(0.0));
    for name in ["error_rate", "qps", "ttft_avg", "latency_p99", "accuracy"] {
        assert_eq!(summary.metric(name), None, "{name}");
    }
}

#[test]
fn a_window_takes_the_requests_that_start_in_it() {
    let records = [0, 1_000_000, 2_000_000].map(|at| success([at, at, at + 1, at + 2, at + 10], 2));
    let window = Window { start_unix_ms: Some(START_MS + 1000), end_unix_ms: Some(START_MS + 1999) };
    assert_eq!(summarize(&records, window, Slo::default()).requests, 1);
    let open = Window { start_unix_ms: Some(START_MS + 1000), end_unix_ms: None };
    assert_eq!(summarize(&records, open, Slo::default()).requests, 2);
}

#[test]
fn records_of_two_runs_are_placed_by_their_wall_clocks() {
    let first = success([0, 0, 1_000, 2_000, 1_000_000], 2);
    let mut second = success([0, 0, 1_000, 2_000, 1_000_000], 2);
    second.start_unix_ms += 9_000;
    assert_metrics(&sum(&[first, second]), &[("duration_seconds", 10.0), ("qps", 0.2)]);
}

#[test]
fn goodput_counts_what_met_every_objective() {
    let records = [
        success([0, 0, 100_000, 300_000, 300_000], 3),
        success([0, 0, 100_000, 900_000, 900_000], 3),
        success([0, 0, 500_000, 600_000, 1_000_000], 3),
        success([0, 0, 100_000, 100_000, 100_000], 1),
        failure(0, Some(1_000), ErrorClass::Empty),
    ];
    let slo = Slo { ttft_ms: Some(200.0), tpot_ms: Some(150.0), e2el_ms: None };
    let summary = summarize(&records, Window::default(), slo);
    assert_eq!(summary.good, Some(2));
    assert_metrics(&summary, &[("goodput", 2.0), ("goodput_ratio", 0.4)]);
}

#[test]
fn accuracy_is_the_mean_of_the_scores() {
    let scored = |value| {
        let score = Score { name: "exact".to_owned(), value };
        Record { score: Some(score), ..success([0, 0, 1, 2, 3], 2) }
    };
    let summary = sum(&[scored(1.0), scored(0.0), scored(1.0), success([0, 0, 1, 2, 3], 2)]);
    assert_eq!(summary.scored, 3);
    assert_metrics(&summary, &[("accuracy", 2.0 / 3.0)]);
}

#[test]
fn the_json_has_every_figure_by_its_name_and_counts_as_whole_numbers() {
    let json = serde_json::to_value(sum(&[
        success([0, 0, 100_000, 200_000, 250_000], 2),
        failure(0, Some(1), ErrorClass::Empty),
    ]))
    .expect("always JSON");
    assert_eq!(json["requests"].as_u64(), Some(2));
    assert_eq!(json["latency_p95"].as_f64(), Some(250.0));
    assert_eq!(json["failures"], serde_json::json!({"empty": 1}));
    assert!(json.get("accuracy").is_none());
}

#[test]
fn known_names_are_known_before_there_are_values() {
    for name in ["ttft_p99", "latency_avg", "qps", "accuracy", "itl_p99.9", "e2el_from_intended_std"] {
        assert!(Summary::knows(name), "{name}");
    }
    for name in ["ttft", "ttft_p101", "p99", "ttft_median", "speed"] {
        assert!(!Summary::knows(name), "{name}");
    }
}

#[test]
fn a_record_survives_its_line_and_foreign_classes_are_read() {
    let record = success([1, 2, 3, 4, 5], 2);
    let line = serde_json::to_string(&record).expect("always JSON");
    assert_eq!(Record::parse(&line).expect("our own line"), record);
    let not_sent = serde_json::to_string(&failure(7, None, ErrorClass::NotSent)).expect("always JSON");
    assert!(!not_sent.contains("sent_us") && not_sent.contains("\"error_class\":\"not_sent\""), "{not_sent}");
    let foreign = Record::parse("{\"id\":\"x\",\"ok\":false,\"error_class\":\"oom\",\"more\":1}").expect("tolerant");
    assert_eq!((foreign.error_class, foreign.phase), (Some(ErrorClass::Other), Phase::Load));
}
