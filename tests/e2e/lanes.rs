//! Slots, backlog and overload on the real server: bursts, several lanes, drain, resume, signals.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::{
    check,
    support::{
        Agent, AgentOptions, App, ExampleWorker, Needs, Parts, Run, TestResult, agent::free_port, eventually,
        eventually_within, trial,
    },
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("lanes::two_hundred_jobs_of_a_second_at_once_are_done_in_order_of_arrival", Needs::Server, one_burst),
        trial("lanes::two_hundred_jobs_of_a_second_at_once_over_two_agents", Needs::Server, burst_over_two),
        trial("lanes::every_lane_has_its_own_tag_and_its_own_processors", Needs::Server, several_lanes),
        trial("lanes::drain_and_resume_are_seen_by_the_server_within_a_second", Needs::Server, drain_and_resume),
        trial("lanes::sigterm_drains_and_a_second_one_cancels_what_runs", Needs::Server, two_signals),
        trial("lanes::sigterm_drains_until_what_runs_has_ended", Needs::Server, one_signal),
    ]
}

const JOBS: usize = 200;
/// What the whole burst may take on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(40);

async fn one_burst() -> TestResult {
    let app = App::new("burst").await?;
    let workers = [ExampleWorker::start_with(&app, &["--slots", "8"]).await?];
    burst(&app, &workers).await
}

async fn burst_over_two() -> TestResult {
    let app = App::new("bursts").await?;
    let workers = [
        ExampleWorker::start_with(&app, &["--slots", "8"]).await?,
        ExampleWorker::start_with(&app, &["--slots", "8"]).await?,
    ];
    burst(&app, &workers).await
}

/// All at once, each a second long: every one succeeds, runs once, and starts in its worker's order of arrival.
async fn burst(app: &App, workers: &[ExampleWorker]) -> TestResult {
    let job = app.job("echo", &json!({ "lines": 1, "sleep": 1000 }), &[]).await?;
    let lag = Lag::measure();
    let began = Instant::now();
    let runs = futures_util::future::join_all((0..JOBS).map(|_| app.run(job, &Value::Null)));
    let instances = runs.await.into_iter().collect::<Result<Vec<_>, Failed>>()?;
    check!(instances.iter().collect::<BTreeSet<_>>().len() == JOBS, "ids are not unique");
    for &instance in &instances {
        let info = app.ended(instance).await?;
        check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}");
        check!(info.running_times == Some(1), "ran {:?} times: {info:?}", info.running_times);
    }
    let (took, lag) = (began.elapsed(), lag.total());
    println!("{JOBS} jobs on {} worker(s): {took:.1?}, of which this machine was held up {lag:.1?}", workers.len());
    for worker in workers {
        in_order_and_once(worker, &instances)?;
    }
    // A machine that is busy with other things starts and ends everything later.
    check!(took < LIMIT + lag, "took {took:?}, {LIMIT:?} + {lag:?} are allowed");
    Ok(())
}

/// What the worker's own journals say of its instances: one arrival, one run, started in order of arrival.
fn in_order_and_once(worker: &ExampleWorker, instances: &[i64]) -> TestResult {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for &instance in instances {
        let Some(lines) = worker.lines(instance)? else { continue };
        let times = |text: &str| -> Vec<i64> {
            lines.iter().filter(|line| line.text.contains(text)).map(|line| line.time_ms).collect()
        };
        let (accepted, started, ran) = (times(" accepted: "), times("a slot is free: "), times("line 1 of 1: "));
        check!(accepted.len() == 1 && ran.len() == 1, "instance {instance} did not run once: {lines:#?}");
        // What found a slot free started on arrival.
        runs.push((accepted[0], started.first().copied().unwrap_or(accepted[0])));
    }
    runs.sort_unstable();
    let overtaken = runs
        .iter()
        .enumerate()
        .find_map(|(i, (accepted, started))| runs[i..].iter().find(|later| later.0 > *accepted && later.1 < *started));
    check!(overtaken.is_none(), "one that came later started before: {overtaken:?} in {runs:?}");
    Ok(())
}

