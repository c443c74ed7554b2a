//! `kill -9` of the agent in every stage of a run: the outcome is the one the run would have had, or one honest failure; run
//! count 1, the log without hole or double, the leases those of what runs, nothing left over.
//!
//! Each stage is hit once for certain. The whole size (`scripts/test.sh --long`) makes ten rounds of each stage and kind of
//! service, 200 together: the further ones kill at a moment that is drawn (`TESTRIG_CRASH_SEED` draws the same ones again), every
//! third once more while the agent is just taking the run up.

mod look;
mod moment;

use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::{InstanceInfo, InstanceStatus};
use serde_json::{Value, json};

use self::{
    look::{first_report, lease_is_kept, no_hole_and_no_double, nothing_left, without_doubled_batches},
    moment::{Round, seed},
};
use crate::{
    check,
    support::{
        Agent, AgentOptions, App, Needs, Parts, Run, TestResult, eventually_within,
        llm::{executable, processes_with},
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
    let seed = seed();
    let kind = if container { "container" } else { "process" };
    let (mut succeeded, mut failed, mut reports) = (0, 0, Vec::new());
    for round in 0..times(1, 10) as u64 {
        let round = Round::draw(stage, container, round, seed);
        let told = killed_in(&round).await.map_err(|error| {
            let text = error.message().unwrap_or_default();
            format!("TESTRIG_CRASH_SEED={seed}, {round:?}: {text}")
        })?;
        succeeded += usize::from(told.success);
        failed += usize::from(!told.success);
        reports.extend(told.first_report);
    }
    reports.sort();
    println!(
        "crash: stage {stage} of a {kind} run: {} rounds, seed {seed}: {succeeded} succeeded, {failed} failed honestly; first report after \
         the restart, ms: {:?}",
        succeeded + failed,
        reports.iter().map(Duration::as_millis).collect::<Vec<_>>()
    );
    Ok(())
}

/// What a round came to.
struct Told {
    success: bool,
    first_report: Option<Duration>,
}

/// Two cards, so that leases are seen.
const CARDS: &str = "[accelerators]\nprovider = \"declared\"\n\
    [[accelerators.card]]\nkind = \"stub-card\"\nmemory_mib = 16384\ndevices = [\"/dev/zero:/dev/accel0\"]\nvisible_env = \"STUB_VISIBLE_DEVICES\"\n\
    [[accelerators.card]]\nkind = \"stub-card\"\nmemory_mib = 16384\ndevices = [\"/dev/full:/dev/accel1\"]\nvisible_env = \"STUB_VISIBLE_DEVICES\"\n";

/// A service that counts aloud beside its work and is slow to be ready; every stage lasts long enough to be hit.
fn counting(agent: &Agent, container: bool) -> Result<Run, Failed> {
    let count = "(i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done) &";
    let flags = "--ttft-ms 10 --itl-ms 1 --tokens 8 --ready-after-ms 1500";
    let run = if container {
        let image = Parts::get().image_stub.as_deref().ok_or("tests with containers are skipped without images")?;
        let script = agent.dir.join("stub.sh");
        executable(
            &script,
            &format!("#!/bin/sh\n{count}\nexec /usr/bin/testrig llm-stub --listen 0.0.0.0:8000 {flags}\n"),
        )?;
        Run::container(agent, image, 8000)
            .with("volumes", json!([{ "hostPath": script, "containerPath": "/stub.sh", "mode": "ro" }]))
            .with("containerEntryScript", json!("/stub.sh"))
    } else {
        // The directory stands in the command line, by which leftovers are found.
        let (dir, program) = (agent.dir.display(), Parts::get().testrig.display());
        let script = format!(": {dir}; {count} exec {program} llm-stub --listen 127.0.0.1:{{servicePort}} {flags}");
        Run::command(agent, &["/bin/sh".into(), "-c".into(), script])
    };
    Ok(run.with("warmupSeconds", json!(2)).with("runSeconds", json!(3)).with("resources.gpus", json!(1)))
}

async fn killed_in(round: &Round) -> Result<Told, Failed> {
    let name = if round.container { "ckill" } else { "pkill" };
    let app = App::new(name).await?;
    let mut options = AgentOptions::new(&app.name).with(CARDS);
    if round.held {
        // Some stages are over in a millisecond; the debug build holds the run in the one that is to be hit.
        options.env.push(("TESTRIG_HOLD_STAGE".into(), round.stage.into()));
    }
    let mut agent = Agent::start(name, options).await?;
    let run = counting(&agent, round.container)?;
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    wait_for_stage(&agent, instance, round.stage).await?;
    tokio::time::sleep(round.after).await;
    agent.kill();
    agent.spawn()?;
    let mut restarted = Instant::now();
    if let Some(again) = round.again {
        tokio::time::sleep(again).await;
        agent.kill();
        agent.spawn()?;
        restarted = Instant::now();
    }
    let is_over =
        async || app.info(instance).await.is_ok_and(|info| info.status().is_some_and(InstanceStatus::is_final));
    let first_report = first_report(&agent, restarted, is_over).await?;
    if !matches!(round.stage, "plan" | "lease") {
        lease_is_kept(&agent, instance).await?;
    }
    let info = app.ended_within(Duration::from_secs(150), instance).await?;
    check!(info.running_times == Some(1), "run count: {info:?}");
    let journal = ws::subscribe(&agent.admin, instance, 0, usize::MAX).await?.lines;
    let success = outcome(round, &run, &agent, &info, &journal)?;
    if success || run.dir(&agent).is_ok() {
        let port = &run.params["servicePort"];
        no_hole_and_no_double(&journal, &run.dir(&agent)?.join(format!("svc-m-{port}.log")), success)?;
    }
    let at_server = app.server_log(instance, journal.len()).await?;
    check!(
        without_doubled_batches(&at_server, &journal, round.kills()),
        "server and journal differ beyond one doubled batch a kill:\n{at_server:#?}\n{journal:#?}"
    );
    nothing_left(&agent, instance, round.container).await?;
    Ok(Told { success, first_report })
}

/// Whether the run ended as it would have, and if not, whether that is honest.
fn outcome(round: &Round, run: &Run, agent: &Agent, info: &InstanceInfo, journal: &[String]) -> Result<bool, Failed> {
    let stages: Vec<&str> = journal.iter().map(String::as_str).filter(|line| line.contains("stage ")).collect();
    let fell: Vec<&str> = stages
        .iter()
        .filter_map(|line| line.split_once("while this run was in stage ")?.1.strip_suffix("; going on with it"))
        .collect();
    // A kill that fell into the stage: whoever took the run up says so; a run that was not stored yet begins again.
    let hit = fell.contains(&round.stage)
        || (round.stage == "plan" && stages.iter().filter(|line| **line == "stage plan: begins").count() >= 2);
    check!(!round.held || hit, "the kill fell into another stage than {}: {stages:#?}", round.stage);
    let text = info.result.clone().unwrap_or_default();
    match info.status() {
        Some(InstanceStatus::Succeed) => {
            let result = run.result(agent)?;
            check!(result["status"] == "SUCCEED", "result.json says otherwise: {result:#}");
            let restarts = result["restarts"].as_u64().unwrap_or_default() as usize;
            check!(restarts <= round.kills(), "{restarts} restarts, {} kills: {result:#}", round.kills());
            check!(fell.is_empty() != (restarts > 0), "{} restarts in the log: {result:#}", fell.len());
            let cuts = fell.iter().filter(|stage| **stage == "load").count();
            let of_load = |key: &str, value: Value| {
                let all = result["stages"].as_array().into_iter().flatten();
                all.filter(|stage| stage["name"] == "load" && stage[key] == value).count()
            };
            let cut = of_load("outcome", json!("cut"));
            // The second kill may fall between the line that says it and the store.
            check!(cut <= cuts && (cut > 0) == (cuts > 0), "{cuts} cut load phases in the log: {result:#}");
            // A load that was cut is begun again, and it is said that it was.
            check!(cuts == 0 || of_load("restarted", json!(true)) > 0, "not marked as started again: {result:#}");
            check!(cuts == 0 || text.contains("load started again"), "the result does not say so: {text}");
            Ok(true)
        }
        Some(InstanceStatus::Failed) => {
            check!(
                text.contains("restart"),
                "an honest failure says what was lost: {text:?}; stages {stages:#?}\n{}",
                agent.tail()
            );
            // With the service adoptable, there is no excuse for a failure.
            check!(
                !fell.iter().any(|stage| matches!(*stage, "health" | "warm-up" | "load" | "teardown" | "result")),
                "stage {fell:?} should have been taken up: {text}\n{}",
                agent.tail()
            );
            Ok(false)
        }
        _ => Err(format!("{info:?}").into()),
    }
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
