//! The demo, without any real part: its numbers are the service's own.

use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check,
    support::{Needs, Parts, TestResult, trial},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![trial("demo::the_demo_tells_one_json_object_whose_metrics_are_the_services_own", Needs::Nothing, demo)]
}

async fn demo() -> TestResult {
    let dir = Parts::get().dir("demo");
    let out = Command::new(&Parts::get().testrig)
        .args(["demo", "--json", "--run-seconds", "3", "--dir"])
        .arg(&dir)
        .env("XDG_STATE_HOME", &dir)
        .stdin(Stdio::null())
        .output()?;
    let err = String::from_utf8_lossy(&out.stderr);
    check!(out.status.success(), "exit {:?}: {err}", out.status);
    let told: Value =
        serde_json::from_slice(&out.stdout).map_err(|e| format!("standard output is not one JSON object: {e}"))?;
    check!(told["status"] == "SUCCEED", "{told:#}");
    let instances = told["instances"].as_array().ok_or("instances is a list")?;
    let processors: Vec<&str> = instances.iter().filter_map(|i| i["processor"].as_str()).collect();
    check!(processors == ["RunLLMTest", "CollectLogs", "AggregateMetrics", "NotifyResult"], "{processors:?}");
    for i in instances {
        check!(i["status"] == "SUCCEED" && i["instanceId"].is_string() && i["name"].is_string(), "{i}");
    }
    let path = |key: &str| told[key].as_str().map(std::path::PathBuf::from).ok_or(format!("{key} is a path"));
    let (archive, database, logs) = (path("archive")?, path("database")?, path("logs")?);
    for file in [&archive, &database] {
        check!(file.is_absolute() && file.is_file(), "{} did not outlive the demo", file.display());
    }

    let lines = |name: &str| -> Result<Vec<Value>, Failed> {
        let text = std::fs::read_to_string(logs.join(name)).map_err(|e| format!("{name}: {e}"))?;
        text.lines().map(|l| serde_json::from_str(l).map_err(Into::into)).collect()
    };
    let records = lines("metrics-chat_completion.log")?;
    let load: Vec<&Value> = records.iter().filter(|r| r["phase"] == "load").collect();
    told_is_recomputed(&told["metrics"], &load)?;
    records_are_the_services_own(&records, &lines("truth.jsonl")?)
}

/// Everything that is told follows from the records, by the definitions of the documentation and nothing else.
fn told_is_recomputed(metrics: &Value, load: &[&Value]) -> TestResult {
    let ok: Vec<&Value> = load.iter().copied().filter(|r| r["ok"] == true).collect();
    check!(!ok.is_empty(), "no load request succeeded");
    let us = |r: &Value, name: &str| r[name].as_f64().unwrap_or(f64::NAN);
    let tokens = |r: &Value| r["completion_tokens"].as_f64().unwrap_or(f64::NAN);
    let series: [(&str, Vec<f64>); 4] = [
        ("ttft", ok.iter().map(|r| (us(r, "first_token_us") - us(r, "sent_us")) / 1e3).collect()),
        ("e2el", ok.iter().map(|r| (us(r, "end_us") - us(r, "sent_us")) / 1e3).collect()),
        (
            "tpot",
            ok.iter().map(|r| (us(r, "last_token_us") - us(r, "first_token_us")) / 1e3 / (tokens(r) - 1.0)).collect(),
        ),
        (
            "itl",
            ok.iter()
                .flat_map(|r| r["itl_us"].as_array().into_iter().flatten())
                .filter_map(|v| Some(v.as_f64()? / 1e3))
                .collect(),
        ),
    ];
    for (name, mut values) in series {
        values.sort_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let wanted = [
            ("avg", mean),
            ("p50", percentile(&values, 50.0)),
            ("p95", percentile(&values, 95.0)),
            ("p99", percentile(&values, 99.0)),
        ];
        for (aggregate, wanted) in wanted {
            same(metrics, &format!("{name}_{aggregate}"), wanted)?;
        }
    }
    same(metrics, "requests", load.len() as f64)?;
    same(metrics, "succeeded", ok.len() as f64)?;
    same(metrics, "error_rate", (load.len() - ok.len()) as f64 / load.len() as f64)?;
    same(metrics, "output_tokens", ok.iter().map(|r| tokens(r)).sum())
}

fn same(metrics: &Value, name: &str, wanted: f64) -> TestResult {
    let told = metrics[name].as_f64().ok_or_else(|| format!("metrics.{name} is missing: {metrics:#}"))?;
    // What is told may be rounded to a thousandth.
    check!((told - wanted).abs() <= 0.002 + wanted.abs() * 1e-3, "{name}: told {told}, recomputed {wanted}");
    Ok(())
}

/// Linear interpolation between the nearest ranks, as numpy does by default.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let rank = p / 100.0 * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    low + (high - low) * rank.fract()
}

/// Request by request: the same tokens, and never faster from outside than the service was inside.
fn records_are_the_services_own(records: &[Value], truth: &[Value]) -> TestResult {
    let mut met = 0;
    for record in records.iter().filter(|r| r["ok"] == true) {
        let Some(own) = truth.iter().find(|t| t["request_id"] == record["id"]) else {
            return Err(format!("the service never saw the request {}", record["id"]).into());
        };
        let us = |v: &Value| v.as_i64().unwrap_or(i64::MIN);
        check!(us(&own["tokens"]) == us(&record["completion_tokens"]), "tokens: {record}\n{own}");
        let inside = us(&own["token_us"][0]) - us(&own["received_us"]);
        let outside = us(&record["first_token_us"]) - us(&record["sent_us"]);
        check!(
            outside >= inside && outside < inside * 3 + 100_000,
            "first token after {outside} us, inside after {inside} us"
        );
        let (inside, outside) =
            (us(&own["end_us"]) - us(&own["received_us"]), us(&record["end_us"]) - us(&record["sent_us"]));
        check!(outside + 2_000 >= inside, "ended after {outside} us, inside after {inside} us");
        met += 1;
    }
    check!(met > 0, "no record to compare");
    Ok(())
}
