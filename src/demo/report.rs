//! What the demo tells in the end: the summary table, where everything is, what the notification said.

use std::path::Path;

use anyhow::Context;
use powerjob_worker::openapi::{InstanceStatus, WfInstanceInfo};
use serde_json::{Map, Value, json};

use super::{jobs::DemoJob, receiver::Receiver};

/// One node's end.
struct Node {
    name: &'static str,
    processor: &'static str,
    instance_id: Option<i64>,
    status: &'static str,
}

/// Everything that is told.
pub(super) struct Report {
    nodes: Vec<Node>,
    metrics: Map<String, Value>,
    log_dir: Option<String>,
    archive: Option<String>,
    database: String,
    notification: Option<String>,
}

impl Report {
    /// Reads it from the workflow's end and the files it left.
    pub(super) fn collect(
        dir: &Path,
        jobs: &[DemoJob],
        info: &WfInstanceInfo,
        receiver: &Receiver,
    ) -> anyhow::Result<Self> {
        let states = info.nodes()?;
        let nodes = jobs
            .iter()
            .map(|job| {
                let state = states.iter().find(|n| n.node_name.as_deref() == Some(job.name));
                let status = state.and_then(|s| s.status).and_then(|s| InstanceStatus::from_code(i64::from(s)));
                let status = status.map_or("NOT_STARTED", InstanceStatus::name);
                Node {
                    name: job.name,
                    processor: job.processor,
                    instance_id: state.and_then(|s| s.instance_id),
                    status,
                }
            })
            .collect();
        let context: Map<String, Value> =
            info.wf_context.as_deref().and_then(|c| serde_json::from_str(c).ok()).unwrap_or_default();
        let text = |key: &str| context.get(key).and_then(Value::as_str).map(str::to_owned);
        let log_dir = text("logDir");
        let metrics = match &log_dir {
            Some(dir) => read_metrics(&Path::new(dir).join("result.json"))?,
            None => Map::new(),
        };
        let archive = text("archiveUrl").map(|url| url.strip_prefix("file://").unwrap_or(&url).to_owned());
        let database = dir.join("state/results.db").display().to_string();
        Ok(Self { nodes, metrics, log_dir, archive, database, notification: receiver.received().last().cloned() })
    }

    /// Whether every node ended SUCCEED.
    pub(super) fn succeeded(&self) -> bool {
        self.nodes.iter().all(|n| n.status == "SUCCEED")
    }

    /// RunLLMTest's instance.
    pub(super) fn first_instance(&self) -> Option<i64> {
        self.nodes.first().and_then(|n| n.instance_id)
    }

    /// Prints it: a table, or one JSON object on standard output.
    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", self.json());
        } else {
            print!("{}", self.table());
        }
    }

    fn json(&self) -> Value {
        let instances: Vec<Value> = self
            .nodes
            .iter()
            .map(|n| json!({ "name": n.name, "processor": n.processor, "instanceId": n.instance_id.map(|i| i.to_string()), "status": n.status }))
            .collect();
        json!({
            "status": if self.succeeded() { "SUCCEED" } else { "FAILED" },
            "instances": instances,
            "metrics": self.metrics,
            "logs": self.log_dir,
            "archive": self.archive,
            "database": self.database,
            "notification": self.notification.as_deref().map(|n| serde_json::from_str(n).unwrap_or_else(|_| Value::String(n.into()))),
        })
    }

    fn table(&self) -> String {
        use std::fmt::Write;
        let mut out = String::from("\n");
        for n in &self.nodes {
            let _ = writeln!(
                out,
                "{:<18}{:<10}{}",
                n.processor,
                n.status,
                n.instance_id.map(|i| i.to_string()).unwrap_or_default()
            );
        }
        out.push_str(&figures(&self.metrics));
        let none = || "none".to_owned();
        let _ = writeln!(out, "\nlogs      {}", self.log_dir.clone().unwrap_or_else(none));
        let _ = writeln!(out, "archive   {}", self.archive.clone().unwrap_or_else(none));
        let _ = writeln!(out, "database  {}  (table llm_test_metrics_summary)", self.database);
        let _ = writeln!(out, "\nnotification:\n{}", indent(&self.notification.as_deref().map_or_else(none, readable)));
        let _ = writeln!(out, "{}", if self.succeeded() { "all four succeeded" } else { "not all four succeeded" });
        out
    }
}

/// Counts and rates, one a line, and the latencies as a table: all of them are in `result.json`.
fn figures(metrics: &Map<String, Value>) -> String {
    use std::fmt::Write;
    const LATENCIES: [(&str, &str); 4] = [("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2el", "E2E latency")];
    const COLUMNS: [&str; 6] = ["avg", "p50", "p90", "p95", "p99", "max"];
    const SINGLE: [&str; 7] =
        ["requests", "succeeded", "failed", "error_rate", "qps", "input_token_rate", "output_token_rate"];
    let mut out = String::from("\n");
    for name in SINGLE {
        if let Some(value) = metrics.get(name) {
            let _ = writeln!(out, "{name:<18}{:>10}", shown(value));
        }
    }
    let _ = write!(out, "\n{:<18}", "ms");
    for column in COLUMNS {
        let _ = write!(out, "{column:>10}");
    }
    out.push('\n');
    for (name, title) in LATENCIES {
        let _ = write!(out, "{title:<18}");
        for column in COLUMNS {
            let value = metrics.get(&format!("{name}_{column}")).map_or_else(|| "-".to_owned(), shown);
            let _ = write!(out, "{value:>10}");
        }
        out.push('\n');
    }
    out
}

fn read_metrics(file: &Path) -> anyhow::Result<Map<String, Value>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let result: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    Ok(result["metrics"].as_object().cloned().unwrap_or_default())
}

fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(v) if !value.is_u64() => format!("{v:.2}"),
        _ => value.to_string(),
    }
}

/// The notification's text if it has one, else its JSON.
fn readable(body: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    ["text", "content", "markdown"]
        .iter()
        .find_map(|key| value[*key].as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("{value:#}"))
}

fn indent(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}
