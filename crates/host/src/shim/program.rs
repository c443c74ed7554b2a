//! The shim's start of the program: output files, environment, session, cgroups.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::libc;

use crate::ENV_BOUNDARY;
use crate::process::cgroup::Cgroups;
use crate::process::{ENV_BOUNDARY_DIR, ProcessSpec};

/// Starts it; an error is a sentence for the user.
pub(super) fn spawn(spec: &ProcessSpec, cgroups: &Cgroups, dir: &Path) -> Result<Child, String> {
    if let Some(work_dir) = spec.work_dir.as_deref().filter(|dir| !dir.is_dir()) {
        return Err(format!("its working directory `{}` is no directory", work_dir.display()));
    }
    let stdout = output(&spec.stdout)?;
    let stderr = match &spec.stderr {
        Some(path) if *path != spec.stdout => output(path)?,
        _ => stdout.try_clone().map_err(|e| format!("failed to share its output file: {e}"))?,
    };
    let cgroups = cgroups.join_files().map_err(|e| format!("failed to open its cgroup: {e}"))?;
    let mut command = Command::new(&spec.program);
    if spec.clear_env {
        command.env_clear();
    }
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        // Last, so that nothing overrides the marker.
        .env(ENV_BOUNDARY, spec.boundary.as_str())
        .env(ENV_BOUNDARY_DIR, dir)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    if let Some(work_dir) = &spec.work_dir {
        command.current_dir(work_dir);
    }
    // SAFETY: between fork and exec the closure only makes system calls on descriptors that are open.
    unsafe { command.pre_exec(move || prepare(&cgroups)) };
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{error} (the program, or the interpreter that its first line names)")
        }
        _ => error.to_string(),
    })
}

fn output(path: &Path) -> Result<File, String> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| format!("failed to open its output file `{}`: {e}", path.display()))
}

/// In the child, before the program: a session of its own, the cgroups, and default actions for the signals that stop it,
/// which a parent under `nohup` may have switched off.
fn prepare(cgroups: &[File]) -> io::Result<()> {
    // SAFETY: setsid takes nothing.
    Errno::result(unsafe { libc::setsid() })?;
    for signal in
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGCHLD]
    {
        // SAFETY: the default action has no code of ours behind it.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    forgive_oom_score();
    for procs in cgroups {
        // SAFETY: one byte of a constant, into an open file; 0 is the writing process itself.
        let written = unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
        Errno::result(written)?;
    }
    Ok(())
}

/// An agent that the kernel is told to spare when memory runs out (its unit says so) must not hand that on: its services are
/// what uses the memory up. A score above zero stays, and so does one that cannot be raised.
fn forgive_oom_score() {
    // SAFETY: plain system calls on a constant path and buffers of this frame, allowed between fork and exec.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if file < 0 {
            return;
        }
        let mut first = 0u8;
        if libc::read(file, (&raw mut first).cast(), 1) == 1 && first == b'-' {
            libc::pwrite(file, c"0".as_ptr().cast(), 1, 0);
        }
        libc::close(file);
    }
}
