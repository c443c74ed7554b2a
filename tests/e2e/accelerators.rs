//! Accelerators on the real server and engine: declared cards, so that no hardware is needed.

use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::{InstanceInfo, InstanceStatus};
use serde_json::{Value, json};

use crate::{
    check,
    support::{Agent, AgentOptions, App, Needs, Parts, Run, TestResult, eventually, llm::executable, trial, ws},
};

/// All tests of this module.
pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial(
            "accelerators::accelerators_are_shared_by_two_runs_and_the_third_waits_for_its_turn",
            Needs::Server,
            shared,
        ),
        trial("accelerators::a_killed_agent_s_runs_keep_their_accelerators", Needs::Server, kept),
        trial("accelerators::a_container_gets_the_nodes_of_its_accelerators_and_no_others", Needs::Docker, nodes),
        trial("accelerators::accelerators_that_the_host_does_not_have_are_refused_at_once", Needs::Server, impossible),
        trial("accelerators::a_lane_without_free_accelerators_lets_jobs_wait_at_the_server", Needs::Server, overload),
    ]
}

const CARDS: &str = "[accelerators]\nprovider = \"declared\"\n\
    [[accelerators.card]]\nkind = \"stub-card\"\nmemory_mib = 16384\ndevices = [\"/dev/zero:/dev/accel0\"]\nvisible_env = \"STUB_VISIBLE_DEVICES\"\n\
    [[accelerators.card]]\nkind = \"stub-card\"\nmemory_mib = 16384\ndevices = [\"/dev/full:/dev/accel1\"]\nvisible_env = \"STUB_VISIBLE_DEVICES\"\n";

async fn agent(name: &str, app: &App) -> Result<Agent, Failed> {
    Agent::start(name, AgentOptions::new(&app.name).with(CARDS)).await
}

/// What `testrig accelerators` tells of the agent's host.
fn cards(agent: &Agent) -> Result<Vec<Value>, Failed> {
    let mut command = std::process::Command::new(&Parts::get().testrig);
    command.args(["accelerators", "--json", "--config"]).arg(agent.dir.join("config.toml"));
    let out = command.output()?;
    check!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let view: Value = serde_json::from_slice(&out.stdout)?;
    Ok(view["cards"].as_array().cloned().unwrap_or_default())
}

fn states(agent: &Agent) -> Result<Vec<String>, Failed> {
    let state = |card: &Value| card["availability"]["state"].as_str().unwrap_or_default().to_owned();
    Ok(cards(agent)?.iter().map(state).collect())
}

