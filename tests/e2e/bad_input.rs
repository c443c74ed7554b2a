//! What a person reads after a mistake: which thing, what was found, what is accepted, what to do.

use std::process::Command;

use libtest_mimic::Trial;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::{
    check,
    support::{Agent, AgentOptions, App, ExampleWorker, Needs, Parts, TestResult, agent::free_port, eventually, trial},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("bad_input::a_config_with_errors_is_one_report_with_lines", Needs::Nothing, config_errors),
        trial("bad_input::flags_that_make_no_sense_are_explained", Needs::Nothing, flag_errors),
        trial("bad_input::a_busy_port_is_named", Needs::Nothing, busy_port),
        trial("bad_input::an_unwritable_state_directory_is_named", Needs::Nothing, unwritable_directory),
        trial("bad_input::a_second_agent_on_one_state_directory_is_told_who_holds_it", Needs::Nothing, second_agent),
        trial("bad_input::without_a_server_the_agent_stays_and_says_so", Needs::Nothing, no_server),
        trial("bad_input::an_unregistered_app_is_named_with_what_to_do", Needs::Server, unregistered_app),
        trial(
            "bad_input::job_parameters_that_are_wrong_end_failed_with_all_mistakes_and_start_nothing",
            Needs::Server,
            wrong_parameters,
        ),
        trial("bad_input::an_unknown_processor_ends_failed_with_the_nearest_name", Needs::Server, unknown_processor),
        trial("bad_input::a_job_kind_that_is_not_served_ends_failed_and_says_so", Needs::Server, unserved_kind),
        trial("bad_input::a_processor_that_panics_ends_failed_and_says_where_to_look", Needs::Server, panic),
        trial(
            "bad_input::the_transport_port_given_as_server_is_told_with_the_right_one",
            Needs::Server,
            transport_port,
        ),
    ]
}

/// Runs the binary and gives exit code and everything it printed.
fn testrig(args: &[&str]) -> Result<(Option<i32>, String), libtest_mimic::Failed> {
    let out = Command::new(&Parts::get().testrig).args(args).output()?;
    Ok((out.status.code(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))))
}

async fn config_errors() -> TestResult {
    let dir = Parts::get().dir("config-errors");
    let file = dir.join("c.toml");
    std::fs::write(&file, "[powerjob]\napps = \"x\"\nservers = [\"h\"]\n[lane_]\n[admin]\nlisten = \"0.0.0.0:1\"\n")?;
    let (code, text) = testrig(&["config", "check", "--config", &file.display().to_string()])?;
    check!(code == Some(2), "exit code {code:?}: {text}");
    for wanted in [
        "c.toml:2: unknown key `powerjob.apps`; did you mean `app`?",
        "c.toml:4: unknown key `lane_`; did you mean `lane`?",
    ] {
        check!(text.contains(wanted), "{wanted} is missing in:\n{text}");
    }
    Ok(())
}

async fn flag_errors() -> TestResult {
    for (args, wanted) in [
        (vec!["agent", "-a", "x", "-s", "127.0.0.1:1", "-o", "AKKA"], "only HTTP is spoken"),
        (vec!["agent", "-s", "127.0.0.1:1"], "`powerjob.app` is missing"),
        (vec!["agent", "-a", "x"], "`powerjob.servers` is missing"),
        (vec!["agent", "-a", "x", "-s", "127.0.0.1"], "`127.0.0.1` is not host:port"),
        (vec!["agent", "-a", "x", "-s", "127.0.0.1:1", "--set", "lane.0.slots=x"], "accepted: a whole number"),
    ] {
        let (code, text) = testrig(&args)?;
        check!(
            code == Some(2) && text.contains(wanted),
            "{args:?}: exit code {code:?}, {wanted:?} is missing in:\n{text}"
        );
    }
    Ok(())
}

