//! The shim: the small parent of a host process, which outlives the agent.
//!
//! It is the agent's own binary under a hidden subcommand, without a runtime and without threads. It detaches, becomes the
//! subreaper of what it starts, starts the program with output files of its own, writes down how the program ended, and
//! stays until nothing is left below it. It never kills: that is the agent's decision. The protocol of its files is
//! described in [`crate::process`]. What holds the boundary together is the agent's choice, too: it stands behind the path of
//! the spec, `--unit NAME` where the shim was started in a systemd unit, `--no-cgroup` where it shall make none.

mod program;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{ForkResult, fork, pipe2, setsid};

use crate::ExitStatus;
use crate::process::ProcessSpec;
use crate::process::cgroup::{Cgroups, Unit};
use crate::process::files::{Failed, Files, MainProcess, Starting, read_json, write_json};
use crate::process::proc::{Ident, boot_id};

/// How often and how long a shim tries to get the lock, which the agent takes for moments to look.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// How often writing the exit status is tried again, e.g. on a full disk.
const WRITE_PAUSE: Duration = Duration::from_millis(200);

/// Behind the spec: the systemd unit that the shim was started in.
pub(crate) const UNIT: &str = "--unit";
/// Behind the spec: no cgroup is to be made.
pub(crate) const NO_CGROUP: &str = "--no-cgroup";

/// What shall hold the boundary together.
enum Wanted {
    Unit(String),
    Cgroups,
    Nothing,
}

/// Entry point of `testrig __shim SPEC [--unit NAME | --no-cgroup]`; `args` begins behind the subcommand.
///
/// Call it before any thread is started: it forks. The process that was called ends as soon as the program is started or
/// has failed; its child stays.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    close_inherited_descriptors();
    let Some((spec, wanted)) = parse(args) else {
        return complain(
            "the shim takes the path of a spec.json and perhaps `--unit NAME` or `--no-cgroup`; it is for the agent's own use",
        );
    };
    let Some(dir) = spec.parent().map(Path::to_owned) else {
        return complain("the shim's spec has no directory");
    };
    // Before the fork: the kernel passes no controller on below a cgroup that still holds the caller.
    let unit = match &wanted {
        Wanted::Unit(name) => Unit::enter(name),
        Wanted::Cgroups | Wanted::Nothing => None,
    };
    match detach() {
        Ok(Side::Caller(ready)) => {
            // Ends with a byte, or with the child.
            let mut byte = [0];
            let _ = fs::File::from(ready).read(&mut byte);
            ExitCode::SUCCESS
        }
        Ok(Side::Shim(ready)) => {
            run(&Files::new(dir), fs::File::from(ready), &wanted, unit);
            ExitCode::SUCCESS
        }
        Err(error) => complain(&format!("failed to detach the shim: {error}")),
    }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<(PathBuf, Wanted)> {
    let spec = PathBuf::from(args.next()?);
    let wanted = match args.next() {
        None => Wanted::Cgroups,
        Some(word) if word == UNIT => Wanted::Unit(args.next()?.into_string().ok()?),
        Some(word) if word == NO_CGROUP => Wanted::Nothing,
        Some(_) => return None,
    };
    args.next().is_none().then_some((spec, wanted))
}

enum Side {
    Caller(std::os::fd::OwnedFd),
    Shim(std::os::fd::OwnedFd),
}

fn complain(words: &str) -> ExitCode {
    eprintln!("{words}");
    ExitCode::FAILURE
}

/// Whatever the agent's parents left open without the close-on-exec flag must not be held by something that runs for days.
fn close_inherited_descriptors() {
    // SAFETY: close_range(2) takes three integers. Nothing in this process has opened a descriptor yet, so none that
    // somebody owns is closed. Kernels before 5.9 do not know the call and keep what was inherited.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// Forks; the child leaves the agent's session and lets go of the agent's pipes.
fn detach() -> io::Result<Side> {
    // Close-on-exec: the caller's end must close with the shim, not with the program.
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the process has one thread, as `main` demands, so the child may do whatever it likes.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(Side::Caller(reader)),
        ForkResult::Child => {
            setsid()?;
            let null = fs::File::options().read(true).write(true).open("/dev/null")?;
            for standard in 0..=2 {
                // SAFETY: both descriptors are open; dup2 replaces the standard one and leaves ours.
                Errno::result(unsafe { libc::dup2(null.as_raw_fd(), standard) })?;
            }
            Ok(Side::Shim(writer))
        }
    }
}

