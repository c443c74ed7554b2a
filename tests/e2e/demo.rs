//! The demo, without any real part: its numbers are the service's own.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;
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

    // Recompute from the records, and hold both against what the service itself wrote down.
    let lines = |name: &str| -> Result<Vec<Value>, libtest_mimic::Failed> {
        let text = std::fs::read_to_string(logs.join(name)).map_err(|e| format!("{name}: {e}"))?;
        text.lines().map(|l| serde_json::from_str(l).map_err(Into::into)).collect()
    };
    let records: Vec<Value> = lines("metrics-chat_completion.log")?;
    let load: Vec<&Value> = records.iter().filter(|r| r["phase"] == "load").collect();
    let ok: Vec<&Value> = load.iter().copied().filter(|r| r["ok"] == true).collect();
    let metrics = &told["metrics"];
    let number = |name: &str| metrics[name].as_f64().ok_or(format!("metrics.{name} is missing: {metrics:#}"));
    let mut ttft: Vec<f64> =
        ok.iter().filter_map(|r| Some((r["first_token_us"].as_f64()? - r["sent_us"].as_f64()?) / 1e3)).collect();
    ttft.sort_by(f64::total_cmp);
    check!(!ttft.is_empty(), "no record of a load request");
    let mean = ttft.iter().sum::<f64>() / ttft.len() as f64;
    check!(
        (number("ttft_avg")? - mean).abs() < 0.01 + mean * 1e-3,
        "ttft_avg: told {}, recomputed {mean}",
        number("ttft_avg")?
    );
    check!(number("ttft_max")? >= ttft[ttft.len() - 1] - 0.01, "ttft_max");
    check!((number("error_rate")? - (load.len() - ok.len()) as f64 / load.len() as f64).abs() < 1e-9, "error_rate");

    let truth = lines("truth.jsonl")?;
    let served: Vec<&Value> =
        truth.iter().filter(|t| t["path"].as_str().is_none_or(|p| p.contains("completions"))).collect();
    check!(
        served.len() >= records.len(),
        "the service saw {} requests, the records are {}",
        served.len(),
        records.len()
    );
    let told_tokens: u64 = ok.iter().filter_map(|r| r["completion_tokens"].as_u64()).sum();
    check!(told_tokens > 0 && told_tokens.is_multiple_of(32), "every answer has 32 tokens: {told_tokens}");
    // A request cannot look faster from outside than the service was inside.
    check!(ttft[0] >= 29.0, "the service waits 30 ms for the first token, the fastest record says {} ms", ttft[0]);
    Ok(())
}
