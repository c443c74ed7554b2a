//! One sample of what a boundary's processes use.

use std::time::Instant;

use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

use super::proc::{self, Stat};

/// What the processes of a boundary used at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProcessStats {
    /// CPU time used so far, nanoseconds. Without a cgroup, that of the living processes and of children they waited for.
    pub cpu_total_ns: u64,
    /// CPU use since the last sample of the same handle, percent of one CPU; absent in the first one.
    pub cpu_percent: Option<f64>,
    /// Resident memory of all processes, bytes (shared pages count in each).
    pub memory_bytes: u64,
    /// Bytes that the living processes read from block devices.
    pub block_read_bytes: u64,
    /// Bytes that the living processes wrote to block devices.
    pub block_write_bytes: u64,
    /// Number of processes.
    pub processes: u64,
}

/// CPU time at an earlier sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuMark {
    at: Instant,
    total_ns: u64,
}

/// Sums up; `cpu_ns` is the cgroup's count, if there is one.
pub(super) fn sample(members: &[Stat], cpu_ns: Option<u64>, last: &mut Option<CpuMark>) -> ProcessStats {
    let setting = |name, default| sysconf(name).ok().flatten().and_then(|v| u64::try_from(v).ok()).unwrap_or(default);
    let ticks_per_second = setting(SysconfVar::CLK_TCK, 100);
    let page = setting(SysconfVar::PAGE_SIZE, 4096);
    let mut stats = ProcessStats { processes: members.len() as u64, ..ProcessStats::default() };
    let mut ticks = 0;
    for member in members {
        ticks += member.cpu_ticks;
        stats.memory_bytes += member.resident_pages * page;
        let (read, written) = proc::block_io(member.ident.pid).unwrap_or_default();
        stats.block_read_bytes += read;
        stats.block_write_bytes += written;
    }
    stats.cpu_total_ns = cpu_ns.unwrap_or_else(|| ticks * (1_000_000_000 / ticks_per_second));
    let now = CpuMark { at: Instant::now(), total_ns: stats.cpu_total_ns };
    stats.cpu_percent = last.and_then(|before| cpu_percent(before, now));
    *last = Some(now);
    stats
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no 64 bits")]
fn cpu_percent(before: CpuMark, now: CpuMark) -> Option<f64> {
    let wall = now.at.checked_duration_since(before.at)?.as_nanos() as f64;
    // Processes that ended without a cgroup to count them take their time with them.
    let used = now.total_ns.saturating_sub(before.total_ns) as f64;
    (wall > 0.0).then(|| used / wall * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn cpu_use_is_the_time_used_between_two_samples() {
        let at = Instant::now();
        let before = CpuMark { at, total_ns: 5_000_000_000 };
        let now = CpuMark { at: at + Duration::from_secs(2), total_ns: 8_000_000_000 };
        assert_eq!(cpu_percent(before, now), Some(150.0));
        assert_eq!(cpu_percent(now, before), None);
    }

    #[test]
    fn the_cgroups_count_goes_before_the_sum_over_processes() {
        let own = proc::stat(i32::try_from(std::process::id()).expect("pid")).expect("this process");
        let mut last = None;
        let stats = sample(std::slice::from_ref(&own), Some(7), &mut last);
        assert_eq!((stats.cpu_total_ns, stats.processes, stats.cpu_percent), (7, 1, None));
        assert!(stats.memory_bytes > 0);
    }
}
