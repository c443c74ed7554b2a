//! Host processes and surroundings that misbehave.

use std::{path::Path, process::Command, time::Duration};

use powerjob_worker::StopReason;
use serde_json::json;

use crate::{common::HELPER, rig::Rig};

/// Command of a service: a script first, then the stub.
fn with_script(rig: &Rig, script: &str) -> serde_json::Value {
    let mut job = rig.job(&[]);
    job["service.command"] = json!(["sh", "-c", format!("{script}\nexec {HELPER} stub --port {}", rig.port)]);
    job
}

/// Sends a signal to the stand-in service.
fn signal_service(rig: &Rig, signal: &str) {
    let all = rig.survivors();
    let service = all.iter().find(|process| process.contains(" stub ")).expect("it runs");
    let pid = service.split(' ').next().and_then(|path| path.strip_prefix("/proc/")).expect("a pid");
    assert!(Command::new("kill").args([signal, pid]).status().expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_load_is_one_failure_that_says_so_and_leaves_nothing() {
    let rig = Rig::new(2501);
    let logs = rig.place.dir.path().join("logs");
    std::fs::create_dir(&logs).expect("the file system works");
    let Some(_mounted) = Tmpfs::mount(&logs, "size=1m") else {
        println!("skipped: no tmpfs can be mounted here");
        return;
    };
    let mut run = rig.run();
    run["runSeconds"] = json!(600);
    run["concurrency"] = json!(16);
    let result = rig.process(&rig.context(&rig.job(&[]), &run)).await;
    assert!(!result.success);
    let first = result.message.lines().next().expect("one more");
    assert!(
        first.starts_with("stage load failed: ") && first.contains("No space left on device"),
        "{}",
        result.message
    );
    assert_eq!(rig.survivors(), [] as [String; 0]);
    assert_eq!(rig.result()["status"], "FAILED", "the file must not go on saying RUNNING: {}", rig.read("result.json"));
    assert!(!rig.log_dir().join(".result.json.tmp").exists());
    // The agent is as well as before.
    let next = Rig::new(2502);
    let result = next.process(&next.context(&next.job(&[]), &next.run())).await;
    assert!(result.success, "{}", result.message);
}

struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, options: &str) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output().ok()?;
        done.status.success().then_some(Self(at))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_long_and_binary_output_is_whole_in_file_and_journal() {
    let rig = Rig::new(2510);
    let script = "i=0; yes 'a line of the service that is not very long' | head -n 50000; head -c 5000000 /dev/zero | tr '\\0' x; echo; \
                  head -c 20000 /dev/urandom; echo; echo the last line";
    let result = rig.process(&rig.context(&with_script(&rig, script), &rig.run())).await;
    assert!(result.success, "{}", result.message);
    let file = std::fs::read(rig.log_dir().join(format!("svc-m-{}.log", rig.port))).expect("the file system works");
    assert!(file.len() > 50_000 * 44 + 5_000_000 + 20_000, "{}", file.len());
    let lines = rig.service_lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("a line of the service")).count(), 50_000);
    let long: usize = lines.iter().filter(|line| line.starts_with("xxx")).map(|line| line.matches('x').count()).sum();
    assert!(long >= 5_000_000 || lines.iter().any(|line| line.contains("cut")), "{long}");
    assert!(lines.iter().any(|line| line == "the last line"));
    assert!(lines.iter().all(|line| line.len() <= 40_000 && !line.contains('\n')));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_under_load_is_told_by_its_signal_at_once() {
    let rig = Rig::new(2520);
    let mut run = rig.run();
    run["runSeconds"] = json!(600);
    let ctx = rig.context(&rig.job(&[]), &run);
    let kill = async {
        rig.logged("stage load: begins").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        signal_service(&rig, "-9");
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), kill);
    assert!(result.message.starts_with("stage load failed: the service ended by itself: "), "{}", result.message);
    assert!(result.message.contains("SIGKILL") || result.message.contains("signal 9"), "{}", result.message);
    assert_eq!(rig.result()["status"], "FAILED");
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_was_ready_and_hangs_is_lost_after_so_many_failures() {
    let rig = Rig::new(2530);
    let mut job = rig.job(&[]);
    job["healthCheck"] = json!({"path": "/health?deep=1", "intervalMillis": 100, "timeoutMillis": 300, "maxRetry": 200, "failureThreshold": 2});
    let mut run = rig.run();
    run["runSeconds"] = json!(600);
    let ctx = rig.context(&job, &run);
    let stop = async {
        rig.logged("stage load: begins").await;
        signal_service(&rig, "-STOP");
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), stop);
    assert!(
        result
            .message
            .starts_with("stage load failed: 2 health checks in a row failed after the service had been ready"),
        "{}",
        result.message
    );
    assert!(result.message.contains("no answer within 300 ms"), "{}", result.message);
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_and_no_checks_work_for_a_process() {
    for (instance, kind) in [(2540, "TCP"), (2541, "NONE")] {
        let rig = Rig::new(instance);
        let mut job = rig.job(&[]);
        job["healthCheck"]["type"] = json!(kind);
        let mut run = rig.run();
        run["warmupSeconds"] = json!(1);
        let result = rig.process(&rig.context(&job, &run)).await;
        assert!(result.success, "{kind}: {}", result.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_teardown_script_that_hangs_does_not_hold_a_stopped_run() {
    let rig = Rig::new(2550);
    let script = rig.place.dir.path().join("teardown.sh");
    std::fs::write(&script, "#!/bin/sh\necho tearing down\nsleep 600\n").expect("the file system works");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("the file system works");
    let mut job = rig.job(&[]);
    job["env.teardownScript"] = json!(script);
    job["monitor"]["stopTimeoutSeconds"] = json!(1);
    let ctx = rig.context(&job, &rig.run());
    let stop = async {
        rig.logged("stage teardown: begins").await;
        while !rig.read("env-teardown.log").contains("tearing down") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), stop);
    assert!(rig.log_text().contains("env.teardownScript"), "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_lines_of_a_failed_service_stand_once_as_text_in_the_log() {
    let rig = Rig::new(2560);
    let mut job = rig.job(&[]);
    job["service.command"] = json!(["sh", "-c", "echo the last of $((40+2)) words; exit 4"]);
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert!(result.message.contains("| the last of 42 words"), "{}", result.message);
    let found = rig.lines().iter().filter(|line| line.text.contains("the last of 42 words")).count();
    assert_eq!(found, 1, "{}", rig.log_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_in_a_row_leave_no_descriptors_threads_children_or_directories() {
    let rig = Rig::new(2570);
    // Other tests of this program run beside it: only what points into this run's directories is its own.
    let held = || {
        let fds = std::fs::read_dir("/proc/self/fd").expect("the file system works").filter_map(Result::ok);
        let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links
            .filter(|to| {
                to.starts_with(rig.place.dir.path().join("logs"))
                    || to.starts_with(rig.place.dir.path().join("state/boundaries"))
            })
            .collect::<Vec<_>>()
    };
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).expect("the file system works").count();
    let rounds = std::env::var("TESTRIG_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    for round in 0..rounds {
        let mut run = rig.run();
        run["runSeconds"] = json!(0.2);
        let ctx = powerjob_worker::TaskContext { attempt: round + 1, ..rig.context(&rig.job(&[]), &run) };
        let result = rig.process(&ctx).await;
        assert!(result.success, "{}", result.message);
        println!("round {round}: {} descriptors, {} threads", count("fd"), count("task"));
    }
    assert_eq!(held(), [] as [std::path::PathBuf; 0]);
    assert_eq!(
        std::fs::read_dir(rig.place.dir.path().join("state/boundaries")).expect("the file system works").count(),
        0
    );
    assert_eq!(rig.survivors(), [] as [String; 0]);
}
