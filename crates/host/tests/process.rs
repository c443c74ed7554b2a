//! Real processes under the real shim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testrig_host::process::{
    ProcessError, ProcessHandle, ProcessRunner, ProcessSpec, ScriptSpec, ShimCommand,
};
use testrig_host::{BoundaryId, Signal};

const LONG: Duration = Duration::from_secs(30);
const SHIM: &str = env!("CARGO_BIN_EXE_testrig-shim-test");

struct Rig {
    dir: TempDir,
    runner: ProcessRunner,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let runner = ProcessRunner::new(dir.path().join("state"), ShimCommand::of(SHIM))
            .expect("state directory");
        Self { dir, runner }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self, boundary: &BoundaryId) -> PathBuf {
        self.path("state").join(boundary.as_str())
    }

    fn shell(&self, boundary: &BoundaryId, script: &str) -> ProcessSpec {
        let mut spec = ProcessSpec::new(boundary.clone(), "/bin/sh", self.path("out.log"));
        spec.args = vec!["-c".into(), script.into()];
        spec
    }

    async fn run(&self, boundary: &BoundaryId, script: &str) -> ProcessHandle {
        self.runner
            .spawn(self.shell(boundary, script))
            .await
            .expect("started")
    }

    fn output(&self) -> String {
        fs::read_to_string(self.path("out.log")).unwrap_or_default()
    }
}

fn boundary() -> BoundaryId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    BoundaryId::new(
        i64::from(std::process::id()),
        NEXT.fetch_add(1, Ordering::Relaxed),
    )
}

/// A number of seconds that no other process of the machine sleeps: finds ours by their command line alone.
fn unique_sleep() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}{:03}",
        100_000 + std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

fn with_argument(argument: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<i32>().ok())
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line
            .split(|b| *b == 0)
            .any(|arg| arg == argument.as_bytes())
            && is_alive(pid)
        {
            found.push(pid);
        }
    }
    found
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kill_9(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("there and ours");
}

fn shim_pid(rig: &Rig, boundary: &BoundaryId) -> i32 {
    let text = fs::read(rig.state(boundary).join("start.json")).expect("started");
    let start: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    i32::try_from(start["shim"]["pid"].as_i64().expect("pid")).expect("pid")
}

/// As on a host where no cgroup can be made: the handle that is adopted next knows of none.
async fn without_cgroups(rig: &Rig, boundary: &BoundaryId) -> ProcessHandle {
    let path = rig.state(boundary).join("start.json");
    let mut start: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("started")).expect("JSON");
    start["cgroups"] = serde_json::json!({});
    fs::write(&path, start.to_string()).expect("writable");
    rig.runner
        .adopt(boundary)
        .await
        .expect("readable")
        .expect("started")
}

#[tokio::test]
async fn a_program_gets_its_arguments_environment_and_directory_and_its_end_is_told() {
    let (rig, id) = (Rig::new(), boundary());
    let mut spec = rig.shell(
        &id,
        "echo \"$0 $1 $A $TESTRIG_BOUNDARY\"; pwd; echo oops >&2; exit 7",
    );
    spec.args.extend(["zero".into(), "one".into()]);
    spec.env = vec![
        ("A".into(), "b c".into()),
        ("TESTRIG_BOUNDARY".into(), "forged".into()),
    ];
    spec.work_dir = Some("/usr".into());
    spec.stderr = Some(rig.path("err.log"));
    fs::write(rig.path("out.log"), "before\n").expect("writable");
    let handle = rig.runner.spawn(spec).await.expect("started");
    let exit = handle.wait().await.expect("readable");
    assert_eq!(
        (exit.code, exit.signal, exit.oom_killed),
        (Some(7), None, false),
        "{exit}"
    );
    assert!(exit.ended_at_ms.expect("known") >= handle.started_at_ms());
    assert_eq!(rig.output(), format!("before\nzero one b c {id}\n/usr\n"));
    assert_eq!(
        fs::read_to_string(rig.path("err.log")).expect("there"),
        "oops\n"
    );
    handle.forget().await.expect("empty");
    assert!(rig.runner.list().expect("readable").is_empty());
}

