//! Service control through the server: the specification's job starts a service, which outlives job and agent and is found
//! again by jobs of the next agent.

use libtest_mimic::Trial;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::{
    check,
    support::{Agent, AgentOptions, App, Needs, TestResult, agent::free_port, llm::processes_with, trial},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![trial(
        "service::the_specifications_job_starts_a_service_that_outlives_job_and_agent_and_is_found_again",
        Needs::Server,
        outlives,
    )]
}

/// What the specification's script does, with `sleep` as the service.
const SCRIPT: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --port) port=$2 ;; esac; shift 2; done
nohup sleep "$((50000 + port))" >/dev/null 2>&1 &
echo "[INFO] service started, pid=$!"
"#;

async fn outlives() -> TestResult {
    let app = App::new("service").await?;
    let mut agent = Agent::start("service", AgentOptions::new(&app.name)).await?;
    let script = agent.logs().join("start_llm.sh");
    std::fs::create_dir_all(agent.logs())?;
    std::fs::write(&script, SCRIPT)?;
    let port = free_port();
    let start = json!({"modelName": "qwen-7b", "modelPath": "/data/models/qwen-7b", "port": port, "pythonBin": "/bin/sh", "scriptPath": script});
    // As the specification's job names it.
    let job = app.job("com.example.powerjob.demo.LlmPythonProcessor#pythonLauncher", &start, &[]).await?;
    let info = app.ended(app.run(job, &Value::Null).await?).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}\n{}", agent.tail());
    check!(info.result.as_deref().is_some_and(|text| text.contains("[INFO] service started")), "{info:?}");
    let mark = format!("sleep {}", 50_000 + u32::from(port));
    check!(processes_with(&mark).len() == 1, "the service stays: {:?}", processes_with(&mark));
    agent.kill();
    agent.spawn()?;
    agent.wait_listed().await?;
    let status = app.job("ServiceControl", &json!({"modelName": "qwen-7b", "action": "status"}), &[]).await?;
    let info = app.ended(app.run(status, &Value::Null).await?).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}");
    check!(info.result.as_deref().is_some_and(|text| text.contains("pid ")), "{info:?}");
    let stop = app.job("ServiceControl", &json!({"modelName": "qwen-7b", "action": "stop"}), &[]).await?;
    let info = app.ended(app.run(stop, &Value::Null).await?).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}");
    check!(processes_with(&mark).is_empty(), "nothing is left: {:?}", processes_with(&mark));
    let info = app.ended(app.run(status, &Value::Null).await?).await?;
    check!(info.status() == Some(InstanceStatus::Failed), "{info:?}");
    Ok(())
}
