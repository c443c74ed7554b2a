//! What `/proc` says about processes, and signals that cannot hit the wrong one.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one of the same pid: its start time, in ticks since boot, goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ident {
    pub(crate) pid: i32,
    pub(crate) start: u64,
}

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) ident: Ident,
    pub(crate) name: String,
    pub(crate) state: u8,
    pub(crate) parent: i32,
    /// User and system time of it and of its reaped children, clock ticks.
    pub(crate) cpu_ticks: u64,
    /// Resident memory in pages.
    pub(crate) resident_pages: u64,
}

impl Ident {
    /// The process that has this pid now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| stat.ident)
    }

    /// Runs; a zombie does not.
    pub(crate) fn alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.ident == self && !stat.dead())
    }

    /// Sends a signal to exactly this process; false if it is gone.
    ///
    /// A pidfd names one process for ever: once the start time has been compared, the pid may be given to somebody else and
    /// the signal still does not reach them. Kernels before 5.3 have none; there the gap between look and signal remains.
    pub(crate) fn signal(self, signal: i32) -> io::Result<bool> {
        let fd = match pidfd_open(self.pid) {
            Ok(fd) => Some(fd),
            Err(Errno::ESRCH) => return Ok(false),
            Err(Errno::ENOSYS | Errno::EPERM) => None,
            Err(errno) => return Err(errno.into()),
        };
        if Self::of(self.pid) != Some(self) {
            return Ok(false);
        }
        let sent = match fd {
            Some(fd) => pidfd_send_signal(&fd, signal),
            None => kill(self.pid, signal),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a signal to the process group that this process leads, if it lives and so holds the group's number.
    pub(crate) fn signal_group(self, signal: i32) -> io::Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match kill(-self.pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Stat {
    /// Has ended. A leader that ended while other threads go on is a zombie by its state only.
    pub(crate) fn dead(&self) -> bool {
        match self.state {
            b'X' | b'x' => true,
            b'Z' => fs::read_dir(format!("/proc/{}/task", self.ident.pid)).map_or(0, Iterator::count) <= 1,
            _ => false,
        }
    }
}

/// Reads `/proc/PID/stat`; `None` if there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in brackets and may itself hold brackets and blanks: the last bracket counts.
fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let fields: Vec<&str> = text[close + 1..].split_ascii_whitespace().collect();
    // Field n of proc(5) is fields[n - 3].
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    Some(Stat {
        ident: Ident { pid, start: number(22)? },
        name: text[open + 1..close].to_owned(),
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        cpu_ticks: number(14)? + number(15)? + number(16)? + number(17)?,
        resident_pages: number(24)?,
    })
}

/// All processes now. Some may have ended before the list is read.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        found.extend(stat(pid));
    }
    Ok(found)
}

/// All processes below `top`. If `top` is a subreaper, whoever loses its parent becomes its child and stays among them.
pub(crate) fn descendants(all: &[Stat], top: Ident) -> BTreeSet<i32> {
    let mut below = BTreeSet::new();
    if !all.iter().any(|stat| stat.ident == top) {
        // The pid belongs to somebody else by now, whose children are not ours.
        return below;
    }
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(stat.ident.pid);
    }
    let mut open = vec![top.pid];
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if below.insert(*child) {
                open.push(*child);
            }
        }
    }
    below
}

/// Whether the environment that the process was started with holds this variable with this value.
pub(crate) fn has_variable(pid: i32, name: &str, value: &str) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    environ.split(|b| *b == 0).any(|entry| {
        entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) == Some(value.as_bytes())
    })
}

/// Bytes that the process caused to be read from and written to block devices.
pub(crate) fn block_io(pid: i32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
    Some((field("read_bytes:")?, field("write_bytes:")?))
}

/// Identifies this boot of the kernel.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes two integers and touches no memory of ours. nix's wrapper has no real-time signals.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pidfd_send_signal(fd: &OwnedFd, signal: i32) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let nothing: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open for as long as `fd` is borrowed, and a null siginfo is allowed.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, nothing, 0) };
    Errno::result(sent).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, id};

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 0 1 2 3 4 10 20 30 40 20 0 1 0 999 5000 77 18446744073709551615";
        let stat = parse_stat(42, text).expect("whole line");
        assert_eq!(stat.name, "a) b (c)");
        assert_eq!((stat.state, stat.parent, stat.ident.start), (b'S', 7, 999));
        assert_eq!((stat.cpu_ticks, stat.resident_pages), (100, 77));
    }

    #[test]
    fn a_process_with_the_same_pid_but_another_start_time_is_never_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        let real = Ident::of(pid).expect("just started");
        let other = Ident { start: real.start + 1, ..real };
        assert!(!other.signal(libc::SIGKILL).expect("looked"));
        other.signal_group(libc::SIGKILL).expect("looked");
        assert!(child.try_wait().expect("ours").is_none());
        assert!(real.signal(libc::SIGKILL).expect("sent"));
        child.wait().expect("ours");
        assert!(!real.alive());
        assert!(!real.signal(libc::SIGKILL).expect("gone is no error"));
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name_and_value() {
        let mut child = Command::new("sleep").arg("60").env_clear().env("MARK", "a/b").spawn().expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        assert!(has_variable(pid, "MARK", "a/b"));
        assert!(!has_variable(pid, "MARK", "a/"));
        assert!(!has_variable(pid, "MAR", "K=a/b"));
        child.kill().expect("ours");
        child.wait().expect("ours");
    }

    #[test]
    fn this_process_is_in_the_list_and_alive() {
        let pid = i32::try_from(id()).expect("pid");
        let found = all().expect("readable").into_iter().find(|s| s.ident.pid == pid).expect("listed");
        assert!(found.ident.alive() && found.resident_pages > 0);
        assert!(!boot_id().expect("Linux").is_empty());
    }

    #[test]
    fn descendants_are_found_over_generations_and_never_of_a_reused_pid() {
        let stat = |pid, parent| {
            let ident = Ident { pid, start: 1 };
            Stat { ident, name: "x".into(), state: b'S', parent, cpu_ticks: 0, resident_pages: 0 }
        };
        let all = [stat(10, 1), stat(11, 10), stat(12, 11), stat(20, 1), stat(21, 20)];
        assert_eq!(descendants(&all, Ident { pid: 10, start: 1 }), BTreeSet::from([11, 12]));
        assert!(descendants(&all, Ident { pid: 10, start: 2 }).is_empty());
    }
}
