//! AggregateMetrics as a whole, into a real SQLite file.

#![expect(
    clippy::needless_pass_by_value,
    reason = "json! makes values, and a test reads better without borrowing each"
)]

use std::path::{Path, PathBuf};

use powerjob_worker::{Processor, StopReason, TaskContext};
use testrig_loadgen::{Record, Slo, Window, summarize};
use testrig_store::rusqlite::Connection;

use super::*;
use crate::task_rig::Rig;

/// A hundred measured requests with known times, one of them failed, and two of the warm-up.
fn records() -> Vec<Value> {
    let one = |n: u64, phase: &str| {
        let failed = n == 50;
        json!({
            "v": 1, "id": n.to_string(), "phase": phase, "scenario": "chat_completion", "start_unix_ms": 1_000_000 + n * 10,
            "intended_us": n * 10_000, "sent_us": n * 10_000, "first_token_us": n * 10_000 + 1000 * n, "last_token_us": n * 10_000 + 2000 * n,
            "end_us": n * 10_000 + 2000 * n, "ok": !failed, "error_class": failed.then_some("timeout"),
            "prompt_tokens": 5, "completion_tokens": 11, "score": {"name": "exact", "value": if n.is_multiple_of(4) { 0.0 } else { 1.0 }},
            "tags": {"bizLine": if n.is_multiple_of(2) { "even" } else { "odd" }},
        })
    };
    (1..=100).map(|n| one(n, "load")).chain((1..=2).map(|n| one(n, "warmup"))).collect()
}

fn write(rig: &Rig, lines: &[String]) -> PathBuf {
    let dir = rig.dir.path().join("logs/dev/20251123/task-T1-42");
    std::fs::create_dir_all(&dir).expect("dir");
    let file = dir.join("metrics-chat_completion.log");
    std::fs::write(&file, lines.join("\n") + "\n").expect("written");
    file
}

fn job(more: Value) -> Value {
    let mut job = json!({"jobType": "AGGREGATE_METRICS", "metricsSource": "file", "resultDbKey": "default", "outputTable": "summary"});
    job.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    job
}

fn context(file: &Path) -> Value {
    json!({"platformTaskId": "T1", "env": "dev", "modelKey": "m", "datasetId": "builtin", "upstreamInstanceId": "42", "metricsFilePath": file,
           "timeRange": "{\"start\":1000000,\"end\":2000000}", "metricsSummary": "{\"qps\":1}", "relatedInstances": "[\"42\"]"})
}

async fn run(rig: &Rig, job: &Value, context: &Value) -> (ProcessResult, TaskContext) {
    let ctx = rig.node(9, job, context);
    let result = AggregateMetrics::new(Arc::new(rig.environment())).process(ctx.clone()).await;
    (result, ctx)
}

#[tokio::test]
async fn the_row_has_the_figures_of_the_one_implementation_and_a_retry_writes_it_again() {
    let rig = Rig::new();
    let lines: Vec<String> = records().iter().map(Value::to_string).collect();
    let file = write(&rig, &lines);
    let all: Vec<Record> = lines.iter().map(|line| Record::parse(line).expect("record")).collect();
    let truth = summarize(&all, Window::default(), Slo::default());
    for _ in 0..2 {
        let (result, ctx) = run(&rig, &job(json!({"extraTags": {"bizLine": "llm"}})), &context(&file)).await;
        assert!(result.success, "{}", result.message);
        let told = ctx.workflow.appended();
        assert_eq!((told["aggregateStatus"].as_str(), told["relatedInstances"].as_str()), ("SUCCEED", r#"["42","9"]"#));
        assert!(told["metricsSummary"].len() < 1500, "{}", told["metricsSummary"]);
        let summary: Value = serde_json::from_str(&told["metricsSummary"]).expect("JSON");
        assert_eq!(
            (&summary["requests"], &summary["error_rate"], &summary["failures"]["timeout"]),
            (&json!(100), &json!(0.01), &json!(1))
        );
    }
    let conn = Connection::open(rig.database()).expect("database");
    let number = |column: &str| -> f64 {
        conn.query_row(&format!("SELECT \"{column}\" FROM summary"), [], |r| r.get(0)).expect(column)
    };
    assert_eq!(conn.query_row("SELECT count(*) FROM summary", [], |r| r.get::<_, i64>(0)).expect("count"), 1);
    for (name, value) in truth.metrics() {
        assert_eq!(number(&name), value, "{name}");
    }
    // And by hand: times to the first token are 1..100 ms without the 50th, which failed.
    assert!((number("ttft_avg") - 5000.0 / 99.0).abs() < 1e-9 && (number("ttft_max") - 100.0).abs() < 1e-9);
    assert!((number("accuracy") - 74.0 / 99.0).abs() < 1e-9, "50 of 4k+2 failed: {}", number("accuracy"));
    let text: (String, String, String) = conn
        .query_row("SELECT model_key, metrics_json, extra_tags FROM summary", [], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?))
        })
        .expect("row");
    assert!(text.0 == "m" && text.1.contains("\"ttft_p99\"") && text.2 == r#"{"bizLine":"llm"}"#, "{text:?}");
}

