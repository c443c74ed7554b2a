//! `scene DIR [ROUNDS]`: an agent in a unit of a real systemd. What it finds is said by panics, and by `ok` in `DIR/said` at its end.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use testrig_host::process::{Boundaries, BoundaryKind, ProcessRunner, ProcessSpec, ShimCommand};
use testrig_host::{BoundaryId, Signal, Unseen};

const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn main(args: &[OsString]) -> ExitCode {
    let dir = PathBuf::from(args.first().expect("a directory"));
    let rounds = args.get(1).and_then(|word| word.to_str()?.parse().ok()).unwrap_or(10);
    let boundaries = tokio::task::spawn_blocking(|| Boundaries::choose(None)).await.expect("no panic");
    assert_eq!(boundaries.kind(), BoundaryKind::Systemd, "{}", boundaries.why());
    let shim = ShimCommand::of(std::env::current_exe().expect("own path")).with(boundaries);
    let scene = Scene { runner: ProcessRunner::new(dir.join("state"), shim).expect("state directory"), dir };
    scene.a_run_is_a_unit_and_nothing_of_it_stays().await;
    scene.the_end_of_the_agents_unit_is_not_the_end_of_the_run().await;
    scene.a_unit_that_was_stopped_by_hand_is_an_end_that_nobody_saw().await;
    scene.a_unit_that_is_refused_is_no_end_of_the_start().await;
    let words = scene.stops_leave_nobody(rounds).await;
    fs::write(scene.dir.join("said.new"), format!("ok: {words}\n")).expect("writable");
    fs::rename(scene.dir.join("said.new"), scene.dir.join("said")).expect("writable");
    ExitCode::SUCCESS
}

struct Scene {
    dir: PathBuf,
    runner: ProcessRunner,
}

impl Scene {
    fn shell(&self, boundary: &BoundaryId, script: &str) -> ProcessSpec {
        let mut spec = ProcessSpec::new(boundary.clone(), "/bin/sh", self.dir.join("out.log"));
        spec.args = vec!["-c".into(), script.into()];
        spec
    }

    async fn a_run_is_a_unit_and_nothing_of_it_stays(&self) {
        let id = BoundaryId::new(1, 1);
        let handle = self.runner.spawn(self.shell(&id, "sleep 600 & sleep 600")).await.expect("started");
        let unit = unit_of(&handle.boundary_kind());
        let own = fs::read_to_string("/proc/self/cgroup").expect("Linux");
        let there = fs::read_to_string(format!("/proc/{}/cgroup", handle.pid().expect("known"))).expect("Linux");
        assert!(there.contains(&format!("/{unit}/run")), "{there}");
        let service = own.lines().find_map(|line| line.strip_prefix("0::")).expect("v2").trim();
        assert!(service.contains("scene.service") && !there.contains(service), "{own} {there}");
        for (property, value) in [
            ("ActiveState", "active"),
            ("Delegate", "yes"),
            ("KillMode", "control-group"),
            ("TasksMax", "infinity"),
            ("Description", "testrig: testrig-1-1"),
        ] {
            assert_eq!(shown(&unit, property), value, "{property}");
        }
        handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
        handle.forget().await.expect("empty");
        until("the unit is gone", || shown(&unit, "LoadState") == "not-found").await;

        // The name of the boundary again, at once: what is left of the first unit must not be in the way. The limit is asked
        // for with the unit; whether the kernel keeps it depends on the host's cgroups, and a start without it is refused.
        let mut spec = self.shell(&id, "sleep 600");
        spec.memory = Some(64 << 20);
        match self.runner.spawn(spec).await {
            Ok(handle) => {
                assert_eq!(shown(&unit_of(&handle.boundary_kind()), "MemoryMax"), (64 << 20).to_string());
                handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
                handle.forget().await.expect("empty");
                println!("memory: limited");
            }
            Err(error) => {
                assert!(error.to_string().contains("no memory cgroup"), "{error}");
                println!("memory: {error}");
            }
        }
    }

