//! The log of a run, as journal, WebSocket, command line and server show it.

use std::{process::Command, time::Duration};

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::{
    check,
    support::{Agent, AgentOptions, App, Needs, Parts, Run, TestResult, odd, trial, ws},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("logs::a_services_odd_lines_are_the_same_on_the_websocket_and_at_the_server", Needs::Server, odd_lines),
        trial("logs::reconnecting_with_the_next_index_loses_and_doubles_nothing", Needs::Server, reconnect),
        trial("logs::the_command_line_prints_what_the_websocket_sends", Needs::Server, command_line),
        trial("logs::a_token_is_asked_of_everybody_once_there_is_one", Needs::Server, token),
        trial("logs::an_unknown_instance_and_bad_parameters_are_told", Needs::Server, unknown),
        trial("logs::health_readiness_and_metrics_are_served", Needs::Server, metrics),
    ]
}

async fn finished_run(name: &str, make: impl FnOnce(&Agent) -> Run) -> Result<(App, Agent, i64), Failed> {
    let app = App::new(name).await?;
    let agent = Agent::start(name, AgentOptions::new(&app.name)).await?;
    let run = make(&agent);
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    Ok((app, agent, instance))
}

async fn odd_lines() -> TestResult {
    let (app, agent, instance) = finished_run("odd", |agent| {
        let file = agent.dir.join("odd.txt");
        std::fs::write(&file, odd::text()).expect("scratch file can be written");
        Run::command(agent, &["/bin/sh".into(), "-c".into(), format!("cat {}; exit 5", file.display())])
    })
    .await?;
    let live = ws::subscribe(&agent.admin, instance, 0, usize::MAX).await?;
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Failed), "{info:?}");
    check!(live.closed == Some((1000, "FAILED".into())), "{:?}", live.closed);
    check!(odd::within(&live.lines), "the WebSocket did not bring the service's lines as they are");
    let at_server = app.server_log(instance, live.lines.len()).await?;
    check!(
        at_server == live.lines,
        "server and WebSocket differ at line {:?}",
        odd::first_difference(&at_server, &live.lines)
    );
    Ok(())
}

async fn reconnect() -> TestResult {
    let (_app, agent, instance) = finished_run("reconnect", |agent| {
        let script = "i=0; while [ $i -lt 300 ]; do echo step $i; i=$((i+1)); sleep 0.01; done; exit 5".to_owned();
        Run::command(agent, &["/bin/sh".into(), "-c".into(), script])
    })
    .await?;
    let mut all = Vec::new();
    let end = loop {
        let part = ws::subscribe(&agent.admin, instance, all.len() as u64, 37).await?;
        all.extend(part.lines);
        if let Some(end) = part.closed {
            break end;
        }
    };
    check!(end == (1000, "FAILED".into()), "{end:?}");
    let whole = ws::subscribe(&agent.admin, instance, 0, usize::MAX).await?;
    check!(all == whole.lines, "pieces and whole differ at {:?}", odd::first_difference(&all, &whole.lines));
    let steps: Vec<&String> = whole.lines.iter().filter(|l| l.starts_with("step ")).collect();
    check!(steps.len() == 300, "{} steps", steps.len());
    let beyond = ws::subscribe(&agent.admin, instance, 1_000_000, usize::MAX).await?;
    check!(beyond.lines.is_empty() && beyond.closed == Some((1000, "FAILED".into())), "{beyond:?}");
    Ok(())
}