#[tokio::test]
async fn window_tags_definitions_and_custom_figures_decide_what_is_written() {
    let rig = Rig::new();
    let file = write(&rig, &records().iter().map(Value::to_string).collect::<Vec<_>>());
    let params = job(json!({
        "metricDefinitions": ["qps", "ttft_p50", {"name": "even_tokens", "field": "completion_tokens", "aggregate": "sum", "filter": {"ok": true}}],
        "filterTags": {"bizLine": "even"}, "outputTableOverride": "other_table",
    }));
    let mut context = context(&file);
    // Records 1 to 20 by their start, and only the even ones of them.
    context["timeRange"] = json!("{\"end\":\"1000200\"}");
    let (result, ctx) = run(&rig, &params, &context).await;
    assert!(result.success, "{}", result.message);
    let conn = Connection::open(rig.database()).expect("database");
    let row: (i64, f64, f64) = conn
        .query_row("SELECT record_count, ttft_p50, even_tokens FROM other_table", [], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?))
        })
        .expect("row");
    assert_eq!(row, (10, 11.0, 110.0));
    let columns: Vec<String> = conn
        .prepare("SELECT name FROM pragma_table_info('other_table')")
        .expect("query")
        .query_map([], |r| r.get(0))
        .expect("columns")
        .collect::<Result<_, _>>()
        .expect("names");
    assert!(!columns.contains(&"ttft_p99".to_owned()), "{columns:?}");
    assert!(ctx.workflow.appended()["metricsSummary"].contains("\"even_tokens\":110"), "{:?}", ctx.workflow.appended());
}

