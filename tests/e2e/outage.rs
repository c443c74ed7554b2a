//! The server goes away and comes back. These tests take it away from everybody, so they run one at a time.

use std::time::Duration;

use libtest_mimic::Trial;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::{
    check,
    support::{
        Agent, AgentOptions, App, ExampleWorker, Needs, Parts, Run, TestResult, eventually, llm::processes_with,
        parts::control, trial, ws,
    },
};

/// They run alone.
pub(crate) fn alone() -> Vec<Trial> {
    vec![
        trial("outage::a_run_goes_on_without_its_server_and_nothing_is_lost", Needs::Server, server_killed_and_back),
        trial("outage::a_result_that_falls_into_an_outage_arrives_afterwards", Needs::Server, ends_during_outage),
        trial("outage::an_agent_that_starts_without_a_server_finds_it_later", Needs::Server, started_before_the_server),
    ]
}

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("outage::a_stop_while_the_agent_is_dead_is_obeyed_after_its_start", Needs::Server, stopped_while_dead),
        trial("outage::a_dead_address_in_front_does_not_hide_the_living_server", Needs::Server, failover),
        trial("outage::an_idle_agent_is_gone_soon_after_sigterm", Needs::Server, sigterm),
    ]
}

fn server(verb: &str) {
    let command = Parts::get().powerjob_ctl.clone().expect("tests that need a server are skipped without one");
    control(&command, verb);
}

async fn server_killed_and_back() -> TestResult {
    let app = App::new("outage").await?;
    let worker = ExampleWorker::start(&app).await?;
    let job = app.job("echo", &json!({ "lines": 400, "sleep": 40_000 }), &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    server("kill");
    tokio::time::sleep(Duration::from_secs(3)).await;
    server("start");
    let info = app.ended(instance).await?;
    check!(
        info.status() == Some(InstanceStatus::Succeed) && info.running_times == Some(1),
        "{info:?}\n{}",
        worker.log()
    );
    // The server lost its lines with its memory: it has them all again, in order.
    let log = app.server_log(instance, 400).await?;
    let lines: Vec<&String> = log.iter().filter(|l| l.starts_with("line ")).collect();
    check!(lines.len() == 400, "{} of 400 lines", lines.len());
    for (i, line) in lines.iter().enumerate() {
        check!(line.starts_with(&format!("line {} of 400: ", i + 1)), "line {i} is {line:?}");
    }
    Ok(())
}

async fn ends_during_outage() -> TestResult {
    let app = App::new("gap").await?;
    let agent = Agent::start("gap", AgentOptions::new(&app.name)).await?;
    let run = Run::process(&agent, &[]).with("runSeconds", json!(3));
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    server("kill");
    let socket = ws::subscribe(&agent.admin, instance, 0, usize::MAX);
    eventually("the run ends without a server", || async {
        let result = run.result(&agent).map_err(|e| format!("{e:?}"))?;
        if result["status"] == "SUCCEED" { Ok(()) } else { Err(result.to_string()) }
    })
    .await?;
    server("start");
    let info = app.ended(instance).await?;
    check!(
        info.status() == Some(InstanceStatus::Succeed) && info.running_times == Some(1),
        "{info:?}\n{}",
        agent.tail()
    );
    let socket = socket.await?;
    let log = app.server_log(instance, socket.lines.len()).await?;
    check!(log == socket.lines, "{log:#?}\n{:#?}", socket.lines);
    Ok(())
}

async fn started_before_the_server() -> TestResult {
    let app = App::new("early-bird").await?;
    server("kill");
    let mut agent = Agent::prepare("early-bird", AgentOptions::new(&app.name))?;
    agent.spawn()?;
    eventually("the agent is up and says what is missing", || async {
        let ready = agent.get("/readyz").await?;
        if ready["ready"] == false { Ok(()) } else { Err(ready.to_string()) }
    })
    .await?;
    server("start");
    agent.wait_listed().await
}

async fn stopped_while_dead() -> TestResult {
    let app = App::new("deadstop").await?;
    let mut agent = Agent::start("deadstop", AgentOptions::new(&app.name)).await?;
    let run = Run::process(&agent, &[]).with("runSeconds", json!(600));
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    eventually("the load has begun", || async {
        let file = run.dir(&agent).map_err(|e| format!("{e:?}"))?.join("metrics-chat_completion.log");
        std::fs::metadata(&file).ok().filter(|m| m.len() > 0).map(|_| ()).ok_or_else(|| "no record yet".to_owned())
    })
    .await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    agent.kill();
    app.api.stop_instance(app.id, instance).await?;
    agent.spawn()?;
    eventually("the service is gone", || async {
        let left: Vec<String> = processes_with(&agent.dir.display().to_string())
            .into_iter()
            .filter(|p| !p.contains(" agent --config "))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await?;
    agent.wait_listed().await?;
    tokio::time::sleep(Duration::from_secs(13)).await;
    let info = app.info(instance).await?;
    check!(info.status() == Some(InstanceStatus::Stopped), "{info:?}\n{}", agent.tail());
    Ok(())
}

async fn failover() -> TestResult {
    let app = App::new("second").await?;
    let mut options = AgentOptions::new(&app.name);
    options.servers.insert(0, "127.0.0.1:1".into());
    let _agent = Agent::start("second", options).await?;
    Ok(())
}

async fn sigterm() -> TestResult {
    let app = App::new("term").await?;
    let mut agent = Agent::start("term", AgentOptions::new(&app.name)).await?;
    let code = agent.terminate().await?;
    check!(code == Some(0), "exit code {code:?}: {}", agent.tail());
    Ok(())
}
