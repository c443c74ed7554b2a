//! The four jobs of the demo, as a person would save them in the console.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::Language;

/// A job and its place in the chain.
pub(super) struct DemoJob {
    /// Name of job and node.
    pub(super) name: &'static str,
    /// `processorInfo`.
    pub(super) processor: &'static str,
    /// `jobParams`.
    pub(super) params: Value,
}

/// What the jobs need to know of the surroundings.
pub(super) struct Surroundings<'a> {
    pub(super) dir: &'a Path,
    pub(super) program: &'a Path,
    pub(super) webhook: String,
    pub(super) language: Language,
    pub(super) run_seconds: u32,
}

/// Latency of the stand-in service. With 4 requests at a time it makes about 24 requests a second.
const TTFT_MS: u32 = 30;
const ITL_MS: u32 = 4;
const TOKENS: u32 = 32;

/// RunLLMTest -> CollectLogs -> AggregateMetrics -> NotifyResult.
pub(super) fn jobs(s: &Surroundings<'_>) -> [DemoJob; 4] {
    let logs = s.dir.join("logs");
    let text = |n: u32| n.to_string();
    [
        DemoJob {
            name: "run",
            processor: "RunLLMTest",
            params: json!({
                "jobType": "RUN_LLM_TEST",
                "hostLogBaseDir": logs,
                "monitor": { "trackMode": "PROCESS", "statsSampleIntervalSeconds": 1 },
                "service": { "command": [
                    s.program, "llm-stub", "--listen", "127.0.0.1:{servicePort}",
                    "--ttft-ms", text(TTFT_MS), "--itl-ms", text(ITL_MS), "--tokens", text(TOKENS), "--truth", "{logDir}/truth.jsonl",
                ] },
                "healthCheck": { "path": "/health", "intervalMillis": 200 },
                "defaultLoad": { "concurrency": 4, "warmupSeconds": 1, "runSeconds": s.run_seconds },
            }),
        },
        DemoJob {
            name: "collect",
            processor: "CollectLogs",
            params: json!({ "jobType": "COLLECT_LOGS", "logBaseDir": logs, "uploadBase": s.dir.join("archive") }),
        },
        DemoJob {
            name: "aggregate",
            processor: "AggregateMetrics",
            params: json!({
                "jobType": "AGGREGATE_METRICS", "metricsSource": "file", "resultDbKey": "default",
                "outputTable": "llm_test_metrics_summary",
            }),
        },
        DemoJob {
            name: "notify",
            processor: "NotifyResult",
            params: json!({
                "jobType": "NOTIFY_RESULT", "defaultChannels": ["im"], "channelConfig": { "im": { "webhookUrl": s.webhook } },
                "defaultTemplateId": match s.language { Language::En => "default-en", Language::Zh => "default-zh" },
            }),
        },
    ]
}

/// The start parameter of the workflow; every value is text, as the server keeps it.
pub(super) fn init_params(task: &str, port: u16) -> Value {
    json!({
        "platformTaskId": task, "env": "dev", "modelKey": "demo-model", "scenario": "chat_completion", "servicePort": port.to_string(),
    })
}