#[tokio::test]
async fn figures_that_a_test_script_reported_are_written_with_and_without_records() {
    let rig = Rig::new();
    let reported = json!({"v": 1, "reported": {"accuracy": 0.5, "bleu": 31.5, "env": 1}, "failures": {"wrong": 2},
        "start_unix_ms": 1_000_000, "tags": {"bizLine": "odd"}})
    .to_string();
    let file = write(&rig, std::slice::from_ref(&reported));
    let (result, ctx) = run(&rig, &job(json!({})), &context(&file)).await;
    assert!(result.success, "{}", result.message);
    assert_eq!(ctx.workflow.appended()["metricsSummary"], r#"{"accuracy":0.5,"bleu":31.5,"failures":{"wrong":2}}"#);
    assert!(rig.log(&ctx).contains("the figure \"env\" is left out"), "{}", rig.log(&ctx));
    let conn = Connection::open(rig.database()).expect("database");
    let row: (String, f64, String) = conn
        .query_row("SELECT env, bleu, failures_json FROM summary", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .expect("row");
    assert_eq!(row, ("dev".into(), 31.5, r#"{"wrong":2}"#.into()));

    // Beside records: what they say is there too, and the script's own word goes before it.
    let mut lines: Vec<String> = records().iter().map(Value::to_string).collect();
    lines.push(reported);
    let file = write(&rig, &lines);
    let asked = json!({"metricDefinitions": ["accuracy", "requests", "reported.bleu"], "outputTableOverride": "asked"});
    let (result, _) = run(&rig, &job(asked), &context(&file)).await;
    assert!(result.success, "{}", result.message);
    let row: (f64, f64, f64) = conn
        .query_row("SELECT accuracy, requests, bleu FROM asked", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .expect("row");
    assert_eq!(row, (0.5, 100.0, 31.5));
    // Other tags than asked for, or another time, are not this run's.
    for other in [json!({"filterTags": {"bizLine": "even"}}), json!({"timeRange": {"start": 1, "end": 2}})] {
        let mut context = context(&file);
        write(&rig, &lines[100..]);
        context.as_object_mut().expect("object").extend(other.as_object().expect("object").clone());
        let (result, _) = run(&rig, &job(json!({})), &context).await;
        assert!(!result.success, "{}", result.message);
    }
}

#[tokio::test]
async fn bad_lines_are_counted_and_told_and_only_bad_lines_fail() {
    let rig = Rig::new();
    let mut lines: Vec<String> = records().iter().map(Value::to_string).collect();
    lines.insert(1, "not json".into());
    lines.push("{\"id\":\"cut".into());
    let file = write(&rig, &lines);
    let (result, ctx) = run(&rig, &job(json!({})), &context(&file)).await;
    assert!(result.success && result.message.contains("2 bad lines"), "{}", result.message);
    let log = rig.log(&ctx);
    assert!(
        log.contains("metrics-chat_completion.log:2 (") && log.contains("metrics-chat_completion.log:104 ("),
        "{log}"
    );
    let file = write(&rig, &["nonsense".into(), "more of it".into()]);
    let (result, ctx) = run(&rig, &job(json!({})), &context(&file)).await;
    assert!(!result.success && result.message.contains("none of the 2 lines is a record"), "{}", result.message);
    assert_eq!(ctx.workflow.appended()["aggregateStatus"], "FAILED");
    assert!(!ctx.workflow.appended().contains_key("metricsSummary"), "what the run told stays");
    let file = write(&rig, &[]);
    assert!(run(&rig, &job(json!({})), &context(&file)).await.0.message.contains("are empty"));
}

#[tokio::test]
async fn records_out_of_the_window_are_no_result_and_the_message_says_so() {
    let rig = Rig::new();
    let file = write(&rig, &records().iter().map(Value::to_string).collect::<Vec<_>>());
    let mut context = context(&file);
    context["timeRange"] = json!("{\"start\":\"2025-11-23T10:00:00Z\",\"end\":\"2025-11-23T11:00:00Z\"}");
    let (result, _) = run(&rig, &job(json!({})), &context).await;
    assert!(
        !result.success
            && result.message.contains("2025-11-23T10:00:00Z")
            && result.message.contains("100 start outside of the window"),
        "{}",
        result.message
    );
}

#[tokio::test]
async fn without_a_path_the_files_are_found_by_the_rule() {
    let rig = Rig::new();
    let file = write(&rig, &records().iter().map(Value::to_string).collect::<Vec<_>>());
    std::fs::write(file.with_file_name("metrics-chat_completion.cut-1.log"), "a cut phase").expect("written");
    let mut context = context(&file);
    context.as_object_mut().expect("object").remove("metricsFilePath");
    let (result, _) = run(&rig, &job(json!({"fileBaseDir": rig.dir.path().join("logs")})), &context).await;
    assert!(result.success && result.message.contains("added up 100 records into"), "{}", result.message);
}

#[tokio::test]
async fn wrong_parameters_are_all_named() {
    let rig = Rig::new();
    let file = write(&rig, &[]);
    for (more, wanted) in [
        (json!({"metricsSource": "db"}), vec!["jobParams.metricsSource", "not served yet"]),
        (json!({"metricsSource": "object_storage"}), vec!["jobParams.metricsSource", "not served yet"]),
        (json!({"metricsSource": "files"}), vec!["metricsSource", "files", "file, db, object_storage"]),
        (
            json!({"sourceTable": "t", "sourceQuery": "q", "objectStorageBase": "s3://x"}),
            vec!["sourceTable", "sourceQuery", "objectStorageBase"],
        ),
        (json!({"resultDbKey": "results"}), vec!["resultDbKey", "configured databases: default"]),
        (json!({"outputTable": "a b"}), vec!["outputTable", "letters, digits"]),
        (json!({"metricDefinitions": ["latency_p99x"]}), vec!["metricDefinitions[0]", "did you mean"]),
        (
            json!({"metricDefinitions": [{"name": "x", "field": "score", "aggregate": "p"}]}),
            vec!["metricDefinitions[0].aggregate"],
        ),
        (json!({"aggStrategy": "median"}), vec!["aggStrategy", "percentile"]),
        (json!({"aggStrategy": "custom"}), vec!["metricDefinitions", "aggStrategy is custom"]),
        (json!({"timeRange": {"start": 5}}), vec!["timeRange", "has no end"]),
        (json!({"metricsFilePath": "s3://b/x"}), vec!["metricsFilePath", "not served yet"]),
        (json!({"metricsFilePath": "/etc/passwd"}), vec!["metricsFilePath", "[paths] allowed_roots"]),
        (json!({"defaultTimeWindowSeconds": 0}), vec!["defaultTimeWindowSeconds"]),
    ] {
        let (result, _) = run(&rig, &job(more.clone()), &context(&file)).await;
        assert!(!result.success && !result.retryable, "{more}: {}", result.message);
        for text in wanted {
            assert!(result.message.contains(text), "{text} is missing in: {}", result.message);
        }
    }
    assert!(!rig.database().exists());
}

#[tokio::test]
async fn a_stop_ends_it() {
    let rig = Rig::new();
    let file = write(&rig, &records().iter().map(Value::to_string).collect::<Vec<_>>());
    let ctx = rig.node(9, &job(json!({})), &context(&file));
    ctx.stop.raise(StopReason::Stopped);
    let result = AggregateMetrics::new(Arc::new(rig.environment())).process(ctx).await;
    assert!(!result.success, "{}", result.message);
}

#[test]
fn nonsense_in_any_parameter_is_a_problem_with_its_path_or_a_good_plan_and_never_a_panic() {
    let rig = Rig::new();
    let env = rig.environment();
    let job = job(json!({"fileBaseDir": rig.dir.path()}));
    let run = json!({"platformTaskId": "T1", "env": "dev", "modelKey": "m", "datasetId": "builtin", "upstreamInstanceId": "42",
                     "timeRange": {"start": 1_000_000, "end": 2_000_000}});
    crate::testing::try_nonsense(&super::TABLE, &job, &run, |job, run| {
        let (job, run) = (job.to_string(), run.to_string());
        let input = crate::params::Input { job_params: Some(&job), instance_params: Some(&run), ..Default::default() };
        super::plan::plan(&input, &env).map(drop).map_err(|problems| problems.to_string())
    });
}

#[tokio::test]
async fn a_line_that_a_kill_tore_is_left_out_and_counted() {
    let rig = Rig::new();
    let mut lines: Vec<String> = records().iter().map(Value::to_string).collect();
    let last = lines.pop().expect("some");
    lines.push(lines[0].clone());
    lines.push(last[..last.len() / 2].to_owned());
    let file = write(&rig, &lines);
    let text = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, text.trim_end()).expect("written");
    let (result, ctx) = run(&rig, &job(json!({})), &context(&file)).await;
    assert!(result.success, "{}", result.message);
    assert!(result.message.contains("1 bad lines left out"), "{}", result.message);
    assert!(rig.log(&ctx).contains("metrics-chat_completion.log:103"), "{}", rig.log(&ctx));
}