async fn several_lanes() -> TestResult {
    let app = App::new("several").await?;
    let port = free_port();
    let light = format!(
        "[[lane]]\nname = \"light\"\nlisten = \"127.0.0.1:{port}\"\ntag = \"light\"\nslots = 2\nprocessors = [\"CollectLogs\"]\n"
    );
    let agent = Agent::start("several", AgentOptions::new(&app.name).with(&light)).await?;
    let address = format!("127.0.0.1:{port}");
    let rows = app.api.list_workers(app.id).await?;
    let tag = |address: &str| rows.iter().find(|row| row.address == address).map(|row| row.tag.clone());
    check!(tag(&address) == Some(Some("light".into())), "{rows:?}");
    // The console's word for none.
    check!(tag(&agent.address()) == Some(Some("N/A".into())), "{rows:?}");
    // By tag to the second lane, by address to the first; what a lane does not serve says what it serves.
    for (processor, target, at, texts) in [
        ("RunLLMTest", "light", &address, ["`RunLLMTest` is not served", "It serves `CollectLogs`"]),
        ("CollectLogs", "light", &address, ["jobParams", "CollectLogs"]),
        ("RunLLMTest", &agent.address(), &agent.address(), ["jobParams", "RunLLMTest"]),
    ] {
        let job = app.job(processor, &json!("no json"), &[("designatedWorkers", json!(target))]).await?;
        let info = app.ended(app.run(job, &Value::Null).await?).await?;
        check!(info.status() == Some(InstanceStatus::Failed), "{info:?}");
        check!(info.task_tracker_address.as_ref() == Some(at), "{info:?}");
        let result = info.result.unwrap_or_default();
        check!(texts.iter().all(|text| result.contains(text)), "{processor} for {target}: {texts:?} in {result:?}");
    }
    let (code, said) = cli(&agent, &["drain", "--lane", "lihgt"])?;
    check!(code == Some(1) && said.contains("there is no lane `lihgt`; this agent has main, light"), "{said}");
    let (code, said) = cli(&agent, &["drain", "--lane", "light"])?;
    check!(code == Some(0) && said.contains("lane light: draining") && !said.contains("main"), "{said}");
    let draining = |status: &Value, i: usize| status["lanes"][i]["draining"] == true;
    let status = agent.get("/api/status").await?;
    check!(!draining(&status, 0) && draining(&status, 1), "{status:#}");
    Ok(())
}