#[tokio::test]
async fn a_death_by_signal_is_told_as_one_even_by_a_real_time_signal() {
    for signal in [11, 40] {
        let (rig, id) = (Rig::new(), boundary());
        let handle = rig.run(&id, &format!("kill -{signal} $$")).await;
        let exit = handle.wait().await.expect("readable");
        assert_eq!((exit.code, exit.signal), (None, Some(signal)), "{exit}");
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_an_error_that_names_it_and_leaves_the_name_free() {
    let (rig, id) = (Rig::new(), boundary());
    let missing = ProcessSpec::new(id.clone(), "/no/such/program", rig.path("out.log"));
    let mut no_dir = rig.shell(&id, "true");
    no_dir.work_dir = Some("/no/such/dir".into());
    let no_log = ProcessSpec::new(id.clone(), "/bin/true", rig.path("no/such/out.log"));
    let no_right = ProcessSpec::new(id.clone(), "/etc/passwd", rig.path("out.log"));
    for (spec, word) in [
        (missing, "/no/such/program"),
        (no_dir, "`/no/such/dir` is no directory"),
        (no_log, "no/such/out.log"),
        (no_right, "ermission denied"),
    ] {
        let error = rig.runner.spawn(spec).await.expect_err(word);
        assert!(matches!(error, ProcessError::NotStarted { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(rig.runner.adopt(&id).await.expect("readable").is_none());
    let exit = rig.run(&id, "exit 0").await.wait().await.expect("readable");
    assert!(exit.success(), "{exit}");
}

#[tokio::test]
async fn a_name_that_is_in_use_is_refused() {
    let (rig, id) = (Rig::new(), boundary());
    let handle = rig.run(&id, "sleep 60").await;
    let error = rig
        .runner
        .spawn(rig.shell(&id, "echo second"))
        .await
        .expect_err("in use");
    assert!(matches!(error, ProcessError::Exists(_)), "{error}");
    handle.stop(Signal::TERM, LONG).await.expect("emptied");
    assert_eq!(rig.output(), "");
}

#[tokio::test]
async fn a_shim_that_is_not_there_is_an_error_of_its_own() {
    let (rig, id) = (Rig::new(), boundary());
    let runner = ProcessRunner::new(rig.path("other"), ShimCommand::of("/no/such/shim"))
        .expect("state directory");
    let error = runner
        .spawn(rig.shell(&id, "true"))
        .await
        .expect_err("no shim");
    assert!(matches!(error, ProcessError::Shim { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/shim"), "{error}");
}

fn agent(rig: &Rig, id: &BoundaryId, script: &str) -> std::process::Child {
    Command::new(SHIM)
        .arg("agent")
        .args([
            rig.path("state"),
            PathBuf::from(id.as_str()),
            rig.path("out.log"),
        ])
        .args(["/bin/sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("agent")
}

#[tokio::test]
async fn a_program_outlives_its_killed_agent_and_is_adopted_with_all_of_its_output_and_its_exit_code()
 {
    let (rig, id) = (Rig::new(), boundary());
    let go = rig.path("go");
    let script = format!(
        "echo one; until [ -e {} ]; do sleep 0.05; done; echo two; exit 9",
        go.display()
    );
    let mut agent = agent(&rig, &id, &script);
    until("first line", || rig.output() == "one\n").await;
    agent.kill().expect("ours");
    agent.wait().expect("ours");

    let handle = rig
        .runner
        .adopt(&id)
        .await
        .expect("readable")
        .expect("it was started");
    assert!(is_alive(handle.pid().expect("known")));
    assert!(handle.exit().expect("readable").is_none());
    fs::write(&go, "").expect("writable");
    assert_eq!(handle.wait().await.expect("readable").code, Some(9));
    assert_eq!(rig.output(), "one\ntwo\n");
}

#[tokio::test]
async fn an_end_that_nobody_was_there_to_see_is_known_all_the_same() {
    let (rig, id) = (Rig::new(), boundary());
    let mut agent = agent(&rig, &id, "echo one; sleep 0.3; echo two; exit 9");
    until("first line", || rig.output().starts_with("one")).await;
    let shim = shim_pid(&rig, &id);
    agent.kill().expect("ours");
    agent.wait().expect("ours");
    until("the shim is gone", || !is_alive(shim)).await;

    let handle = rig
        .runner
        .adopt(&id)
        .await
        .expect("readable")
        .expect("it was started");
    assert_eq!(
        handle.exit().expect("readable").expect("ended").code,
        Some(9)
    );
    assert_eq!(rig.output(), "one\ntwo\n");
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_of_the_start_leaves_one_running_program_or_none() {
    let rig = Rig::new();
    let mut outcomes = [0, 0];
    for round in 0..24 {
        let id = boundary();
        let mark = rig.path(&format!("ran-{round}"));
        let mut agent = agent(
            &rig,
            &id,
            &format!("echo x >> {}; exec sleep 60", mark.display()),
        );
        // The start lasts a few milliseconds: spread the kills over it.
        std::thread::sleep(Duration::from_micros(round * 400));
        agent.kill().expect("ours");
        agent.wait().expect("ours");
        let adopted = rig.runner.adopt(&id).await.expect("readable");
        outcomes[usize::from(adopted.is_some())] += 1;
        match adopted {
            Some(handle) => {
                until("it ran", || mark.exists()).await;
                handle
                    .stop(Signal::KILL, Duration::ZERO)
                    .await
                    .expect("emptied");
                handle.forget().await.expect("empty");
                assert_eq!(fs::read_to_string(&mark).expect("there"), "x\n");
            }
            None => {
                // A shim that came too late must find its permission withdrawn.
                tokio::time::sleep(Duration::from_millis(30)).await;
                assert!(
                    !mark.exists(),
                    "round {round}: started after it was said that nothing was"
                );
                assert!(!rig.state(&id).exists());
            }
        }
    }
    println!("nothing started: {}, adopted: {}", outcomes[0], outcomes[1]);
}

#[tokio::test]
async fn a_shim_that_comes_after_the_verdict_starts_nothing() {
    let (rig, id) = (Rig::new(), boundary());
    let spec = rig.shell(&id, "echo started");
    fs::create_dir(rig.state(&id)).expect("directory");
    fs::write(
        rig.state(&id).join("spec.json"),
        serde_json::to_vec(&spec).expect("JSON"),
    )
    .expect("writable");
    assert!(rig.runner.adopt(&id).await.expect("readable").is_none());
    let status = Command::new(SHIM)
        .arg("__shim")
        .arg(rig.state(&id).join("spec.json"))
        .status()
        .expect("shim");
    assert!(status.success());
    assert_eq!(rig.output(), "");
    assert!(rig.runner.adopt(&id).await.expect("readable").is_none());
}

#[tokio::test]
async fn a_second_shim_for_the_same_spec_starts_nothing() {
    let (rig, id) = (Rig::new(), boundary());
    let handle = rig.run(&id, "echo started; exit 4").await;
    handle.wait().await.expect("readable");
    until("the shim is gone", || !is_alive(shim_pid(&rig, &id))).await;
    let status = Command::new(SHIM)
        .arg("__shim")
        .arg(rig.state(&id).join("spec.json"))
        .status()
        .expect("shim");
    assert!(status.success());
    assert_eq!(handle.wait().await.expect("readable").code, Some(4));
    assert_eq!(rig.output(), "started\n");
}

#[tokio::test]
async fn a_graceful_stop_gives_the_program_its_time_and_its_own_exit_code() {
    let (rig, id) = (Rig::new(), boundary());
    let mut spec = rig.shell(
        &id,
        "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done",
    );
    // The group gets the signal, too, and the shell says there what it thinks of the end of its `sleep`.
    spec.stderr = Some(rig.path("err.log"));
    let handle = rig.runner.spawn(spec).await.expect("started");
    until("it is up", || rig.output() == "up\n").await;
    let report = handle.stop(Signal::TERM, LONG).await.expect("emptied");
    assert!(report.graceful);
    assert_eq!(report.exit.code, Some(3));
    assert_eq!(rig.output(), "up\nbye\n");
}

#[tokio::test]
async fn a_program_that_ignores_the_signal_is_killed_after_the_grace_time() {
    let (rig, id) = (Rig::new(), boundary());
    let handle = rig
        .run(&id, "trap '' TERM; echo up; while :; do sleep 0.05; done")
        .await;
    until("it is up", || rig.output() == "up\n").await;
    let report = handle
        .stop(Signal::TERM, Duration::from_millis(200))
        .await
        .expect("emptied");
    assert!(!report.graceful && report.killed >= 1, "{report:?}");
    assert_eq!(report.exit.signal, Some(9));
}

/// Children that do everything to survive: they leave session and group, are nobody's children, ignore signals, come back,
/// forget their environment.
fn nasty(sleep: &str) -> String {
    format!(
        "trap '' TERM HUP INT
         (setsid sh -c \"trap '' TERM; setsid sleep {sleep} & setsid sleep {sleep} &\" &)
         env -i setsid sh -c \"trap '' TERM; sleep {sleep} & wait\" &
         (setsid sh -c \"trap '' TERM; while :; do sleep {sleep}; done\" &) 
         setsid nohup sh -c \"while :; do (sleep {sleep} & wait); done\" &
         echo up; while :; do sleep {sleep}; done"
    )
}

#[tokio::test]
async fn fifty_stops_over_children_that_do_everything_to_survive_leave_none_and_touch_nobody_else()
{
    let rig = Rig::new();
    let foreign_sleep = unique_sleep();
    let mut foreign = Command::new("sleep")
        .arg(&foreign_sleep)
        // Of another agent's boundary with the same name.
        .env("TESTRIG_BOUNDARY", "testrig-1-0")
        .env("TESTRIG_BOUNDARY_DIR", "/elsewhere/testrig-1-0")
        .spawn()
        .expect("sleep");
    let mut slowest = Duration::ZERO;
    for round in 0..50 {
        let (id, sleep) = (boundary(), unique_sleep());
        let _ = fs::remove_file(rig.path("out.log"));
        let handle = rig.run(&id, &nasty(&sleep)).await;
        // The first rounds wait until all of them are there; the others stop it in the midst of its forking.
        if round < 10 {
            until("all are there", || with_argument(&sleep).len() >= 6).await;
        }
        let handle = match round % 3 {
            0 => handle,
            _ => without_cgroups(&rig, &id).await,
        };
        let begin = Instant::now();
        let report = handle
            .stop(Signal::TERM, Duration::from_millis(1))
            .await
            .expect("emptied");
        slowest = slowest.max(begin.elapsed());
        assert_eq!(with_argument(&sleep), [0; 0], "round {round}: {report:?}");
        handle.forget().await.expect("empty");
    }
    println!("50 stops, slowest {slowest:?}");
    assert!(
        foreign.try_wait().expect("ours").is_none(),
        "a foreign process was ended"
    );
    foreign.kill().expect("ours");
    foreign.wait().expect("ours");
}

#[tokio::test]
async fn each_of_the_three_ways_to_find_a_process_is_enough_by_itself() {
    // Only the subreaper: no cgroup, no marker.
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    let script =
        format!("env -i setsid sh -c '(env -i setsid sleep {sleep} &)'; exec env -i sleep 60");
    rig.run(&id, &script).await;
    until("the orphan is there", || with_argument(&sleep).len() == 1).await;
    let handle = without_cgroups(&rig, &id).await;
    handle
        .stop(Signal::KILL, Duration::ZERO)
        .await
        .expect("emptied");
    assert_eq!(with_argument(&sleep), [0; 0], "subreaper");

    // Only the marker: no cgroup, the shim is killed.
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    rig.run(
        &id,
        &format!("(setsid sleep {sleep} &); exec sleep {sleep}"),
    )
    .await;
    until("both are there", || with_argument(&sleep).len() == 2).await;
    kill_9(shim_pid(&rig, &id));
    let handle = without_cgroups(&rig, &id).await;
    assert!(
        handle.exit().expect("readable").is_none(),
        "the program runs although its shim is dead"
    );
    let report = handle
        .stop(Signal::KILL, Duration::ZERO)
        .await
        .expect("emptied");
    assert_eq!(with_argument(&sleep), [0; 0], "marker");
    assert!(
        report.exit.code.is_none() && report.exit.error.expect("told").contains("shim was killed")
    );
    handle.forget().await.expect("empty");

    // Only the cgroup: no marker, the shim is killed.
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    let handle = rig
        .run(
            &id,
            &format!("(env -i setsid sleep {sleep} &); exec env -i sleep {sleep}"),
        )
        .await;
    until("both are there", || with_argument(&sleep).len() == 2).await;
    if handle.boundary_kind().starts_with("no cgroup") {
        skipped(
            "each_of_the_three_ways_to_find_a_process_is_enough_by_itself",
            "no cgroup can be made here",
        );
        handle
            .stop(Signal::KILL, Duration::ZERO)
            .await
            .expect("emptied");
        return;
    }
    kill_9(shim_pid(&rig, &id));
    handle
        .stop(Signal::KILL, Duration::ZERO)
        .await
        .expect("emptied");
    assert_eq!(with_argument(&sleep), [0; 0], "cgroup");
    handle.forget().await.expect("empty");
}

#[tokio::test]
async fn children_that_the_program_leaves_behind_live_until_the_boundary_is_emptied() {
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    let handle = rig
        .run(&id, &format!("setsid sleep {sleep} & exit 0"))
        .await;
    assert!(handle.wait().await.expect("readable").success());
    until("it is there", || with_argument(&sleep).len() == 1).await;
    assert_eq!(
        handle.members().await.expect("readable"),
        with_argument(&sleep)
    );
    let error = handle.forget().await.expect_err("not empty");
    assert!(error.to_string().contains("sleep"), "{error}");
    // The end is known by then, and stays what it was.
    let report = handle.stop(Signal::TERM, LONG).await.expect("emptied");
    assert!(report.exit.success() && report.killed == 1, "{report:?}");
    handle.forget().await.expect("empty");
}

#[tokio::test]
async fn the_use_of_cpu_and_memory_is_that_of_the_whole_boundary() {
    let (rig, id) = (Rig::new(), boundary());
    let handle = rig.run(&id, "sh -c 'while :; do :; done' & wait").await;
    handle.stats().await.expect("readable");
    let deadline = Instant::now() + LONG;
    let stats = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stats = handle.stats().await.expect("readable").expect("runs");
        if stats.cpu_percent.is_some_and(|percent| percent > 1.0) {
            break stats;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
    };
    assert!(
        stats.processes == 2 && stats.memory_bytes > 0 && stats.cpu_total_ns > 0,
        "{stats:?}"
    );
    handle
        .stop(Signal::KILL, Duration::ZERO)
        .await
        .expect("emptied");
    assert!(handle.stats().await.expect("readable").is_none());
}

#[tokio::test]
async fn a_program_that_outgrows_its_memory_limit_is_killed_and_that_is_told() {
    let (rig, id) = (Rig::new(), boundary());
    let mut spec = ProcessSpec::new(id, "tail", rig.path("out.log"));
    spec.args = vec!["/dev/zero".into()];
    spec.memory = Some(32 << 20);
    let handle = match rig.runner.spawn(spec).await {
        Err(ProcessError::NotStarted { detail, .. }) if detail.contains("no memory cgroup") => {
            skipped(
                "a_program_that_outgrows_its_memory_limit_is_killed_and_that_is_told",
                &detail,
            );
            return;
        }
        started => started.expect("started"),
    };
    let exit = tokio::time::timeout(LONG, handle.wait())
        .await
        .expect("killed")
        .expect("readable");
    assert!(exit.oom_killed && exit.signal == Some(9), "{exit}");
}

fn script(process: ProcessSpec) -> ScriptSpec {
    ScriptSpec {
        process,
        limit: LONG,
        grace: LONG,
        keep: 20,
    }
}

#[tokio::test]
async fn a_script_ends_with_its_code_the_end_of_its_output_and_an_empty_boundary() {
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    fs::write(rig.path("out.log"), "of an earlier script\n").expect("writable");
    let process = rig.shell(
        &id,
        &format!("setsid sleep {sleep} & echo 1; echo 2; exit 5"),
    );
    let outcome = rig
        .runner
        .run_script(script(process), std::future::pending())
        .await
        .expect("ran");
    assert_eq!(outcome.exit.code, Some(5));
    assert_eq!(outcome.output_tail, "1\n2\n");
    assert!(!outcome.timed_out && !outcome.cancelled);
    assert_eq!(with_argument(&sleep), [0; 0]);
    assert!(rig.runner.list().expect("readable").is_empty());
}

#[tokio::test]
async fn a_script_that_takes_too_long_or_is_cancelled_is_stopped() {
    let (rig, id) = (Rig::new(), boundary());
    let mut spec = script(rig.shell(&id, "echo begun; sleep 60"));
    spec.limit = Duration::from_millis(300);
    let outcome = rig
        .runner
        .run_script(spec, std::future::pending())
        .await
        .expect("ran");
    assert!(outcome.timed_out && !outcome.exit.success(), "{outcome:?}");

    let spec = script(rig.shell(&id, "sleep 60"));
    let outcome = rig
        .runner
        .run_script(spec, std::future::ready(()))
        .await
        .expect("ran");
    assert!(outcome.cancelled && !outcome.timed_out, "{outcome:?}");
}

#[tokio::test]
async fn what_a_killed_agents_script_left_is_emptied_before_it_runs_again() {
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    let mut agent = agent(&rig, &id, &format!("trap '' TERM; sleep {sleep}"));
    until("it is there", || with_argument(&sleep).len() == 1).await;
    agent.kill().expect("ours");
    agent.wait().expect("ours");
    let process = rig.shell(&id, "echo again");
    let outcome = rig
        .runner
        .run_script(script(process), std::future::pending())
        .await
        .expect("ran");
    assert_eq!(outcome.output_tail, "again\n");
    assert_eq!(with_argument(&sleep), [0; 0]);
}

#[tokio::test]
async fn a_host_command_is_healthy_by_its_exit_code_and_shows_its_output_otherwise() {
    let (rig, id) = (Rig::new(), boundary());
    let probe = |words: &str| {
        testrig_host::health::host_command(&rig.runner, script(rig.shell(&id, words)))
    };
    assert!(probe("exit 0").await.expect("ran").healthy);
    let ill = probe("echo not yet; exit 3").await.expect("ran");
    assert!(
        !ill.healthy && ill.detail.ends_with("exit code 3: not yet"),
        "{ill:?}"
    );
}

#[tokio::test]
async fn a_shim_is_small_and_holds_nothing_of_the_agents() {
    let (rig, id) = (Rig::new(), boundary());
    // Descriptor 5 is the agent's by inheritance and stays open over exec: a pipe that never ends if somebody keeps it.
    let mut agent = Command::new("/bin/sh")
        .args(["-c", "exec 5>&1; exec \"$0\" \"$@\"", SHIM, "agent"])
        .args([
            rig.path("state"),
            PathBuf::from(id.as_str()),
            rig.path("out.log"),
        ])
        .args(["/bin/sh", "-c", "ls /proc/self/fd; exec sleep 60"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("agent");
    let mut pipe = agent.stdout.take().expect("piped");
    until("the program wrote", || rig.output().lines().count() >= 4).await;
    agent.kill().expect("ours");
    agent.wait().expect("ours");
    let ended =
        tokio::task::spawn_blocking(move || std::io::Read::read_to_end(&mut pipe, &mut Vec::new()));
    tokio::time::timeout(LONG, ended)
        .await
        .expect("nobody holds the pipe")
        .expect("no panic")
        .expect("readable");
    // 3 is the directory that `ls` reads.
    assert_eq!(rig.output(), "0\n1\n2\n3\n");

    let shim = shim_pid(&rig, &id);
    let status = fs::read_to_string(format!("/proc/{shim}/status")).expect("it lives");
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .and_then(|n| n.parse::<u64>().ok())
    };
    println!(
        "shim: {:?} kB resident, {:?} kB anonymous",
        field("VmRSS:"),
        field("RssAnon:")
    );
    assert!(
        field("RssAnon:").expect("listed") < 2048 && field("Threads:") == Some(1),
        "{status}"
    );
    let handle = rig
        .runner
        .adopt(&id)
        .await
        .expect("readable")
        .expect("started");
    handle
        .stop(Signal::KILL, Duration::ZERO)
        .await
        .expect("emptied");
}

#[tokio::test]
async fn an_end_on_a_full_disk_is_written_down_as_soon_as_there_is_room() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let Some(_mount) = Mount::small(dir.path()) else {
        skipped(
            "an_end_on_a_full_disk_is_written_down_as_soon_as_there_is_room",
            "a tmpfs cannot be mounted here",
        );
        return;
    };
    let runner = ProcessRunner::new(dir.path().join("state"), ShimCommand::of(SHIM))
        .expect("state directory");
    let (rig, id) = (Rig::new(), boundary());
    let go = rig.path("go");
    let handle = runner
        .spawn(rig.shell(
            &id,
            &format!("until [ -e {} ]; do sleep 0.02; done; exit 8", go.display()),
        ))
        .await
        .expect("started");
    let mut file = fs::File::create(dir.path().join("filler")).expect("writable");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    fs::write(&go, "").expect("writable");
    let main = handle.pid().expect("known");
    until("the program has ended", || !is_alive(main)).await;
    assert!(
        handle.exit().expect("readable").is_none(),
        "unknown is not an exit code"
    );
    file.set_len(0).expect("there is room again");
    let exit = tokio::time::timeout(LONG, handle.wait())
        .await
        .expect("written");
    assert_eq!(exit.expect("readable").code, Some(8));
    handle.forget().await.expect("empty");
}

/// A file system of 64 KiB, unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    fn small(at: &Path) -> Option<Self> {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("size=64k")).ok()?;
        Some(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// One line for a person, one for the summary of `scripts/test.sh`.
fn skipped(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
    if let Some(file) = std::env::var_os("TESTRIG_SKIPS_FILE") {
        use std::io::Write;
        let line = serde_json::json!({"name": name, "reason": reason});
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(Path::new(&file));
        writeln!(file.expect("writable"), "{line}").expect("writable");
    }
}
