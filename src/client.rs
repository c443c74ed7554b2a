//! `testrig logs`, `status`, `drain` and `resume`: a running agent, asked over its admin port.

pub(crate) mod drain;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest, http::HeaderValue};

use crate::{
    cli::{AdminArgs, LogsArgs, StatusArgs},
    config::{Purpose, Sources, load},
};

/// Where the agent answers, and what it asks for.
struct Target {
    address: String,
    token: Option<String>,
}

impl Target {
    fn find(args: &AdminArgs) -> Result<Self, String> {
        let sources = Sources { file: args.config.clone(), ..Sources::default() };
        let config = load(&sources, std::env::vars(), Purpose::Local).map_err(|e| e.to_string())?;
        let file = args.token_file.clone().or(config.admin.token_file);
        let token = file.map(|f| read_token(&f)).transpose()?;
        // What listens everywhere is reached on loopback.
        let address = args.admin.clone().unwrap_or_else(|| config.admin.listen.replace("0.0.0.0:", "127.0.0.1:"));
        Ok(Self { address, token })
    }

    fn unreachable(&self, cause: &str) -> String {
        format!(
            "no agent answers at {}: {cause}. Is it running (`systemctl status testrig`)? Another address is given with --admin",
            self.address
        )
    }
}

/// The token in a file, without the line break that editors add.
pub(crate) fn read_token(file: &std::path::Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|e| format!("token file {} cannot be read: {e}", file.display()))?;
    let token = text.trim().to_owned();
    if token.is_empty() { Err(format!("token file {} is empty", file.display())) } else { Ok(token) }
}

/// Prints the lines of an instance.
pub(crate) async fn logs(args: &LogsArgs) -> ExitCode {
    match Target::find(&args.admin) {
        Ok(target) => match print_lines(args, &target).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => crate::fail(&e),
        },
        Err(e) => crate::usage(&e),
    }
}

async fn print_lines(args: &LogsArgs, target: &Target) -> Result<(), String> {
    let mut next = args.index;
    let mut tries = 0;
    loop {
        let end = follow(args, target, &mut next).await;
        match end {
            Ok(End::Finished(status)) => {
                if args.follow {
                    eprintln!("instance {} ended: {status}", args.instance);
                }
                return Ok(());
            }
            Ok(End::ReaderGone) => return Ok(()),
            // A restarted agent goes on where it was: so does this.
            Ok(End::Cut) | Err(Failure::Connect(_)) if args.follow && tries < 60 && next > args.index => {
                tries += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(End::Cut) => return Err(format!("the connection was cut after line {next}; go on with --index {next}")),
            Err(Failure::Connect(e)) => return Err(target.unreachable(&e)),
            Err(Failure::Refused(e)) => return Err(e),
        }
    }
}

enum End {
    Finished(String),
    Cut,
    ReaderGone,
}

enum Failure {
    Connect(String),
    Refused(String),
}

async fn follow(args: &LogsArgs, target: &Target, next: &mut u64) -> Result<End, Failure> {
    let format = if args.json { "json" } else { "text" };
    let url = format!(
        "ws://{}/ws/log?instanceId={}&index={next}&format={format}&follow={}",
        target.address, args.instance, args.follow
    );
    let mut request = url.into_client_request().map_err(|e| Failure::Connect(e.to_string()))?;
    if let Some(value) = target.token.as_ref().and_then(|t| HeaderValue::from_str(&format!("Bearer {t}")).ok()) {
        request.headers_mut().insert("Authorization", value);
    }
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.map_err(|e| match e {
        tungstenite::Error::Http(response) => {
            let body = response.into_body().unwrap_or_default();
            let text = serde_json::from_slice::<Value>(&body).ok().and_then(|v| v["error"].as_str().map(str::to_owned));
            Failure::Refused(text.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned()))
        }
        other => Failure::Connect(other.to_string()),
    })?;
    let mut out = std::io::stdout().lock();
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Text(text)) => {
                if writeln!(out, "{text}").is_err() {
                    return Ok(End::ReaderGone);
                }
                *next += 1;
            }
            Ok(Message::Close(Some(frame))) => {
                return match u16::from(frame.code) {
                    1000 => Ok(End::Finished(frame.reason.to_string())),
                    1001 => Ok(End::Cut),
                    _ => Err(Failure::Refused(frame.reason.to_string())),
                };
            }
            Ok(_) => {}
            Err(_) => return Ok(End::Cut),
        }
    }
    Ok(End::Cut)
}

/// Prints what the agent is doing.
pub(crate) async fn status(args: &StatusArgs) -> ExitCode {
    let target = match Target::find(&args.admin) {
        Ok(target) => target,
        Err(e) => return crate::usage(&e),
    };
    match fetch_status(&target).await {
        Ok(value) => {
            if args.json {
                println!("{value:#}");
            } else {
                print_status(&value);
            }
            let listed = value["lanes"].as_array().is_some_and(|lanes| lanes.iter().all(is_listed));
            if listed { ExitCode::SUCCESS } else { ExitCode::from(crate::FAILED) }
        }
        Err(e) => crate::fail(&e),
    }
}

async fn fetch_status(target: &Target) -> Result<Value, String> {
    ask(target, reqwest::Method::GET, "/api/status?ask=server").await
}

