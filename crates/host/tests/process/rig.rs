//! Boundaries in a directory of their own, and finding processes without the code under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testrig_host::BoundaryId;
use testrig_host::process::{
    Boundaries, BoundaryKind, ProcessHandle, ProcessRunner, ProcessSpec, ScriptSpec, ShimCommand,
};

pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_testrig-shim-test");

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) runner: ProcessRunner,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let runner = ProcessRunner::new(dir.path().join("state"), ShimCommand::of(SHIM)).expect("state directory");
        Self { dir, runner }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state(&self, boundary: &BoundaryId) -> PathBuf {
        self.path("state").join(boundary.as_str())
    }

    pub(crate) fn shell(&self, boundary: &BoundaryId, script: &str) -> ProcessSpec {
        let mut spec = ProcessSpec::new(boundary.clone(), "/bin/sh", self.path("out.log"));
        spec.args = vec!["-c".into(), script.into()];
        spec
    }

    /// A runner over the same directory that holds boundaries together with nothing stronger than this.
    pub(crate) fn runner_with(&self, kind: BoundaryKind) -> ProcessRunner {
        let shim = ShimCommand::of(SHIM).with(Boundaries::choose(Some(kind)));
        ProcessRunner::new(self.path("state"), shim).expect("state directory")
    }

    pub(crate) async fn run(&self, boundary: &BoundaryId, script: &str) -> ProcessHandle {
        self.runner.spawn(self.shell(boundary, script)).await.expect("started")
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.path("out.log")).unwrap_or_default()
    }
}

pub(crate) fn boundary() -> BoundaryId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    BoundaryId::new(i64::from(std::process::id()), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A number of seconds that no other process of the machine sleeps: finds ours by their command line alone.
pub(crate) fn unique_sleep() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}{:03}", 100_000 + std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn with_argument(argument: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|b| *b == 0).any(|arg| arg == argument.as_bytes()) && is_alive(pid) {
            found.push(pid);
        }
    }
    found
}

/// Processes that work in a directory: they cannot be looked for by anything that they can hide.
pub(crate) fn working_in(dir: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        if fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir) && is_alive(pid) {
            found.push(pid);
        }
    }
    found
}

/// How often something is done: the second number when the whole sizes are wanted (`scripts/test.sh --long`).
pub(crate) fn times(short: usize, long: usize) -> usize {
    if std::env::var_os("TESTRIG_LONG").is_some() { long } else { short }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn kill_9(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("there and ours");
}

pub(crate) fn shim_pid(rig: &Rig, boundary: &BoundaryId) -> i32 {
    let text = fs::read(rig.state(boundary).join("start.json")).expect("started");
    let start: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    i32::try_from(start["shim"]["pid"].as_i64().expect("pid")).expect("pid")
}

/// As on a host where no cgroup can be made: the handle that is adopted next knows of none.
pub(crate) async fn without_cgroups(rig: &Rig, boundary: &BoundaryId) -> ProcessHandle {
    let path = rig.state(boundary).join("start.json");
    let mut start: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("started")).expect("JSON");
    start["cgroups"] = serde_json::json!({});
    fs::write(&path, start.to_string()).expect("writable");
    rig.runner.adopt(boundary).await.expect("readable").expect("started")
}

pub(crate) fn agent(rig: &Rig, id: &BoundaryId, script: &str) -> std::process::Child {
    Command::new(SHIM)
        .arg("agent")
        .args([rig.path("state"), PathBuf::from(id.as_str()), rig.path("out.log")])
        .args(["/bin/sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("agent")
}

pub(crate) fn script(process: ProcessSpec) -> ScriptSpec {
    ScriptSpec { process, limit: LONG, grace: LONG, keep: 20 }
}

/// One line for a person, one for the summary of `scripts/test.sh`.
pub(crate) fn skipped(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
    if let Some(file) = std::env::var_os("TESTRIG_SKIPS_FILE") {
        use std::io::Write;
        let line = serde_json::json!({"name": name, "reason": reason});
        let file = fs::File::options().create(true).append(true).open(Path::new(&file));
        writeln!(file.expect("writable"), "{line}").expect("writable");
    }
}