async fn all_free(agent: &Agent) -> TestResult {
    eventually("every card is free", || async {
        let states = states(agent).map_err(|e| format!("{e:?}"))?;
        if states == ["free", "free"] { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await
}

/// Waits until the run's journal holds a line with this text, and gives it.
async fn logged(agent: &Agent, instance: i64, text: &str) -> Result<String, Failed> {
    let (mut next, began) = (0, std::time::Instant::now());
    while began.elapsed() < Duration::from_secs(90) {
        let Ok(got) = ws::subscribe(&agent.admin, instance, next, 1).await else {
            // Not accepted yet.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        next += got.lines.len() as u64;
        if let Some(line) = got.lines.into_iter().find(|line| line.contains(text)) {
            return Ok(line);
        }
        if got.closed.is_some() {
            break;
        }
    }
    Err(format!("the journal of {instance} never showed `{text}`\n{}", agent.tail()).into())
}

fn succeeded(info: &InstanceInfo) -> TestResult {
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}");
    Ok(())
}

async fn shared() -> TestResult {
    let app = App::new("cards").await?;
    let agent = agent("cards", &app).await?;
    let run = |seconds: u32, wait: u32| {
        Run::process(&agent, &[])
            .with("resources.gpus", json!(1))
            .with("resources.queueTimeoutSeconds", json!(wait))
            .with("runSeconds", json!(seconds))
    };
    let start = async |run: &Run| app.run(app.job("RunLLMTest", &run.params, &[]).await?, &Value::Null).await;
    let (first, second, third) = (run(12, 0), run(12, 0), run(1, 120));
    let a = start(&first).await?;
    let b = start(&second).await?;
    for instance in [a, b] {
        logged(&agent, instance, "accelerators of this run: ").await?;
    }
    let shown = cards(&agent)?;
    let holders: Vec<String> =
        shown.iter().map(|card| card["lease"]["words"].as_str().unwrap_or_default().to_owned()).collect();
    for instance in [a, b] {
        check!(holders.iter().filter(|words| words.contains(&instance.to_string())).count() == 1, "{holders:?}");
    }
    let c = start(&third).await?;
    let line = logged(&agent, c, "waiting for 1 accelerator").await?;
    check!(line.contains("leased to instance"), "{line}");
    for instance in [a, b, c] {
        succeeded(&app.ended(instance).await?)?;
    }
    // Each had one, the two at the same time different ones, and the third one of theirs.
    let index = |run: &Run| -> Result<i64, Failed> {
        let cards = run.result(&agent)?["accelerators"].as_array().cloned().unwrap_or_default();
        check!(cards.len() == 1, "{cards:?}");
        cards[0]["index"].as_i64().ok_or_else(|| "no index".into())
    };
    check!(index(&first)? != index(&second)?, "both on the same card");
    check!([0, 1].contains(&index(&third)?), "a card of the host");
    let info = app.info(a).await?;
    check!(
        info.result.as_deref().is_some_and(|text| text.contains("on stub-card")),
        "the result names the card: {info:?}"
    );
    all_free(&agent).await
}

async fn kept() -> TestResult {
    let app = App::new("kept").await?;
    let mut agent = agent("kept", &app).await?;
    let run = Run::process(&agent, &[]).with("resources.gpus", json!(2)).with("runSeconds", json!(8));
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    logged(&agent, instance, "stage load: begins").await?;
    agent.kill();
    check!(states(&agent)? == ["leased", "leased"], "while the agent is dead: {:?}", states(&agent)?);
    agent.spawn()?;
    agent.wait_listed().await?;
    check!(states(&agent)? == ["leased", "leased"], "the run was taken up: {:?}", states(&agent)?);
    let info = app.ended(instance).await?;
    succeeded(&info)?;
    let used = run.result(&agent)?["accelerators"].as_array().map_or(0, Vec::len);
    check!(used == 2, "{used} cards in the result");
    all_free(&agent).await
}

async fn nodes() -> TestResult {
    let app = App::new("nodes").await?;
    let agent = agent("nodes", &app).await?;
    let image = Parts::get().image_stub.as_deref().ok_or("tests with containers are skipped without images")?;
    let script = agent.dir.join("stub.sh");
    let text = "#!/bin/sh\nls -d /dev/accel*\necho visible=$STUB_VISIBLE_DEVICES nvidia=$NVIDIA_VISIBLE_DEVICES ascend=$ASCEND_VISIBLE_DEVICES\n\
        exec /usr/bin/testrig llm-stub --listen 0.0.0.0:8000 --ttft-ms 10 --itl-ms 1 --tokens 8\n";
    executable(&script, text)?;
    let run = Run::container(&agent, image, 8000)
        .with("volumes", json!([{ "hostPath": script, "containerPath": "/stub.sh", "mode": "ro" }]))
        .with("containerEntryScript", json!("/stub.sh"))
        .with("envVars", json!({ "NVIDIA_VISIBLE_DEVICES": "all" }))
        .with("resources.deviceIds", json!(["1"]))
        .with("resources.gpuType", json!("stub"));
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    succeeded(&app.ended(instance).await?)?;
    let log = std::fs::read_to_string(run.dir(&agent)?.join("svc-m-8000.log"))?;
    check!(log.contains("/dev/accel1") && !log.contains("/dev/accel0"), "{log}");
    check!(log.contains("visible=0 nvidia=void ascend=void"), "{log}");
    let result = run.result(&agent)?;
    check!(result["accelerators"][0]["index"] == 1, "{}", result["accelerators"]);
    let warned = result["warnings"].to_string();
    check!(warned.contains("envVars.NVIDIA_VISIBLE_DEVICES is not used"), "{warned}");
    all_free(&agent).await
}

async fn impossible() -> TestResult {
    let app = App::new("never").await?;
    let agent = agent("never", &app).await?;
    for (field, value, words) in [
        ("resources.gpus", json!(3), "asked were 3 accelerators, there is 2 stub-card with 16.0 GiB"),
        ("resources.gpuType", json!("H200"), "of type H200, there is 2 stub-card with 16.0 GiB"),
        ("resources.gpuMemory", json!("20Gi"), "with at least 20.0 GiB each, there is 2 stub-card with 16.0 GiB"),
        ("resources.deviceIds", json!(["7"]), "no card has the index or UUID `7`"),
    ] {
        let mut run = Run::process(&agent, &[]).with("resources.queueTimeoutSeconds", json!(300));
        if field != "resources.gpus" && field != "resources.deviceIds" {
            run.set("resources.gpus", json!(1));
        }
        run.set(field, value);
        let job = app.job("RunLLMTest", &run.params, &[]).await?;
        let instance = app.run(job, &Value::Null).await?;
        // Far below the time that it would wait for cards that are only busy.
        let info = app.ended_within(Duration::from_secs(120), instance).await?;
        let text = info.result.clone().unwrap_or_default();
        check!(info.status() == Some(InstanceStatus::Failed), "{info:?}");
        check!(text.contains("stage lease failed") && text.contains(words), "`{words}` is not in: {text}");
    }
    Ok(())
}

async fn overload() -> TestResult {
    let app = App::new("full").await?;
    let mut options = AgentOptions::new(&app.name).with(CARDS);
    options.lane = "accelerators = true\n".into();
    let agent = Agent::start("full", options).await?;
    let run =
        |seconds: u32| Run::process(&agent, &[]).with("resources.gpus", json!(2)).with("runSeconds", json!(seconds));
    let (first, second) = (run(15), run(1));
    let job = app.job("RunLLMTest", &first.params, &[]).await?;
    let a = app.run(job, &Value::Null).await?;
    logged(&agent, a, "stage load: begins").await?;
    eventually("the heartbeat says overload", || async {
        let status = agent.get("/api/status").await?;
        if status["lanes"][0]["overload"] == true { Ok(()) } else { Err(status.to_string()) }
    })
    .await?;
    // Without a place to wait here, it waits at the server and runs when the cards are free.
    let job = app.job("RunLLMTest", &second.params, &[]).await?;
    let b = app.run(job, &Value::Null).await?;
    succeeded(&app.ended(a).await?)?;
    succeeded(&app.ended(b).await?)?;
    Ok(())
}
