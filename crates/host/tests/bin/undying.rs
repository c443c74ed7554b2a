//! Two processes that start each other again, and hide: they ignore every signal that can be ignored, lead sessions of their
//! own, are nobody's children, and overwrite their environment, arguments and name.
//!
//! `undying UNTIL` or `undying UNTIL PARTNER`, with `UNTIL` in seconds since 1970: later, and without their working directory, they
//! end by themselves, so that a test that failed leaves nothing for ever.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::libc;

const LOOK: Duration = Duration::from_millis(2);

pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let number = |n: usize| args.get(n)?.to_str()?.parse::<u64>().ok();
    let Some(until) = number(0) else { return ExitCode::FAILURE };
    let partner = number(1);
    hide();
    let program = std::env::current_exe().expect("own path");
    let mut guard: Option<Child> = None;
    while !over(until) {
        match partner {
            // The guard: takes the place of the one that is gone, which gets itself another guard.
            Some(pid) if !alive(pid) => {
                start(&program, until, None);
                return ExitCode::SUCCESS;
            }
            Some(_) => {}
            None if guard.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) => {
                guard = start(&program, until, Some(std::process::id()));
            }
            None => {}
        }
        std::thread::sleep(LOOK);
    }
    ExitCode::SUCCESS
}

fn over(until: u64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
    now > until || std::env::current_dir().is_err()
}

fn alive(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Another one, without environment and in a session of its own.
fn start(program: &PathBuf, until: u64, partner: Option<u32>) -> Option<Child> {
    let mut command = Command::new(program);
    command.arg("undying").arg(until.to_string()).args(partner.map(|pid| pid.to_string())).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: setsid takes nothing and is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    command.spawn().ok()
}

fn hide() {
    for signal in 1..=64 {
        // SAFETY: there is no code of ours behind it. SIGKILL, SIGSTOP and the C library's own are refused. A child's end is
        // still to be waited for.
        if signal != libc::SIGCHLD {
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
    }
    let _ = nix::sys::prctl::set_name(c"kworker/0:1");
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<u64> = stat
        .rsplit_once(") ")
        .map_or("", |(_, rest)| rest)
        .split(' ')
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // Fields 48 to 51 of proc(5): where arguments and environment begin and end. The first of `fields` is the third.
    let memory = fs::File::options().write(true).open("/proc/self/mem");
    if let (Ok(memory), Some([arguments, arguments_end, environment, environment_end])) = (memory, fields.get(45..49)) {
        for (from, to) in [(arguments, arguments_end), (environment, environment_end)] {
            let zeros = vec![0; usize::try_from(to.saturating_sub(*from)).unwrap_or(0)];
            let _ = memory.write_all_at(&zeros, *from);
        }
    }
}
