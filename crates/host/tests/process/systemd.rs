//! A real systemd: the host's own program as the first process of namespaces of its own, with one unit, the agent's.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;

use crate::rig::{SHIM, skipped, times};

const NAME: &str = "a_run_under_a_real_systemd_is_a_transient_unit_and_stops_leave_none";
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
/// Far more than it takes.
const LIMIT: Duration = Duration::from_secs(240);
/// A manager that is not up by then cannot be had here.
const UP: Duration = Duration::from_secs(60);

/// What the first process of the namespaces does before it becomes systemd. Its own cgroup is the top of what it sees.
const ENTER: &str = r#"set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$1/machine-id" /etc/machine-id
exec env -i PATH="$PATH" container=other SYSTEMD_UNIT_PATH="$1/units" SYSTEMD_GENERATOR_PATH="$1/none" \
  SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$1/none" SYSTEMD_LOG_TARGET="${LOG_TARGET:-null}" "$2" --system --show-status=0 --unit=scene.target
"#;

#[test]
fn a_run_under_a_real_systemd_is_a_transient_unit_and_stops_leave_none() {
    if !nix::unistd::Uid::effective().is_root() {
        return skipped(NAME, "namespaces and control groups for a systemd of the test's own take root");
    }
    let Some(systemd) = SYSTEMD.into_iter().find(|path| Path::new(path).is_file()) else {
        return skipped(NAME, "systemd is not installed");
    };
    // Else it would make one on the host's disk.
    if !Path::new("/etc/machine-id").is_file() {
        return skipped(NAME, "there is no /etc/machine-id that another one can be laid over");
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = dir.path().display();
    fs::create_dir(dir.path().join("units")).expect("directory");
    fs::write(dir.path().join("machine-id"), "0123456789abcdef0123456789abcdef\n").expect("writable");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bin/path");
    let rounds = times(10, 100);
    for (name, text) in [
        ("scene.target", "[Unit]\nDefaultDependencies=no\nWants=scene.service\n".to_owned()),
        (
            "scene.service",
            format!(
                "[Unit]\nDefaultDependencies=no\n[Service]\nType=exec\nExecStart={SHIM} scene {at} {rounds}\nDelegate=yes\nKillMode=process\n\
                 Environment=PATH={path}:/usr/bin:/bin SCENE_REFUSES={at}/refuse\n\
                 StandardOutput=append:{at}/scene.log\nStandardError=append:{at}/scene.log\nExecStopPost=/bin/sh -c 'echo $$EXIT_STATUS > {at}/status.new; mv {at}/status.new {at}/status'\n"
            ),
        ),
    ] {
        fs::write(dir.path().join("units").join(name), text).expect("writable");
    }
    let Some(cgroup) = Cgroup::make() else {
        return skipped(NAME, "no v2 control group can be made here");
    };
    let log = fs::File::create(dir.path().join("systemd.log")).expect("writable");
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--cgroup",
        "--uts",
        "--ipc",
        "--net",
        "--kill-child",
        "--",
        "/bin/sh",
        "-c",
        ENTER,
        "sh",
    ]);
    command.arg(dir.path()).arg(systemd).stdin(Stdio::null()).stdout(log.try_clone().expect("open")).stderr(log);
    let procs = cgroup.0.join("cgroup.procs");
    // SAFETY: only system calls on a path that was made before, in the child alone. It ends with this thread.
    unsafe {
        let procs = std::ffi::CString::new(procs.display().to_string()).expect("no zero");
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            let file = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            let written = libc::write(file, c"0".as_ptr().cast(), 1);
            libc::close(file);
            if written == 1 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let mut manager = Manager(command.spawn().expect("unshare"));
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let began = Instant::now();
    while text("status").is_empty() {
        let gone = manager.0.try_wait().expect("ours").is_some();
        if text("scene.log").is_empty() && (gone || began.elapsed() > UP) && !dir.path().join("state").exists() {
            println!("{}", text("systemd.log"));
            return skipped(NAME, "systemd does not come up in namespaces here");
        }
        assert!(began.elapsed() < LIMIT && !gone, "{}\n{}", text("scene.log"), text("systemd.log"));
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{}{} in {:?}", text("scene.log"), text("said").trim_end(), began.elapsed());
    assert!(text("said").starts_with("ok: "), "{}\n{}\n{}", text("status"), text("scene.log"), text("systemd.log"));
}

/// The namespaces; dropped = all of their processes are killed with the first.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A v2 control group; dropped = removed.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn make() -> Option<Self> {
        let tops = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let top = tops
            .into_iter()
            .find(|dir| dir.join("cgroup.procs").exists() && dir.join("cgroup.controllers").exists())?;
        let dir = top.join(format!("testrig-systemd-{}", std::process::id()));
        fs::create_dir(&dir).ok()?;
        Some(Self(dir))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        while self.0.exists() && Instant::now() < deadline {
            remove(&self.0);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
