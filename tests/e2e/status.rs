//! What `testrig status` says of a lane, as the real server sees it.

use std::process::Command;

use libtest_mimic::Trial;

use crate::{
    check,
    support::{Agent, AgentOptions, App, Needs, Parts, TestResult, agent::free_port, eventually, trial},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("status::a_lane_that_the_server_lists_and_reaches_has_no_problem", Needs::Server, listed),
        trial("status::a_lane_that_the_server_cannot_reach_says_so", Needs::Server, unreachable),
        trial("status::an_app_that_is_not_registered_is_why_a_lane_is_not_listed", Needs::Server, unregistered),
    ]
}

/// Exit code and what was printed.
fn status(agent: &Agent) -> Result<(Option<i32>, String), std::io::Error> {
    let output = Command::new(&Parts::get().testrig).args(["status", "--admin", &agent.admin]).output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

async fn listed() -> TestResult {
    let app = App::new("status").await?;
    let agent = Agent::start("status", AgentOptions::new(&app.name)).await?;
    let (code, text) = status(&agent)?;
    let line = format!("lane main at {}: listed by the server", agent.address());
    // What holds host processes together depends on the host, but it is always told, with the reason.
    let value = agent.get("/api/status").await?;
    let (kind, why) = (&value["processes"]["boundary"], value["processes"]["why"].as_str().unwrap_or_default());
    check!(["systemd", "cgroup", "marker"].iter().any(|known| *known == kind) && !why.is_empty(), "{value}");
    check!(text.contains("host processes are held by ") && text.contains(why), "{text}");
    check!(code == Some(0) && text.contains(&line) && !text.contains("PROBLEM"), "{code:?}: {text}");
    Ok(())
}

async fn unreachable() -> TestResult {
    let app = App::new("status").await?;
    let closed = format!("127.0.0.1:{}", free_port());
    let mut options = AgentOptions::new(&app.name);
    options.env.push(("TESTRIG_LANE__0__ADVERTISE".into(), closed.clone()));
    let agent = Agent::start("status", options).await?;
    let (_, text) = status(&agent)?;
    check!(text.contains("PROBLEM") && text.contains(&format!("cannot connect to {closed}")), "{text}");
    Ok(())
}

async fn unregistered() -> TestResult {
    let mut agent = Agent::prepare("status", AgentOptions::new("nobody-registered-this"))?;
    agent.spawn()?;
    eventually("the agent says what is wrong", || async {
        let (code, text) = status(&agent).map_err(|e| e.to_string())?;
        let right = text.contains("NOT listed: app `nobody-registered-this` is not registered");
        if code == Some(1) && right { Ok(()) } else { Err(format!("{code:?}: {text}")) }
    })
    .await
}