async fn busy_port() -> TestResult {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let dir = Parts::get().dir("busy").display().to_string();
    let admin = format!("127.0.0.1:{port}");
    let (code, text) = testrig(&["agent", "-a", "x", "-s", "127.0.0.1:1", "--state-dir", &dir, "--admin", &admin])?;
    check!(code == Some(1) && text.contains(&port) && text.contains("--admin"), "admin: exit code {code:?}: {text}");
    let lane = format!("lane.0.listen=\"127.0.0.1:{port}\"");
    let free = format!("127.0.0.1:{}", free_port());
    let (code, text) =
        testrig(&["agent", "-a", "x", "-s", "127.0.0.1:1", "--state-dir", &dir, "--admin", &free, "--set", &lane])?;
    check!(code == Some(1) && text.contains(&port), "lane: exit code {code:?}: {text}");
    Ok(())
}

async fn unwritable_directory() -> TestResult {
    let file = Parts::get().dir("unwritable").join("file");
    std::fs::write(&file, "")?;
    let dir = file.join("state").display().to_string();
    let (code, text) = testrig(&["agent", "-a", "x", "-s", "127.0.0.1:1", "--state-dir", &dir])?;
    check!(code == Some(1) && text.contains(&dir) && text.contains("--state-dir"), "exit code {code:?}: {text}");
    Ok(())
}

async fn second_agent() -> TestResult {
    let mut first =
        Agent::prepare("second", AgentOptions { servers: vec!["127.0.0.1:1".into()], ..AgentOptions::new("x") })?;
    first.spawn()?;
    eventually("the first agent is up", || async { first.get("/api/status").await }).await?;
    let pid = first.pid().ok_or("running")?.to_string();
    let free = format!("127.0.0.1:{}", free_port());
    let config = first.dir.join("config.toml").display().to_string();
    let (code, text) = testrig(&["agent", "--config", &config, "--admin", &free])?;
    check!(code == Some(1) && text.contains(&pid), "exit code {code:?}, pid {pid}: {text}");
    Ok(())
}

async fn no_server() -> TestResult {
    let mut agent =
        Agent::prepare("no-server", AgentOptions { servers: vec!["127.0.0.1:1".into()], ..AgentOptions::new("x") })?;
    agent.spawn()?;
    let text = eventually("the agent says that no server answers", || async {
        let ready = agent.get("/readyz").await?;
        let text = ready.to_string();
        if ready["ready"] == false && text.contains("127.0.0.1:1") { Ok(text) } else { Err(text) }
    })
    .await?;
    check!(agent.tail().contains("127.0.0.1:1"), "the log does not name the server: {}\n{text}", agent.tail());
    Ok(())
}

async fn unregistered_app() -> TestResult {
    let mut agent = Agent::prepare("no-app", AgentOptions::new("nobody-registered-this"))?;
    agent.spawn()?;
    eventually("the agent names the app and what to do", || async {
        let text = agent.get("/readyz").await?.to_string();
        if text.contains("nobody-registered-this") && text.contains("register") { Ok(()) } else { Err(text) }
    })
    .await
}

async fn failed_with(
    app: &App,
    processor: &str,
    params: &Value,
    more: &[(&str, Value)],
    wanted: &[&str],
) -> TestResult {
    let job = app.job(processor, params, more).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    let result = info.result.clone().unwrap_or_default();
    check!(info.status() == Some(InstanceStatus::Failed), "{processor} {params}: {info:?}");
    for text in wanted {
        check!(result.contains(text), "{processor} {params}: {text:?} is missing in {result:?}");
    }
    Ok(())
}