async fn drain_and_resume() -> TestResult {
    let app = App::new("drain").await?;
    let agent = Agent::start("drain", AgentOptions::new(&app.name)).await?;
    for _ in 0..3 {
        for (verb, overloading) in [("drain", true), ("resume", false)] {
            let (lag, began) = (Lag::measure(), Instant::now());
            let (code, said) = cli(&agent, &[verb])?;
            check!(code == Some(0) && said.contains("the server knows"), "{verb}: exit code {code:?}: {said}");
            seen(&app, &agent, overloading, began, &lag).await?;
        }
    }
    // What comes while it drains is not run here: it waits at the server.
    let (_, said) = cli(&agent, &["drain", "--wait"])?;
    check!(said.contains("nothing is open any more"), "{said}");
    let (_, said) = cli(&agent, &["status"])?;
    check!(said.contains("draining: takes no new instances until `testrig resume`"), "{said}");
    let job = app.job("RunLLMTest", &json!("no json"), &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let info = app.info(instance).await?;
    check!(info.status() == Some(InstanceStatus::WaitingDispatch), "{info:?}");
    let (code, said) = cli(&agent, &["resume"])?;
    check!(code == Some(0), "{said}");
    // The server tries again after 30 s.
    let info = app.ended(instance).await?;
    check!(info.result.unwrap_or_default().contains("jobParams"), "it ran here in the end");
    Ok(())
}

/// A run of ten minutes that is under load.
async fn long_run(app: &App, agent: &Agent, seconds: u32) -> Result<(i64, Run), Failed> {
    let run = Run::process(agent, &[]).with("defaultLoad.runSeconds", json!(seconds));
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    eventually("the load has begun", || async {
        let file = run.dir(agent).map_err(|e| format!("{e:?}"))?.join("metrics-chat_completion.log");
        std::fs::metadata(&file).ok().filter(|m| m.len() > 0).map(|_| ()).ok_or_else(|| agent.tail())
    })
    .await?;
    Ok((instance, run))
}

async fn two_signals() -> TestResult {
    let app = App::new("signals").await?;
    let options = AgentOptions::new(&app.name).with("[shutdown]\non_sigterm = \"drain\"\n");
    let mut agent = Agent::start("signals", options).await?;
    let (instance, run) = long_run(&app, &agent, 600).await?;
    let (lag, began) = (Lag::measure(), Instant::now());
    agent.signal(nix::sys::signal::Signal::SIGTERM)?;
    seen(&app, &agent, true, began, &lag).await?;
    let (code, said) = cli(&agent, &["resume"])?;
    check!(code == Some(1) && said.contains("draining"), "an agent that ends takes nothing any more: {said}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    check!(app.info(instance).await?.status() == Some(InstanceStatus::Running), "{}", agent.tail());
    agent.signal(nix::sys::signal::Signal::SIGTERM)?;
    let code = agent.exited().await?;
    check!(code == Some(0), "exit code {code:?}: {}", agent.tail());
    let info = app.info(instance).await?;
    check!(info.status() == Some(InstanceStatus::Failed), "the server knew before the agent ended: {info:?}");
    let result = info.result.unwrap_or_default();
    for text in ["cancelled by the agent's shutdown", "was running", "run it again"] {
        check!(result.contains(text), "{text} is missing in {result:?}");
    }
    check!(run.result(&agent)?["status"] == "STOPPED", "{:#}", run.result(&agent)?);
    let left = crate::support::llm::processes_with(&agent.dir.display().to_string());
    check!(left.is_empty(), "left running: {left:?}");
    Ok(())
}

async fn one_signal() -> TestResult {
    let app = App::new("signal").await?;
    let options = AgentOptions::new(&app.name).with("[shutdown]\non_sigterm = \"drain\"\n");
    let mut agent = Agent::start("signal", options).await?;
    let (instance, _) = long_run(&app, &agent, 8).await?;
    agent.signal(nix::sys::signal::Signal::SIGTERM)?;
    let code = agent.exited().await?;
    check!(code == Some(0), "exit code {code:?}: {}", agent.tail());
    let info = app.info(instance).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}\n{}", agent.tail());
    Ok(())
}

/// Waits until the server's list shows the agent with this flag; that must be within a second of `began`.
async fn seen(app: &App, agent: &Agent, overloading: bool, began: Instant, lag: &Lag) -> TestResult {
    let address = agent.address();
    eventually_within(Duration::from_secs(30), "the server sees it", || async {
        let rows = app.api.list_workers(app.id).await.map_err(|e| e.to_string())?;
        let row = rows.iter().find(|row| row.address == address);
        if row.and_then(|row| row.overloading) == Some(overloading) { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await?;
    let (took, lag) = (began.elapsed(), lag.total());
    println!("overloading {overloading} at the server after {took:.2?}, machine held up {lag:.2?}");
    check!(took < Duration::from_secs(1) + lag, "seen after {took:?}, of which the machine was held up {lag:?}");
    Ok(())
}

/// A command of the binary for this agent: exit code and everything it printed.
fn cli(agent: &Agent, args: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let config = agent.dir.join("config.toml");
    let out = std::process::Command::new(&Parts::get().testrig).args(args).arg("--config").arg(config).output()?;
    Ok((out.status.code(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))))
}

/// How much longer than asked for this machine lets us wait, all in all: what is busy with other things does everything later.
struct Lag {
    micros: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Lag {
    fn measure() -> Self {
        const TICK: Duration = Duration::from_millis(20);
        let micros = Arc::new(AtomicU64::new(0));
        let sum = micros.clone();
        let task = tokio::spawn(async move {
            loop {
                let began = Instant::now();
                tokio::time::sleep(TICK).await;
                let late = began.elapsed().saturating_sub(TICK);
                sum.fetch_add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { micros, task }
    }

    fn total(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.task.abort();
    }
}
