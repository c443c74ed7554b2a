//! `kill -9` of the agent in every stage of a run: the outcome is the one the run would have had, or one honest failure; run
//! count 1, the log without hole or double, nothing left over.

use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::{
    check,
    support::{
        Agent, AgentOptions, App, Needs, Run, TestResult, eventually_within,
        llm::{containers_of, processes_with},
        times, trial, ws,
    },
};

/// How a stage announces itself in the journal.
fn marker(stage: &str) -> String {
    format!("stage {stage}")
}

/// Stages of a run, in their order.
const STAGES: [&str; 10] =
    ["plan", "lease", "pull", "create", "start", "health", "warm-up", "load", "teardown", "result"];

pub(crate) fn tests() -> Vec<Trial> {
    let mut all = Vec::new();
    for stage in STAGES {
        let name =
            Box::leak(format!("crash::kill_9_in_stage_{}_of_a_process_run", stage.replace('-', "_")).into_boxed_str());
        all.push(trial(name, Needs::Server, move || killed_often(stage, false)));
    }
    for stage in STAGES {
        let name = Box::leak(
            format!("crash::kill_9_in_stage_{}_of_a_container_run", stage.replace('-', "_")).into_boxed_str(),
        );
        all.push(trial(name, Needs::Docker, move || killed_often(stage, true)));
    }
    all.push(trial(
        "crash::a_service_that_ended_while_the_agent_was_dead_is_told_with_code_and_whole_log",
        Needs::Server,
        ended_meanwhile,
    ));
    all
}

async fn killed_often(stage: &'static str, container: bool) -> TestResult {
    for _ in 0..times(1, 5) {
        killed_in(stage, container).await?;
    }
    Ok(())
}

async fn killed_in(stage: &'static str, container: bool) -> TestResult {
    let name = if container { "ckill" } else { "pkill" };
    let app = App::new(name).await?;
    let mut options = AgentOptions::new(&app.name);
    // Some stages are over in a millisecond; the debug build holds the run in the one that is to be hit.
    options.env.push(("TESTRIG_HOLD_STAGE".into(), stage.into()));
    let mut agent = Agent::start(name, options).await?;
    // Every stage must last long enough to be hit: the service is slow to be ready, and slow to go.
    let run =
        if container { Run::stub_container(&agent)? } else { Run::process(&agent, &["--ready-after-ms", "1500"]) };
    let run = run.with("warmupSeconds", json!(2)).with("runSeconds", json!(3));
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    wait_for_stage(&agent, instance, stage).await?;
    agent.kill();
    agent.spawn()?;
    let info = app.ended_within(Duration::from_secs(150), instance).await?;
    check!(info.running_times == Some(1), "run count: {info:?}");
    let socket = ws::subscribe(&agent.admin, instance, 0, usize::MAX).await?;
    let stages: Vec<&String> = socket.lines.iter().filter(|l| l.contains("stage ")).collect();
    // The kill fell into the stage: whoever took the run up says so; a run that was not stored yet begins again.
    let fell = if stage == "plan" {
        stages.iter().filter(|l| l.as_str() == "stage plan: begins").count() == 2
    } else {
        stages.iter().any(|l| l.ends_with(&format!("while this run was in stage {stage}; going on with it")))
    };
    check!(fell, "the kill fell into another stage than {stage}: {stages:#?}");
    match info.status() {
        Some(InstanceStatus::Succeed) => {
            check!(run.result(&agent)?["status"] == "SUCCEED", "result.json says otherwise: {:#}", run.result(&agent)?);
        }
        Some(InstanceStatus::Failed) => {
            let result = info.result.clone().unwrap_or_default();
            check!(
                result.contains("restart"),
                "an honest failure says what was lost: {result:?}; stages {stages:#?}\n{}",
                agent.tail()
            );
            // With the service adoptable, there is no excuse for a failure.
            check!(
                !matches!(stage, "health" | "warm-up" | "load" | "teardown" | "result"),
                "stage {stage} should have been taken up: {result}\n{}",
                agent.tail()
            );
        }
        _ => return Err(format!("{info:?}").into()),
    }
    let at_server = app.server_log(instance, socket.lines.len()).await?;
    check!(
        without_doubled_batch(&at_server, &socket.lines),
        "server and journal differ beyond one doubled batch:\n{at_server:#?}\n{:#?}",
        socket.lines
    );
    nothing_left(&agent, instance, container).await
}