async fn wrong_parameters() -> TestResult {
    let app = App::new("wrong").await?;
    let agent = Agent::start("wrong", AgentOptions::new(&app.name)).await?;
    let logs = agent.logs();
    failed_with(&app, "RunLLMTest", &Value::Null, &[], &["jobType", "hostLogBaseDir"]).await?;
    failed_with(&app, "RunLLMTest", &json!("no json"), &[], &["jobParams"]).await?;
    failed_with(
        &app,
        "RunLLMTest",
        &json!({ "jobType": "RUN_LLM_TEST", "hostLogBaseDir": logs, "platformTaskId": "T", "modelKey": "m", "docker": { "pullPolicy": "Sometimes" }, "healthCheck.intervalMillis": "soon" }),
        &[],
        &["docker.pullPolicy", "Sometimes", "IfNotPresent", "healthCheck.intervalMillis", "soon"],
    )
    .await?;
    failed_with(
        &app,
        "RunLLMTest",
        &json!({ "jobType": "RUN_LLM_TEST", "hostLogBaseDir": "/etc", "platformTaskId": "T", "modelKey": "m", "image": "x", "scenario": "chat_completion", "servicePort": 1 }),
        &[],
        &["hostLogBaseDir", "/etc", "allowed_roots"],
    )
    .await?;
    failed_with(&app, "CollectLogs", &json!({ "jobType": "RUN_LLM_TEST" }), &[], &["jobType", "COLLECT_LOGS"]).await?;
    failed_with(
        &app,
        "AggregateMetrics",
        &json!({ "jobType": "AGGREGATE_METRICS", "metricsSource": "files" }),
        &[],
        &["metricsSource", "files"],
    )
    .await?;
    failed_with(
        &app,
        "NotifyResult",
        &json!({ "jobType": "NOTIFY_RESULT", "defaultChannels": ["pigeon"] }),
        &[],
        &["defaultChannels", "pigeon"],
    )
    .await?;
    // Of the one whose directory could be told its result, and nothing else.
    let left = files_below(&logs)?;
    check!(left.len() == 1 && left[0].ends_with("result.json"), "something was started or left: {left:?}");
    Ok(())
}

fn files_below(dir: &std::path::Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files_below(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

async fn unknown_processor() -> TestResult {
    let app = App::new("unknown").await?;
    let _agent = Agent::start("unknown", AgentOptions::new(&app.name)).await?;
    failed_with(&app, "RunLLMTests", &Value::Null, &[], &["RunLLMTests", "RunLLMTest", "CollectLogs"]).await
}

async fn unserved_kind() -> TestResult {
    let app = App::new("kinds").await?;
    let _agent = Agent::start("kinds", AgentOptions::new(&app.name)).await?;
    for (kind, info, texts) in [
        (
            "EXTERNAL",
            "1#x.Y",
            ["`EXTERNAL`", "`1#x.Y` is a class in a Java container", "keep such jobs on Java workers"],
        ),
        ("SHELL", "echo hi", ["`SHELL`", "only BUILT_IN", "the name of one of this worker's processors"]),
        ("PYTHON", "print(1)", ["`PYTHON`", "only BUILT_IN", "the name of one of this worker's processors"]),
    ] {
        let more = [("processorType", json!(kind)), ("processorInfo", json!(info))];
        failed_with(&app, "RunLLMTest", &Value::Null, &more, &texts).await?;
    }
    Ok(())
}

async fn panic() -> TestResult {
    let app = App::new("panic").await?;
    let worker = ExampleWorker::start(&app).await?;
    let texts = ["processor `echo` panicked: index out of range", "an error in its code", "the worker's own log"];
    failed_with(&app, "echo", &json!({ "panic": "index out of range" }), &[], &texts).await?;
    check!(worker.log().contains("examples/worker.rs:"), "the place is in the worker's own log: {}", worker.log());
    Ok(())
}

async fn transport_port() -> TestResult {
    let app = App::new("port").await?;
    let transport = app.api.hello().await?.transport.ok_or("the server names its transport address")?;
    let options = AgentOptions { servers: vec![transport.clone()], ..AgentOptions::new(&app.name) };
    let mut agent = Agent::prepare("port", options)?;
    agent.spawn()?;
    let wanted = [transport.as_str(), "is the transport port of a PowerJob server", "give its web port"];
    eventually("the agent says which port it was given", || async {
        let text = agent.get("/readyz").await?.to_string();
        if wanted.iter().all(|part| text.contains(part)) { Ok(()) } else { Err(text) }
    })
    .await?;
    check!(agent.tail().contains(wanted[1]), "its log says it, too: {}", agent.tail());
    Ok(())
}
