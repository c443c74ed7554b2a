//! An engine of this test's own, killed with SIGKILL, stopped and started under containers that go on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use testrig_host::docker::{ContainerPhase, Docker, EngineNotice, PullPolicy, PullSettings};

use crate::line::{Line, Trouble};
use crate::registry::hub;
use crate::rig::{LONG, Rig, rig, skipped};

/// Its folder, and what `scripts/parts/docker.sh` does with it.
struct OwnEngine {
    dir: tempfile::TempDir,
    script: PathBuf,
}

impl OwnEngine {
    fn start(name: &str, other: &Rig) -> Option<(Self, Rig)> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/parts/docker.sh");
        let dir = tempfile::tempdir().expect("temporary directory");
        let engine = Self { dir, script };
        if !engine.run(&["start"], &[]) {
            skipped(name, "no engine of our own can be started here");
            return None;
        }
        let host = format!("unix://{}/docker/d.sock", engine.dir.path().display());
        let copy = format!("docker -H '{}' save '{}' | docker -H '{host}' load", other.docker.endpoint(), other.image);
        let copied = Command::new("sh").args(["-c", &copy]).stdout(Stdio::null()).status().expect("sh");
        assert!(copied.success(), "{copy}");
        let rig = Rig::at(&host, &other.image);
        Some((engine, rig))
    }

    fn ctl(&self, what: &str) {
        assert!(self.run(&["ctl"], &[what]), "{what}");
    }

    fn run(&self, before: &[&str], after: &[&str]) -> bool {
        let mut command = Command::new("bash");
        command.arg(&self.script).args(before).arg(self.dir.path()).args(after);
        // Engine and containerd stay behind and would hold a pipe open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        self.run(&["stop"], &[]);
    }
}

/// The numbers that a container counted into its log, read through whatever happens to the engine.
async fn counted(docker: Docker, id: String) -> Vec<u64> {
    let mut logs = docker.logs(&id, 0);
    let mut numbers = Vec::new();
    while let Some(line) = logs.next().await.expect("readable") {
        let text = std::str::from_utf8(&line.bytes).expect("digits");
        numbers.push(text.parse().expect("a number"));
    }
    numbers
}

#[tokio::test]
async fn an_engine_that_is_killed_or_restarted_under_a_run_gives_no_wrong_verdict() {
    let name = "an_engine_that_is_killed_or_restarted_under_a_run_gives_no_wrong_verdict";
    let Some(shared) = rig(name) else { return };
    let Some((engine, rig)) = OwnEngine::start(name, &shared) else {
        return;
    };
    for how in ["kill", "stop"] {
        // It ends while the engine is away.
        let go = tempfile::tempdir().expect("temporary directory");
        let mut spec =
            rig.shell("i=0; until [ -e /go/go ]; do echo $i; i=$((i+1)); sleep 0.02; done; echo 999999; exit 6");
        let mount = testrig_host::docker::Mount { host: go.path().into(), container: "/go".into(), read_only: true };
        spec.mounts = vec![mount];
        let id = rig.start(&spec).await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let waiter = tokio::spawn({
            let (docker, id) = (rig.docker.clone(), id.clone());
            async move { docker.wait(&id, move |notice| drop(tell.send(notice))).await }
        });
        let reader = tokio::spawn(counted(rig.docker.clone(), id.clone()));
        tokio::time::sleep(Duration::from_millis(300)).await;

        // Away and back under a container that runs.
        engine.ctl(how);
        assert!(matches!(told.recv().await, Some(EngineNotice::Lost(_))), "{how}");
        assert!(rig.docker.ping().await.expect_err(how).is_unavailable());
        engine.ctl("start");
        assert_eq!(told.recv().await, Some(EngineNotice::Back), "{how}");
        assert_eq!(rig.docker.inspect(&id).await.expect("there").phase, ContainerPhase::Running, "{how}");

        // Away once more, and the container ends meanwhile.
        engine.ctl(how);
        assert!(matches!(told.recv().await, Some(EngineNotice::Lost(_))), "{how}");
        std::fs::write(go.path().join("go"), "").expect("writable");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waiter.is_finished() && !reader.is_finished(), "{how}");
        engine.ctl("start");
        let exit = tokio::time::timeout(LONG, waiter).await.expect(how).expect("no panic").expect("known");
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(6), None, false), "{how}: {exit}");

        let numbers = tokio::time::timeout(LONG, reader).await.expect(how).expect("no panic");
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{how}: doubled or out of order: {numbers:?}");
        // What the engine had read and not stored when it went is nowhere; what it has stored must all be here.
        let stored = counted(rig.docker.clone(), id.clone()).await;
        assert_eq!(numbers, stored, "{how}");
        println!("{how}: {} lines, the last two {:?}", numbers.len(), &numbers[numbers.len().saturating_sub(2)..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_under_which_the_engine_is_killed_is_begun_again_when_it_is_back() {
    let name = "outages::a_pull_under_which_the_engine_is_killed_is_begun_again_when_it_is_back";
    let Some(shared) = rig(name) else { return };
    // Whether there is a registry is known sooner than whether there is an engine of our own.
    let Some(hub) = hub(name, &shared) else { return };
    let Some((engine, rig)) = OwnEngine::start(name, &shared) else { return };
    let image = hub.name("engine-killed");
    hub.put(&image, 4 << 20);
    let line = Line::to(&hub.address, Trouble::StallAt(1 << 20)).await;
    let over = hub.over(line.address, &image);
    let settings = PullSettings { tries: 10, engine_patience: LONG, ..hub.settings(line.address) };
    let said = Mutex::new(Vec::new());
    let pulling = rig.docker.ensure_image(&over, PullPolicy::Always, &settings, |text| said.lock().push(text));
    let trouble = async {
        // The layer is under way, and held up.
        line.reached((1 << 20) - (64 << 10)).await;
        tokio::task::block_in_place(|| engine.ctl("kill"));
        line.set(Trouble::None);
        tokio::task::block_in_place(|| engine.ctl("start"));
    };
    let both = async { tokio::join!(pulling, trouble).0 };
    let pulled = tokio::time::timeout(LONG * 2, both).await;
    let said = said.lock();
    let pulled = pulled.unwrap_or_else(|_| panic!("it does not end: {said:#?}"));
    assert!(pulled.is_ok_and(|image| image.id.starts_with("sha256:")), "{said:#?}");
    assert!(said.iter().any(|text| text.contains("; try 2 of 10 in 1 s")), "{said:#?}");
}