/// Asks the agent for something; an error is a text for people.
async fn ask(target: &Target, method: reqwest::Method, path: &str) -> Result<Value, String> {
    let client =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build().map_err(|e| e.to_string())?;
    let mut request = client.request(method, format!("http://{}{path}", target.address));
    if let Some(token) = &target.token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(|e| target.unreachable(&cause(&e)))?;
    let code = answer.status();
    let value: Value =
        answer.json().await.map_err(|_| format!("{} does not answer like a testrig agent", target.address))?;
    if code.is_success() { Ok(value) } else { Err(value["error"].as_str().unwrap_or("refused").to_owned()) }
}

fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

fn print_status(value: &Value) {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    println!("testrig {} (pid {}), up {} s", text(&value["version"]), value["pid"], value["uptimeSeconds"]);
    if let Some(words) = value["processes"]["words"].as_str() {
        println!("host processes are held by {words} ({})", text(&value["processes"]["why"]));
    }
    let bold = std::io::stdout().is_terminal();
    for lane in value["lanes"].as_array().into_iter().flatten() {
        let listed = if is_listed(lane) {
            "listed by the server".to_owned()
        } else {
            format!("NOT listed: {}", why_not_listed(lane))
        };
        let name = text(&lane["lane"]);
        let name = if bold { format!("\x1b[1m{name}\x1b[0m") } else { name };
        println!("lane {name} at {}: {listed}", text(&lane["address"]));
        if let Some(owner) = lane["owner"].as_object() {
            println!(
                "  server {} (transport {}), app {} (id {})",
                text(&owner["web"]),
                text(&owner["transport"]),
                text(&lane["app"]),
                owner["app_id"]
            );
        }
        for problem in lane["listing"]["problems"].as_array().into_iter().flatten() {
            println!("  PROBLEM: {}", text(problem));
        }
        if let Some(note) = clock_note(lane) {
            println!("  clock: {note}");
        }
        println!(
            "  slots {} of {} in use{}",
            lane["running"],
            lane["slots"],
            if lane["overload"] == true { ", overload told to the server" } else { "" }
        );
        if lane["draining"] == true {
            println!("  draining: takes no new instances until `testrig resume`");
        }
        if let Some(error) = lane["store_error"].as_str() {
            println!("  the state store cannot be written: {error}");
        }
        let instances = lane["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
        if instances.is_empty() {
            println!("  no open instance");
        }
        for i in instances {
            println!(
                "  {}  {}  {}  attempt {}",
                text(&i["instance_id"]),
                text(&i["processor"]),
                text(&i["stage"]),
                i["attempt"]
            );
        }
    }
}

/// Whether the server lists a lane: what it said itself, else what the lane concludes from its heartbeats.
fn is_listed(lane: &Value) -> bool {
    lane["listing"]["listed"].as_bool().or(lane["listed"].as_bool()).unwrap_or(false)
}

/// What keeps a lane, as `/api/status` shows it, from the server's list.
pub(crate) fn why_not_listed(lane: &Value) -> String {
    if let Some(why) = lane["listing"]["why_not"].as_str().or(lane["discovery_error"].as_str()) {
        return why.to_owned();
    }
    match lane["last_heartbeat_ago_ms"].as_u64() {
        None => "the server has not taken a heartbeat yet".to_owned(),
        Some(ago) => format!("the server took the last heartbeat {} s ago", ago / 1000),
    }
}

/// What a person should know of the clocks.
fn clock_note(lane: &Value) -> Option<String> {
    const WORTH_A_LINE_MS: i64 = 10_000;
    let skew = lane["clock_skew_ms"].as_i64().filter(|skew| skew.abs() >= WORTH_A_LINE_MS)?;
    let side = if skew < 0 { "behind" } else { "ahead of" };
    Some(format!(
        "this host's clock is {} s {side} the server's; heartbeats and reports are corrected, times in logs are not: set both by \
         NTP (chrony, ntpd)",
        skew.abs() / 1000
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_says_of_a_lane_counts_more_than_what_the_lane_believes() {
        let lane = json!({"listed": true, "listing": {"listed": false, "why_not": "the server does not know it"}});
        assert!(!is_listed(&lane));
        assert_eq!(why_not_listed(&lane), "the server does not know it");
        assert!(is_listed(&json!({"listed": true})));
        assert!(!is_listed(&json!({"listed": false, "listing": null})));
        assert!(why_not_listed(&json!({"discovery_error": "app `x` is not registered"})).contains("not registered"));
        assert!(why_not_listed(&json!({})).contains("not taken a heartbeat yet"));
        assert!(why_not_listed(&json!({"last_heartbeat_ago_ms": 61_500})).contains("61 s ago"));
    }

    #[test]
    fn a_clock_that_is_off_is_named_with_its_side() {
        assert_eq!(clock_note(&json!({"clock_skew_ms": 900})), None);
        let note = clock_note(&json!({"clock_skew_ms": -90_000})).expect("a note");
        assert!(note.contains("90 s behind") && note.contains("NTP"), "{note}");
        assert!(clock_note(&json!({"clock_skew_ms": 90_000})).expect("a note").contains("ahead of"));
    }
}
