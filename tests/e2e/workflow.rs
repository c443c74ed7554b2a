//! The whole chain on real parts: RunLLMTest in a container with llama.cpp's server, archive in S3, row in SQLite,
//! notification at a webhook, and the log the same everywhere.

use std::sync::Arc;

use libtest_mimic::Trial;
use powerjob_worker::openapi::{InstanceStatus, WfStatus};
use serde_json::{Value, json};

use crate::{
    check,
    support::{Agent, AgentOptions, App, Needs, Parts, TestResult, parts::unique, s3, trial, ws},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![trial(
        "workflow::the_chain_runs_on_real_parts_and_everything_comes_back_true",
        Needs::All,
        chain_on_real_parts,
    )]
}

/// A webhook that keeps what it was told.
pub(crate) struct Webhook {
    pub(crate) url: String,
    kept: Arc<std::sync::Mutex<Vec<Value>>>,
}

impl Webhook {
    pub(crate) async fn start() -> Result<Self, libtest_mimic::Failed> {
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let for_task = Arc::clone(&kept);
        let app = axum::Router::new().route(
            "/hook",
            axum::routing::post(move |body: axum::Json<Value>| {
                for_task.lock().expect("no test panics here").push(body.0);
                async { "{\"StatusCode\":0,\"code\":0,\"msg\":\"success\"}" }
            }),
        );
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { url, kept })
    }

    pub(crate) fn received(&self) -> Vec<Value> {
        self.kept.lock().expect("no test panics here").clone()
    }
}

async fn chain_on_real_parts() -> TestResult {
    let parts = Parts::get();
    let app = App::new("chain").await?;
    let hook = Webhook::start().await?;
    let bucket = format!("llm-logs-{}", unique());
    let agent = Agent::start("chain", AgentOptions::new(&app.name).with(&s3::bucket(&bucket).await?)).await?;
    let logs = agent.logs();
    let task = format!("T-{}", unique());
    let run_params = json!({
        "jobType": "RUN_LLM_TEST", "hostLogBaseDir": logs,
        "docker": { "baseImage": parts.image_llama, "networkMode": "bridge", "pullPolicy": "Never" },
        "healthCheck": { "type": "HTTP", "path": "/health", "intervalMillis": 200, "maxRetry": 200 },
        "defaultLoad": { "concurrency": 2, "warmupSeconds": 1, "runSeconds": 4 },
        "test": { "maxTokens": 8 },
    });
    let chain = app
        .chain(&[
            ("RunLLMTest", run_params, true),
            ("CollectLogs", json!({ "jobType": "COLLECT_LOGS", "logBaseDir": logs, "uploadBase": format!("s3://{bucket}/e2e") }), true),
            (
                "AggregateMetrics",
                json!({ "jobType": "AGGREGATE_METRICS", "metricsSource": "file", "resultDbKey": "default", "outputTable": "summary" }),
                true,
            ),
            (
                "NotifyResult",
                json!({ "jobType": "NOTIFY_RESULT", "defaultChannels": ["im"], "channelConfig": { "im": { "webhookUrl": hook.url } }, "defaultTemplateId": "default-zh" }),
                false,
            ),
        ])
        .await?;
    let init = json!({ "platformTaskId": task, "env": "staging", "modelKey": "tiny", "scenario": "chat_completion", "servicePort": "8080", "logDirSuffix": "run-a" });
    let info = app.run_workflow(chain, &init).await?;
    let nodes = info.nodes()?;
    for node in &nodes {
        check!(
            node.status == Some(InstanceStatus::Succeed.code()),
            "node {:?} did not succeed: {node:?}\n{}",
            node.node_name,
            agent.tail()
        );
    }
    check!(info.status() == Some(WfStatus::Succeed), "{info:?}");

    // The log: journal (CLI), WebSocket and server say the same, line by line.
    let id = nodes[0].instance_id.ok_or("the first node has an instance")?;
    let socket = ws::subscribe(&agent.admin, id, 0, usize::MAX).await?;
    check!(socket.closed == Some((1000, "SUCCEED".into())), "close was {:?}", socket.closed);
    let at_server = app.server_log(id, socket.lines.len()).await?;
    check!(at_server == socket.lines, "server log and WebSocket differ:\n{at_server:#?}\n{:#?}", socket.lines);

    // Files, result, archive, row, notification.
    let dir = agent.run_dir("staging", "run-a").ok_or("the run directory exists")?;
    for name in [
        "metrics-chat_completion.log",
        "client-req-chat_completion.log",
        "svc-tiny-8080.log",
        "env-setup.log",
        "env-teardown.log",
        "system-monitor.log",
        "result.json",
    ] {
        check!(dir.join(name).exists(), "{name} is missing in {}", dir.display());
    }
    let result: Value = serde_json::from_slice(&std::fs::read(dir.join("result.json"))?)?;
    check!(result["status"] == "SUCCEED", "{result:#}");
    // The server closes kept connections without a word: that is no failure of the service.
    check!(!result["failures"].to_string().contains("disconnected"), "{:#}", result["failures"]);
    let records = std::fs::read_to_string(dir.join("metrics-chat_completion.log"))?;
    let ok = records.lines().filter(|l| l.contains("\"phase\":\"load\"") && l.contains("\"ok\":true")).count();
    check!(ok > 0, "no request succeeded: {records}");
    let context: Value = serde_json::from_str(info.wf_context.as_deref().unwrap_or("{}"))?;
    check!(context["archiveUrl"].as_str().is_some_and(|u| u.starts_with(&format!("s3://{bucket}/"))), "{context:#}");
    let db = rusqlite::Connection::open(agent.dir.join("state/results.db"))?;
    let rows: i64 = db.query_row("select count(*) from summary", [], |r| r.get(0))?;
    check!(rows == 1, "{rows} rows in the summary table");
    let told = hook.received();
    check!(told.len() == 1 && told[0].to_string().contains(&task), "notification: {told:?}");
    Ok(())
}
