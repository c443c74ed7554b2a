//! Who is in a boundary, and making it empty.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::ENV_BOUNDARY_DIR;
use super::files::Starting;
use super::proc::{self, Ident, Stat};

/// How long killed processes may take to go. One in uninterruptible sleep (a dead disk or card) takes longer.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);
/// So many scans may find somebody new to hold still before all are killed anyway.
const HOLD_SCANS: u32 = 50;
/// Two scans in a row must find nothing: a scan is no snapshot, and a process may fork behind its back.
const QUIET_SCANS: u32 = 2;

/// The living processes of a boundary, the shim left out.
///
/// `start` is `None` when no shim got that far; then only the marker can tell.
pub(crate) fn members(dir: &Path, start: Option<&Starting>) -> io::Result<Vec<Stat>> {
    let all = proc::all()?;
    let in_cgroup = start.map(|s| s.cgroups.pids()).unwrap_or_default();
    let shim = start.map(|s| s.shim);
    let below = shim.map(|shim| proc::descendants(&all, shim)).unwrap_or_default();
    let marker = dir.to_string_lossy();
    let own = std::process::id();
    let found = all.into_iter().filter(|stat| {
        let pid = stat.ident.pid;
        Some(stat.ident) != shim
            && u32::try_from(pid) != Ok(own)
            && (in_cgroup.contains(&pid) || below.contains(&pid) || proc::has_variable(pid, ENV_BOUNDARY_DIR, &marker))
            && !stat.dead()
    });
    Ok(found.collect())
}

/// Kills until nothing is left. The answer is the processes that were killed, or an error text naming those that stay.
pub(crate) fn empty(dir: &Path, start: Option<&Starting>) -> io::Result<Result<usize, String>> {
    let deadline = Instant::now() + LIMIT;
    let holds = start.is_some_and(|start| start.cgroups.can_hold());
    let mut held: BTreeSet<Ident> = BTreeSet::new();
    let mut killed: BTreeSet<Ident> = BTreeSet::new();
    let (mut quiet, mut holding) = (0, 0);
    loop {
        let found = members(dir, start)?;
        if found.is_empty() {
            quiet += 1;
            if quiet >= QUIET_SCANS {
                return Ok(Ok(killed.len()));
            }
            std::thread::sleep(PAUSE);
            continue;
        }
        quiet = 0;
        if Instant::now() >= deadline {
            let names: Vec<String> = found.iter().map(|s| format!("{} ({})", s.ident.pid, s.name)).collect();
            return Ok(Err(names.join(", ")));
        }
        if let Some(start) = start {
            start.cgroups.kill_or_freeze();
        }
        // Where no cgroup holds them still, each is, until a scan finds nobody who could start another one: processes that
        // start each other again would else have to be outrun.
        if !holds && holding < HOLD_SCANS && hold(&found, &mut held) {
            holding += 1;
            continue;
        }
        holding = 0;
        for stat in &found {
            // What cannot be signalled shows as a survivor.
            let _ = stat.ident.signal(nix::libc::SIGKILL);
            killed.insert(stat.ident);
        }
        if let Some(start) = start {
            start.cgroups.thaw();
        }
        std::thread::sleep(PAUSE);
    }
}

/// Stops (SIGSTOP) those that are not yet; false when there were none.
fn hold(found: &[Stat], held: &mut BTreeSet<Ident>) -> bool {
    let mut more = false;
    for stat in found {
        if held.insert(stat.ident) {
            let _ = stat.ident.signal(nix::libc::SIGSTOP);
            more = true;
        }
    }
    more
}