    /// The agent's own unit kills all of its processes when it ends: the run is in another one.
    async fn the_end_of_the_agents_unit_is_not_the_end_of_the_run(&self) {
        let id = BoundaryId::new(2, 1);
        let program = std::env::current_exe().expect("own path");
        let done = Command::new("systemd-run")
            .args([
                "--quiet",
                "--unit=sacrifice.service",
                "-p",
                "DefaultDependencies=no",
                "-p",
                "KillMode=control-group",
                "--",
            ])
            .arg(&program)
            .arg("choosing-agent")
            .args([self.dir.join("state"), PathBuf::from(id.as_str()), self.dir.join("out.log")])
            .args(["/bin/sh", "-c", "sleep 600"])
            .status()
            .expect("systemd-run");
        assert!(done.success());
        let pid = self.dir.join("state").join(id.as_str()).join("pid.json");
        until("the program runs", || pid.exists()).await;
        assert!(Command::new("systemctl").args(["stop", "sacrifice.service"]).status().expect("systemctl").success());
        let handle = self.runner.adopt(&id).await.expect("readable").expect("it was started");
        assert!(handle.boundary_kind().starts_with("systemd unit "), "{}", handle.boundary_kind());
        assert!(handle.exit().expect("readable").is_none(), "the run goes on");
        assert!(!handle.members().await.expect("readable").is_empty());
        handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
        handle.forget().await.expect("empty");
    }

    async fn a_unit_that_was_stopped_by_hand_is_an_end_that_nobody_saw(&self) {
        let id = BoundaryId::new(3, 1);
        let handle = self.runner.spawn(self.shell(&id, "sleep 600")).await.expect("started");
        let unit = unit_of(&handle.boundary_kind());
        assert!(Command::new("systemctl").args(["stop", &unit]).status().expect("systemctl").success());
        let exit = tokio::time::timeout(LONG, handle.wait()).await.expect("it ends").expect("readable");
        // Who is killed first, program or shim, is the kernel's choice.
        assert!(exit.unseen == Some(Unseen::ShimKilled) || exit.signal.is_some(), "{exit:?}");
        handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
        handle.forget().await.expect("empty");
    }

    async fn a_unit_that_is_refused_is_no_end_of_the_start(&self) {
        let id = BoundaryId::new(5, 1);
        fs::write(self.dir.join("refuse"), "").expect("writable");
        let handle = self.runner.spawn(self.shell(&id, "sleep 600")).await.expect("started");
        fs::remove_file(self.dir.join("refuse")).expect("there");
        assert!(!handle.boundary_kind().contains("systemd unit"), "{}", handle.boundary_kind());
        assert!(!handle.members().await.expect("readable").is_empty());
        handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
        handle.forget().await.expect("empty");
    }

    async fn stops_leave_nobody(&self, rounds: usize) -> String {
        let helper = std::env::current_exe().expect("own path").display().to_string();
        let (mut slowest, mut ended) = (Duration::ZERO, 0);
        for round in 0..rounds {
            let id = BoundaryId::new(4, 1);
            let place = self.dir.join("place");
            fs::create_dir(&place).expect("directory");
            let mut spec = self.shell(&id, &super::nasty::nasty(&helper));
            spec.work_dir = Some(place.clone());
            let handle = self.runner.spawn(spec).await.expect("started");
            assert!(handle.boundary_kind().starts_with("systemd unit "), "{}", handle.boundary_kind());
            if round < 3 {
                until("all are there", || working_in(&place) >= super::nasty::NASTY).await;
            }
            let begin = Instant::now();
            ended += handle.stop(Signal::TERM, Duration::from_millis(1)).await.expect("emptied").killed;
            slowest = slowest.max(begin.elapsed());
            assert_eq!(working_in(&place), 0, "round {round}");
            handle.forget().await.expect("empty");
            fs::remove_dir(&place).expect("nobody wrote there");
        }
        format!("{rounds} stops, {ended} processes killed, 0 survivors; slowest {slowest:?}")
    }
}

fn unit_of(kind: &str) -> String {
    let rest = kind.strip_prefix("systemd unit ").unwrap_or_else(|| panic!("no unit: {kind}"));
    rest.split(',').next().expect("a name").to_owned()
}

fn shown(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", unit, "--value", "-p", property]).output().expect("systemctl");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn working_in(dir: &Path) -> usize {
    let all = fs::read_dir("/proc").expect("Linux").flatten();
    all.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir)).count()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
