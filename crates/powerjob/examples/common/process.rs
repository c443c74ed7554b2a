//! What `/proc` says of a process.

use std::{fs, time::Duration};

use anyhow::Context;

use crate::Failure;

/// Memory, threads and processor time of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Resident memory, KiB.
    pub(crate) rss_kib: u64,
    /// Highest resident memory so far, KiB.
    pub(crate) peak_kib: u64,
    pub(crate) threads: u64,
    /// User and system time.
    pub(crate) cpu: Duration,
}

/// Reads the figures of a process.
pub(crate) fn sample(pid: u32) -> Result<Sample, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the worker has ended")?;
    let field = |name: &str| -> Result<u64, Failure> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("/proc/{pid}/status has no {name}"))
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind = stat.rsplit_once(')').context("/proc/PID/stat has no name")?.1;
    let ticks: u64 = behind.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(Sample {
        rss_kib: field("VmRSS:")?,
        peak_kib: field("VmHWM:")?,
        threads: field("Threads:")?,
        // USER_HZ is 100 wherever this runs.
        cpu: Duration::from_millis(ticks * 10),
    })
}
