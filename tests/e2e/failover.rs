//! Two servers on one database, and the one that owns the app is killed under load.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use powerjob_worker::openapi::{InstanceStatus, OpenApi};
use serde_json::{Value, json};

use crate::{
    check,
    support::{App, ExampleWorker, Needs, TestResult, eventually, pair::Pair, parts::unique, trial},
};

/// They start servers of their own, which takes half of a small machine.
pub(crate) fn alone() -> Vec<Trial> {
    vec![trial(
        "failover::the_owner_is_killed_under_load_and_the_other_server_has_the_worker_in_the_moment_of_its_discovery",
        Needs::Server,
        owner_killed,
    )]
}

/// What became of one call of `runJob` after the kill.
struct Call {
    /// When it was answered, after the kill.
    at: Duration,
    /// The instance, or why there is none.
    instance: Result<i64, String>,
}

async fn owner_killed() -> TestResult {
    let pair = Pair::start("pair")?;
    let api = OpenApi::new(&pair.web)?;
    let name = format!("pair-{}", unique());
    let id = api.ensure_app(&name, "it-pass").await?;
    let app = App { api, name, id };
    // The survivor alone: a client that knew both would hide which one answers.
    let survivor = App { api: OpenApi::new(&pair.web[1..])?, ..app.clone() };
    let worker = ExampleWorker::on(&app, &pair.web.join(",")).await?;
    let owner = OpenApi::new(&pair.web[..1])?.hello().await?;
    check!(owner.app_ids.contains(&app.id), "the first server is the owner: {owner:?}");

    let long = app.job("echo", &json!({ "lines": 300, "sleep": 45_000 }), &[]).await?;
    let long = app.run(long, &Value::Null).await?;
    app.reaches(long, InstanceStatus::Running).await?;
    let empty = app.job("empty", &Value::Null, &[]).await?;
    // Load before, during and after.
    let mut before = Vec::new();
    for _ in 0..10 {
        before.push(app.run(empty, &Value::Null).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    pair.kill(0);
    let killed = Instant::now();
    let mut calls = Vec::new();
    while killed.elapsed() < Duration::from_secs(25) {
        let instance = survivor.run(empty, &Value::Null).await.map_err(|why| format!("{why:?}"));
        calls.push(Call { at: killed.elapsed(), instance });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // The time until the survivor owns the app: calls are forwarded to the dead owner until then.
    let taken_over = calls.iter().find(|call| call.instance.is_ok()).map(|call| call.at);
    let taken_over = taken_over.ok_or_else(|| format!("the app was never taken over: {}", worker.log()))?;
    let mut no_worker = Vec::new();
    let mut served = 0;
    for call in &calls {
        let Ok(instance) = call.instance else { continue };
        let info = survivor.ended(instance).await?;
        match info.status() {
            Some(InstanceStatus::Succeed) => served += 1,
            _ if info.result.as_deref().is_some_and(|text| text.contains("no worker available")) => {
                no_worker.push(call.at);
            }
            _ => return Err(format!("{info:?}\n{}", worker.log()).into()),
        }
    }
    println!(
        "owner killed: taken over after {taken_over:?}; {} calls, {served} served, {} without a worker at {no_worker:?}",
        calls.len(),
        no_worker.len()
    );
    // A heartbeat follows the discovery at once, so nothing that starts later than a moment after it is without a worker. The
    // moment is long enough for a busy machine and far from the 10 s of a heartbeat that comes at its time.
    let late = no_worker.iter().filter(|at| **at > taken_over + Duration::from_secs(3)).count();
    check!(late == 0, "{late} runs found no worker after the takeover ({taken_over:?}): {no_worker:?}");
    check!(served > 5 * no_worker.len(), "{served} of {} calls were served, {no_worker:?} not", calls.len());

    for instance in before {
        let info = survivor.ended(instance).await?;
        check!(info.status() == Some(InstanceStatus::Succeed), "started before the kill: {info:?}");
    }
    let info = survivor.ended(long).await?;
    check!(
        info.status() == Some(InstanceStatus::Succeed) && info.running_times == Some(1),
        "the run that was under way: {info:?}\n{}",
        worker.log()
    );
    // The log of before the kill died with the server that had it; the new owner has all of it again.
    let log = survivor.server_log(long, 300).await?;
    let lines = log.iter().filter(|line| line.starts_with("line ")).count();
    check!(lines == 300, "{lines} of 300 lines at the new owner");

    eventually("the new owner lists the worker, and says so itself", || async {
        let hello = survivor.api.hello().await.map_err(|why| why.to_string())?;
        if hello.app_ids.contains(&app.id) { Ok(()) } else { Err(format!("{hello:?}")) }
    })
    .await
}
