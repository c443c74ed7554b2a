//! What is looked at after a kill: the log's lines, the leases, what was left behind.

use std::{path::Path, time::Duration};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    check,
    support::{
        Agent, Parts, TestResult, eventually_within,
        llm::{containers_of, processes_with},
        ws,
    },
};

/// The server has every line in order; each kill may have made one batch stand there twice. Its lines carry identical
/// times, so the server may show the second copy behind the first or line beside line.
pub(super) fn without_doubled_batches(server: &[String], journal: &[String], kills: usize) -> bool {
    const BATCH: usize = 1000;
    let mut wanted = journal.iter().peekable();
    let extra: Vec<&String> = server.iter().filter(|line| wanted.next_if_eq(line).is_none()).collect();
    let whole = wanted.peek().is_none();
    let (mut rest, mut batches) = (extra.as_slice(), 0);
    while !rest.is_empty() {
        let same = |from: usize| journal[from..].iter().zip(rest).take_while(|(a, b)| a == *b).count();
        let longest = (0..journal.len()).map(same).max().unwrap_or(0);
        if longest == 0 || longest > BATCH {
            return false;
        }
        rest = &rest[longest..];
        batches += 1;
    }
    whole && batches <= kills
}

/// The numbers in the service's own lines.
pub(super) fn ticks<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u64> {
    lines.filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect()
}

/// The service counted from 1, a line a number: each number must be there once, in order, in the journal as in its file.
pub(super) fn no_hole_and_no_double(journal: &[String], file: &Path, ran: bool) -> TestResult {
    let seen = ticks(journal.iter().map(String::as_str));
    let expected: Vec<u64> = (1..=seen.len() as u64).collect();
    check!(seen == expected, "the service's lines in the journal have holes or doubles: {seen:?}");
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let written = ticks(text.lines());
    check!(written == seen, "{} has other lines than the journal: {written:?}, {seen:?}", file.display());
    check!(!ran || !seen.is_empty(), "no line of the service in the journal");
    Ok(())
}

/// What `testrig accelerators` shows.
fn cards(agent: &Agent) -> Result<Vec<Value>, Failed> {
    let mut command = std::process::Command::new(&Parts::get().testrig);
    command.args(["accelerators", "--json", "--config"]).arg(agent.dir.join("config.toml"));
    let out = command.output()?;
    check!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let view: Value = serde_json::from_slice(&out.stdout)?;
    Ok(view["cards"].as_array().cloned().unwrap_or_default())
}

/// A run that got as far as its lease has it until its teardown.
pub(super) async fn lease_is_kept(agent: &Agent, instance: i64) -> TestResult {
    let instance_text = instance.to_string();
    let holds = |card: &Value| card["lease"]["words"].as_str().is_some_and(|words| words.contains(&instance_text));
    let shown = cards(agent)?;
    if shown.iter().any(holds) {
        return Ok(());
    }
    // Looked at after the cards: a lease that was given back between the two was given back in a teardown.
    let lines = ws::so_far(&agent.admin, instance).await?.lines;
    check!(
        lines.iter().any(|line| line == "stage teardown: begins"),
        "the run goes on and has no card: {shown:#?}\n{lines:#?}"
    );
    Ok(())
}

/// Nothing of the run is left: containers, processes, boundaries, control groups, leases.
pub(super) async fn nothing_left(agent: &Agent, instance: i64, container: bool) -> TestResult {
    eventually_within(Duration::from_secs(60), "nothing of the run is left", || async {
        if container {
            let left = containers_of(instance).map_err(|e| format!("{e:?}"))?;
            if !left.is_empty() {
                return Err(format!("{left:?}"));
            }
        }
        let dir = agent.dir.display().to_string();
        let mut left: Vec<String> =
            processes_with(&dir).into_iter().filter(|p| !p.contains(" agent --config ")).collect();
        left.extend(marked_with(&dir));
        left.extend(entries(&agent.dir.join("state/boundaries")));
        cgroups_of(Path::new("/sys/fs/cgroup"), &format!("testrig-{instance}-"), &mut left);
        for card in cards(agent).map_err(|e| format!("{e:?}"))? {
            if card["availability"]["state"] != "free" {
                left.push(card.to_string());
            }
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    })
    .await
}

/// Processes with the marker of one of the agent's boundaries in their environment.
fn marked_with(dir: &str) -> Vec<String> {
    let marker = format!("TESTRIG_BOUNDARY_DIR={dir}/");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|b| *b == 0).any(|variable| variable.starts_with(marker.as_bytes())) {
            found.push(format!("process {}", entry.file_name().display()));
        }
    }
    found
}

fn entries(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string()).collect()
}

fn cgroups_of(dir: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path().display().to_string());
        }
        cgroups_of(&entry.path(), prefix, found);
    }
}

/// How long after its restart the agent first told the server something that it took; `None` when there was nothing to tell
/// because everything had been told before the kill.
pub(super) async fn first_report(
    agent: &Agent,
    restarted: std::time::Instant,
    is_over: impl AsyncFn() -> bool,
) -> Result<Option<Duration>, Failed> {
    loop {
        if let Ok(status) = agent.get("/api/status").await
            && status["lanes"][0]["counters"]["reports_sent"].as_u64().is_some_and(|sent| sent > 0)
        {
            return Ok(Some(restarted.elapsed()));
        }
        if is_over().await {
            return Ok(None);
        }
        // The server gives up on an instance that it hears nothing of for 60 s.
        if restarted.elapsed() > Duration::from_secs(50) {
            return Err(format!("no report within 50 s of the restart\n{}", agent.tail()).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