async fn command_line() -> TestResult {
    let (app, agent, instance) = finished_run("cli", |agent| {
        Run::command(agent, &["/bin/sh".into(), "-c".into(), "echo one; echo two; exit 1".into()])
    })
    .await?;
    let testrig = |args: &[&str]| -> Result<(bool, String), Failed> {
        let out = Command::new(&Parts::get().testrig).args(args).args(["--admin", &agent.admin]).output()?;
        Ok((
            out.status.success(),
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
        ))
    };
    let id = instance.to_string();
    let (ok, followed) = testrig(&["logs", &id, "-f"])?;
    check!(ok && followed.contains(&format!("instance {id} ended: FAILED")), "{followed}");
    app.ended(instance).await?;
    let (ok, printed) = testrig(&["logs", &id])?;
    let whole = ws::subscribe(&agent.admin, instance, 0, usize::MAX).await?;
    check!(ok && printed.lines().eq(whole.lines.iter().map(String::as_str)), "{printed}\n{:#?}", whole.lines);
    let (_, from) = testrig(&["logs", &id, "--index", "2"])?;
    check!(from.lines().eq(whole.lines.iter().skip(2).map(String::as_str)), "{from}");
    let (ok, status) = testrig(&["status"])?;
    check!(ok && status.contains("listed by the server") && status.contains(&agent.address()), "{status}");
    let (ok, text) = {
        let out = Command::new(&Parts::get().testrig).args(["status", "--admin", "127.0.0.1:1"]).output()?;
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    check!(!ok && text.contains("no agent answers at 127.0.0.1:1"), "{text}");
    Ok(())
}

async fn token() -> TestResult {
    let app = App::new("token").await?;
    let dir = Parts::get().dir("token");
    let file = dir.join("token");
    std::fs::write(&file, "sesame\n")?;
    let mut agent = Agent::prepare("token", AgentOptions::new(&app.name))?;
    let config = agent.dir.join("config.toml");
    let text = std::fs::read_to_string(&config)?
        .replace("[admin]\n", &format!("[admin]\ntoken_file = {:?}\n", file.display().to_string()));
    std::fs::write(&config, text)?;
    agent.spawn()?;
    agent.wait_listed().await?;
    let get = |path: String, bearer: Option<&'static str>| async move {
        let client = reqwest::Client::builder().no_proxy().build().map_err(|e| e.to_string())?;
        let mut request = client.get(path);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        let answer = request.send().await.map_err(|e| e.to_string())?;
        Ok::<_, String>((answer.status().as_u16(), answer.text().await.unwrap_or_default()))
    };
    let url = |path: &str| format!("http://{}{path}", agent.admin);
    check!(get(url("/metrics"), None).await?.0 == 401, "metrics without a token");
    check!(get(url("/metrics"), Some("wrong")).await?.0 == 401, "metrics with a wrong token");
    check!(get(url("/metrics"), Some("sesame")).await?.0 == 200, "metrics with the token");
    check!(get(url("/api/status?token=sesame"), None).await?.0 == 200, "status with the token in the query");
    check!(get(url("/healthz"), None).await?.0 == 200, "healthz needs none");
    let refused = tokio_tungstenite::connect_async(format!("ws://{}/ws/log?instanceId=1", agent.admin)).await;
    check!(refused.is_err_and(|e| e.to_string().contains("401")), "a WebSocket without a token");
    Ok(())
}

async fn unknown() -> TestResult {
    let app = App::new("nolog").await?;
    let agent = Agent::start("nolog", AgentOptions::new(&app.name)).await?;
    let refused = |query: &'static str| {
        let url = format!("ws://{}/ws/log?{query}", agent.admin);
        async move {
            match tokio_tungstenite::connect_async(url).await {
                Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                    Ok(String::from_utf8_lossy(&answer.into_body().unwrap_or_default()).into_owned())
                }
                other => Err(Failed::from(format!("{query}: {other:?}"))),
            }
        }
    };
    for (query, text) in [
        ("index=0", "`instanceId` is missing"),
        ("instanceId=abc", "`instanceId` is `abc`"),
        ("instanceId=1&index=x", "`index` is `x`"),
        ("instanceId=1&appId=999999", "works for app"),
    ] {
        let got = refused(query).await?;
        check!(got.contains(text), "{query}: {got}");
    }
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{}/ws/log?instanceId=1&follow=false", agent.admin)).await?;
    let closed = tokio::time::timeout(Duration::from_secs(10), futures_util::StreamExt::next(&mut socket)).await?;
    check!(format!("{closed:?}").contains("4404"), "{closed:?}");
    Ok(())
}

async fn metrics() -> TestResult {
    let (app, agent, instance) =
        finished_run("metrics", |agent| Run::process(agent, &[]).with("runSeconds", json!(1))).await?;
    app.ended(instance).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let text = client.get(format!("http://{}/metrics", agent.admin)).send().await?.text().await?;
    for wanted in [
        "# TYPE testrig_listed gauge",
        "testrig_listed{lane=\"main\"} 1",
        "testrig_dispatches_total{lane=\"main\"} 1",
        "testrig_build_info{version=",
    ] {
        check!(text.contains(wanted), "{wanted} is missing in {text}");
    }
    let mut typed = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|l| l.split(' ').next()) {
            check!(typed.insert(name.to_owned()), "{name} has two TYPE lines");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            check!(typed.contains(name), "a sample of {name} stands before its TYPE line");
        }
    }
    check!(agent.get("/readyz").await?["ready"] == true, "ready");
    Ok(())
}
