//! `testrig drain` and `testrig resume`.

use std::{process::ExitCode, time::Duration};

use serde_json::Value;

use super::{Target, ask, fetch_status};
use crate::cli::{AdminArgs, DrainArgs, ResumeArgs};

/// Has the agent take no new instances.
pub(crate) async fn drain(args: &DrainArgs) -> ExitCode {
    let (target, lanes) = match change("drain", &args.lanes, &args.admin).await {
        Ok(done) => done,
        Err(code) => return code,
    };
    if !args.wait {
        return told(&lanes);
    }
    match wait(&target, &lanes).await {
        Ok(()) => told(&lanes),
        Err(error) => crate::fail(&error),
    }
}

/// Has the agent take new instances again.
pub(crate) async fn resume(args: &ResumeArgs) -> ExitCode {
    match change("resume", &args.lanes, &args.admin).await {
        Ok((_, lanes)) => told(&lanes),
        Err(code) => code,
    }
}

/// The lanes of an answer of the agent.
fn lanes_of(answer: &Value) -> Vec<Value> {
    answer["lanes"].as_array().cloned().unwrap_or_default()
}

async fn change(what: &str, lanes: &[String], admin: &AdminArgs) -> Result<(Target, Vec<Value>), ExitCode> {
    let target = Target::find(admin).map_err(|e| crate::usage(&e))?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(lanes.iter().map(|lane| ("lane", lane)))
        .finish();
    let answer = ask(&target, reqwest::Method::POST, &format!("/api/{what}?{query}")).await;
    let lanes = lanes_of(&answer.map_err(|e| crate::fail(&e))?);
    for lane in &lanes {
        println!("{}", describe(lane));
    }
    Ok((target, lanes))
}

fn describe(lane: &Value) -> String {
    let state = if lane["draining"] == true { "draining, takes no new instances" } else { "takes new instances" };
    let told = if lane["told"] == true { "the server knows" } else { "no server was told yet" };
    let open = match lane["open"].as_u64() {
        Some(0) | None => "nothing is open".to_owned(),
        Some(1) => "1 instance is open".to_owned(),
        Some(n) => format!("{n} instances are open"),
    };
    format!("lane {}: {state}; {told}; {open}", lane["lane"].as_str().unwrap_or_default())
}

/// Success when every server knows.
fn told(lanes: &[Value]) -> ExitCode {
    if lanes.iter().all(|lane| lane["told"] == true) { ExitCode::SUCCESS } else { ExitCode::from(crate::FAILED) }
}

/// Waits until nothing is open in these lanes.
async fn wait(target: &Target, lanes: &[Value]) -> Result<(), String> {
    loop {
        let status = lanes_of(&fetch_status(target).await?);
        let of_ours = status.iter().filter(|lane| lanes.iter().any(|ours| ours["lane"] == lane["lane"]));
        let (mut open, mut running) = (0, 0);
        for lane in of_ours {
            if lane["draining"] != true {
                let name = lane["lane"].as_str().unwrap_or_default();
                return Err(format!("lane {name} was told to take new instances again meanwhile"));
            }
            open += lane["instances"].as_array().map_or(0, Vec::len);
            running += lane["running"].as_u64().unwrap_or_default();
            // Tasks that are done here for instances of other workers.
            running += lane["open_tasks"].as_u64().unwrap_or_default();
        }
        if open == 0 && running == 0 {
            println!("nothing is open any more");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lane_is_described_in_one_line() {
        let lane = json!({ "lane": "gpu", "draining": true, "told": true, "open": 2 });
        assert_eq!(
            describe(&lane),
            "lane gpu: draining, takes no new instances; the server knows; 2 instances are open"
        );
        let lane = json!({ "lane": "gpu", "draining": false, "told": false, "open": 0 });
        assert_eq!(describe(&lane), "lane gpu: takes new instances; no server was told yet; nothing is open");
    }
}