/// The life of a shim: start, reap, end.
fn run(files: &Files, mut ready: fs::File, wanted: &Wanted, unit: Option<Unit>) {
    let Some(_lock) = lock(files) else { return };
    // No spec: the agent withdrew it. A start: an earlier shim was here.
    let Ok(Some(spec)) = read_json::<ProcessSpec>(&files.spec()) else {
        return;
    };
    if files.start().exists() {
        return;
    }
    let cgroups = match wanted {
        Wanted::Nothing => Cgroups::default(),
        Wanted::Unit(_) | Wanted::Cgroups => Cgroups::make(&cgroup_name(&spec, &files.dir), spec.limits(), unit),
    };
    match start(files, &spec, &cgroups) {
        Ok(main) => {
            let _ = ready.write_all(b"s");
            drop(ready);
            reap(files, main, &cgroups);
        }
        Err(detail) => {
            let _ = write_json(&files.failed(), &Failed { detail });
        }
    }
    cgroups.remove();
}

fn lock(files: &Files) -> Option<nix::fcntl::Flock<fs::File>> {
    for _ in 0..LOCK_TRIES {
        match files.try_lock() {
            Ok(Some(lock)) if files.is_current(&lock) => return Some(lock),
            Ok(Some(_) | None) => std::thread::sleep(LOCK_PAUSE),
            // The directory is gone: withdrawn.
            Err(_) => return None,
        }
    }
    None
}

/// Starts the program; an error is a sentence for the user.
fn start(files: &Files, spec: &ProcessSpec, cgroups: &Cgroups) -> Result<i32, String> {
    cgroups.limit(spec.limits())?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|e| format!("failed to become its subreaper: {e}"))?;
    let own = i32::try_from(std::process::id()).ok().and_then(Ident::of).ok_or("/proc is not readable")?;
    let starting = Starting {
        shim: own,
        boot_id: boot_id().map_err(|e| format!("failed to read the kernel's boot id: {e}"))?,
        started_at_ms: now_ms(),
        cgroups: cgroups.clone(),
    };
    let writing = |path: &Path, e: io::Error| format!("failed to write `{}`: {e}", path.display());
    write_json(&files.start(), &starting).map_err(|e| writing(&files.start(), e))?;
    let child = program::spawn(spec, cgroups, &files.dir)?;
    let pid = i32::try_from(child.id()).map_err(|_| "its pid is out of range".to_owned())?;
    // A child that nobody has waited for is in /proc, be it as a zombie.
    let process = Ident::of(pid).ok_or("it is not in /proc")?;
    if let Err(error) = write_json(&files.pid(), &MainProcess { process }) {
        // Without the file the agent could not stop it: better no start.
        let _ = process.signal(libc::SIGKILL);
        return Err(writing(&files.pid(), error));
    }
    Ok(pid)
}

/// Waits for everything below until nothing is left, and writes down the end of the main process.
fn reap(files: &Files, main: i32, cgroups: &Cgroups) {
    loop {
        let mut status = 0;
        // SAFETY: waitpid(2) writes to the integer that it is given. nix's wrapper fails on real-time signals.
        let pid = match Errno::result(unsafe { libc::waitpid(-1, &mut status, 0) }) {
            Ok(pid) => pid,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        if pid == main {
            let signalled = libc::WIFSIGNALED(status);
            let oom_kills = cgroups.oom_kills();
            record(
                files,
                &ExitStatus {
                    code: (!signalled).then(|| libc::WEXITSTATUS(status)),
                    signal: signalled.then(|| libc::WTERMSIG(status)),
                    oom_killed: oom_kills.is_some_and(|kills| kills > 0),
                    oom_kills,
                    ended_at_ms: Some(now_ms()),
                    ..ExitStatus::default()
                },
            );
        }
    }
}

/// A full disk is waited out: this file is all that will ever be known. A directory that is gone means that nobody asks.
fn record(files: &Files, exit: &ExitStatus) {
    while write_json(&files.exit(), exit).is_err() && files.dir.exists() {
        std::thread::sleep(WRITE_PAUSE);
    }
}

/// Agents on one host may use the same instance ids: the directory makes the cgroup's name theirs.
fn cgroup_name(spec: &ProcessSpec, dir: &Path) -> String {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    dir.hash(&mut hasher);
    format!("{}-{:016x}", spec.boundary, hasher.finish())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