/// Waits until the newest stage line in the journal is this stage's; gives the stage lines seen until then.
async fn wait_for_stage(agent: &Agent, instance: i64, stage: &str) -> Result<Vec<String>, Failed> {
    let mut next = 0;
    let mut seen = Vec::new();
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        let got = ws::subscribe(&agent.admin, instance, next, 1).await?;
        next += got.lines.len() as u64;
        let ended = got.closed.is_some();
        seen.extend(got.lines.into_iter().filter(|l| l.contains("stage ")));
        if seen.iter().any(|l| l.contains(&marker(stage))) {
            return Ok(seen);
        }
        if ended {
            break;
        }
    }
    Err(format!("the journal never showed `{}`: {seen:#?}\n{}", marker(stage), agent.tail()).into())
}

/// The server has every line in order; one batch, and no more, may stand there twice. Its lines carry identical times, so the
/// server may show the second copy behind the first or line beside line.
fn without_doubled_batch(server: &[String], journal: &[String]) -> bool {
    const BATCH: usize = 1000;
    let mut wanted = journal.iter().peekable();
    let extra: Vec<&String> = server.iter().filter(|line| wanted.next_if_eq(line).is_none()).collect();
    let whole = wanted.peek().is_none();
    let one_batch = extra.is_empty() || journal.windows(extra.len()).any(|part| part.iter().eq(extra.iter().copied()));
    whole && one_batch && extra.len() <= BATCH
}

async fn nothing_left(agent: &Agent, instance: i64, container: bool) -> TestResult {
    eventually_within(Duration::from_secs(30), "nothing of the run is left", || async {
        if container {
            let left = containers_of(instance).map_err(|e| format!("{e:?}"))?;
            if !left.is_empty() {
                return Err(format!("{left:?}"));
            }
        }
        let left: Vec<String> = processes_with(&agent.dir.display().to_string())
            .into_iter()
            .filter(|p| !p.contains(" agent --config "))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await
}

/// The service dies while nobody looks: its exit code and every line of it are told all the same.
async fn ended_meanwhile() -> TestResult {
    let app = App::new("meanwhile").await?;
    let mut agent = Agent::start("meanwhile", AgentOptions::new(&app.name)).await?;
    let go = agent.dir.join("go");
    let script = format!(
        "echo before; while ! [ -e {} ]; do sleep 0.1; done; i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; echo last words >&2; exit 9",
        go.display()
    );
    let run =
        Run::command(&agent, &["/bin/sh".into(), "-c".into(), script]).with("healthCheck.maxRetry", json!(10_000));
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    wait_for_stage(&agent, instance, "health").await?;
    agent.kill();
    std::fs::write(&go, "")?;
    eventually_within(Duration::from_secs(30), "the service has ended", || async {
        let left: Vec<String> = processes_with(&go.display().to_string())
            .into_iter()
            .filter(|p| p.contains("while !") && !p.contains("__shim"))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await?;
    agent.spawn()?;
    let info = app.ended(instance).await?;
    let result = info.result.clone().unwrap_or_default();
    check!(
        info.status() == Some(InstanceStatus::Failed) && result.contains('9') && result.contains("last words"),
        "{info:?}"
    );
    let socket = ws::subscribe(&agent.admin, instance, 0, usize::MAX).await?;
    for i in 0..500 {
        let line = format!("line {i}");
        let times = socket.lines.iter().filter(|l| **l == line).count();
        check!(times == 1, "`{line}` stands {times} times in the log");
    }
    nothing_left(&agent, instance, false).await
}
