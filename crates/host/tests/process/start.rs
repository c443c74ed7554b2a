//! Starting: what a program gets, what its end is, what it uses.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testrig_host::Signal;
use testrig_host::process::{ProcessError, ProcessRunner, ProcessSpec, ShimCommand};

use crate::rig::{LONG, Rig, SHIM, boundary, shim_pid, skipped, until};

#[tokio::test]
async fn a_program_gets_its_arguments_environment_and_directory_and_its_end_is_told() {
    let (rig, id) = (Rig::new(), boundary());
    let mut spec = rig.shell(&id, "echo \"$0 $1 $A $TESTRIG_BOUNDARY\"; pwd; echo oops >&2; exit 7");
    spec.args.extend(["zero".into(), "one".into()]);
    spec.env = vec![("A".into(), "b c".into()), ("TESTRIG_BOUNDARY".into(), "forged".into())];
    spec.work_dir = Some("/usr".into());
    spec.stderr = Some(rig.path("err.log"));
    fs::write(rig.path("out.log"), "before\n").expect("writable");
    let handle = rig.runner.spawn(spec).await.expect("started");
    let exit = handle.wait().await.expect("readable");
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(7), None, false), "{exit}");
    assert!(exit.ended_at_ms.expect("known") >= handle.started_at_ms());
    assert_eq!(rig.output(), format!("before\nzero one b c {id}\n/usr\n"));
    assert_eq!(fs::read_to_string(rig.path("err.log")).expect("there"), "oops\n");
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
    let error = rig.runner.spawn(rig.shell(&id, "echo second")).await.expect_err("in use");
    assert!(matches!(error, ProcessError::Exists(_)), "{error}");
    handle.stop(Signal::TERM, LONG).await.expect("emptied");
    assert_eq!(rig.output(), "");
}

#[tokio::test]
async fn a_shim_that_is_not_there_is_an_error_of_its_own() {
    let (rig, id) = (Rig::new(), boundary());
    let runner = ProcessRunner::new(rig.path("other"), ShimCommand::of("/no/such/shim")).expect("state directory");
    let error = runner.spawn(rig.shell(&id, "true")).await.expect_err("no shim");
    assert!(matches!(error, ProcessError::Shim { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/shim"), "{error}");
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
    assert!(stats.processes == 2 && stats.memory_bytes > 0 && stats.cpu_total_ns > 0, "{stats:?}");
    handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
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
            skipped("a_program_that_outgrows_its_memory_limit_is_killed_and_that_is_told", &detail);
            return;
        }
        started => started.expect("started"),
    };
    let exit = tokio::time::timeout(LONG, handle.wait()).await.expect("killed").expect("readable");
    assert!(exit.oom_killed && exit.signal == Some(9), "{exit}");
}

#[tokio::test]
async fn a_boundary_uses_no_more_cpu_time_than_its_limit() {
    let (rig, id) = (Rig::new(), boundary());
    let mut spec = rig.shell(&id, "while :; do :; done & while :; do :; done");
    spec.cpus = Some(0.2);
    let begin = Instant::now();
    let handle = match rig.runner.spawn(spec).await {
        Err(ProcessError::NotStarted { detail, .. }) if detail.contains("no CPU cgroup") => {
            skipped("a_boundary_uses_no_more_cpu_time_than_its_limit", &detail);
            return;
        }
        started => started.expect("started"),
    };
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let stats = handle.stats().await.expect("readable").expect("it runs");
    let most = begin.elapsed().mul_f64(0.3) + Duration::from_millis(100);
    handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
    // A busy machine only makes it less.
    assert!(Duration::from_nanos(stats.cpu_total_ns) <= most, "{stats:?}, allowed {most:?}");
}

#[tokio::test]
async fn a_shim_is_small_and_holds_nothing_of_the_agents() {
    let (rig, id) = (Rig::new(), boundary());
    // Descriptor 5 is the agent's by inheritance and stays open over exec: a pipe that never ends if somebody keeps it.
    let mut agent = Command::new("/bin/sh")
        .args(["-c", "exec 5>&1; exec \"$0\" \"$@\"", SHIM, "agent"])
        .args([rig.path("state"), PathBuf::from(id.as_str()), rig.path("out.log")])
        .args(["/bin/sh", "-c", "ls /proc/self/fd; exec sleep 60"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("agent");
    let mut pipe = agent.stdout.take().expect("piped");
    until("the program wrote", || rig.output().lines().count() >= 4).await;
    agent.kill().expect("ours");
    agent.wait().expect("ours");
    let ended = tokio::task::spawn_blocking(move || std::io::Read::read_to_end(&mut pipe, &mut Vec::new()));
    tokio::time::timeout(LONG, ended).await.expect("nobody holds the pipe").expect("no panic").expect("readable");
    // 3 is the directory that `ls` reads.
    assert_eq!(rig.output(), "0\n1\n2\n3\n");

    let shim = shim_pid(&rig, &id);
    let status = fs::read_to_string(format!("/proc/{shim}/status")).expect("it lives");
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok())
    };
    println!("shim: {:?} kB resident, {:?} kB anonymous", field("VmRSS:"), field("RssAnon:"));
    assert!(field("RssAnon:").expect("listed") < 2048 && field("Threads:") == Some(1), "{status}");
    let handle = rig.runner.adopt(&id).await.expect("readable").expect("started");
    handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
}
