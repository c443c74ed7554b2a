//! Instances with tasks over several agents.

use std::time::Duration;

use libtest_mimic::Trial;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::{
    check,
    support::{Agent, AgentOptions, App, Needs, TestResult, eventually, eventually_within, trial},
};

const VERIFICATION: &str = "tech.powerjob.official.processors.impl.VerificationProcessor";
/// Batches of sub-tasks, and sub-tasks of each; each takes 0.14 s on average.
const BATCHES: usize = 10;
const BATCH: usize = 60;

pub(crate) fn tests() -> Vec<Trial> {
    vec![trial(
        "tasks::a_map_reduce_over_two_agents_has_every_result_once_though_the_helping_one_is_killed",
        Needs::Server,
        one_killed,
    )]
}

async fn one_killed() -> TestResult {
    let app = App::new("mrkill").await?;
    let first = Agent::start("mrkill-a", AgentOptions::new(&app.name)).await?;
    let second = Agent::start("mrkill-b", AgentOptions::new(&app.name)).await?;
    let params = json!({"mode": "MR", "batchNum": BATCHES, "batchSize": BATCH, "subTaskSuccessRate": 1});
    // Two at once on each agent.
    let more = [("executeType", json!("MAP_REDUCE")), ("concurrency", json!(2)), ("taskRetryNum", json!(3))];
    let job = app.job(VERIFICATION, &params, &more).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.reaches(instance, InstanceStatus::Running).await?;
    // Whichever has been given the instance: the other one helps.
    let owner = info.task_tracker_address.clone().unwrap_or_default();
    let (tracker, mut helper) = if owner == first.address() { (first, second) } else { (second, first) };
    check!(owner == tracker.address(), "{info:?}");
    eventually("both are at work", || async {
        let status = helper.get("/api/status").await?;
        let open = open_tasks(&status);
        if open > 0 { Ok(()) } else { Err(status.to_string()) }
    })
    .await?;
    helper.kill();
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}\n{}", tracker.tail());
    check!(info.running_times == Some(1), "the same run goes on: {info:?}");
    let result = info.result.clone().unwrap_or_default();
    // The result names every task; the server keeps the beginning of it.
    check!(result.starts_with("tId:0;tSuc:true;tRes:MAP_SUCCESS"), "{result}");
    check!(!result.contains("tSuc:false"), "{result}");
    let mut ids: Vec<&str> =
        result.split("tId:").filter_map(|part| part.split_once(";tSuc:").map(|(id, _)| id)).collect();
    let named = ids.len();
    ids.sort_unstable();
    ids.dedup();
    check!(ids.len() == named && named > BATCH, "{named} tasks named, {} different: {result}", ids.len());
    let all = BATCHES * BATCH + 1;
    let (told, lost) = (format!("{all} tasks have ended, 0 failed"), format!("worker {} is lost", helper.address()));
    eventually_within(Duration::from_secs(60), "the log tells of the loss and of the end", || async {
        let log = app.server_log(instance, 3).await.map_err(|e| format!("{e:?}"))?;
        let tells = |text: &str| log.iter().any(|line| line.contains(text));
        if tells(&told) && tells(&lost) { Ok(()) } else { Err(format!("`{told}`, `{lost}`: {log:#?}")) }
    })
    .await
}

/// Tasks that are at an agent, over all of its lanes.
fn open_tasks(status: &Value) -> u64 {
    let lanes = status["lanes"].as_array().cloned().unwrap_or_default();
    lanes.iter().filter_map(|lane| lane["open_tasks"].as_u64()).sum()
}
