//! What `/proc` says of the worker's process.

use std::{fs, time::Duration};

use anyhow::Context;

use crate::Failure;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) rss_kib: u64,
    pub(crate) threads: u64,
    /// User and system time.
    pub(crate) cpu: Duration,
}

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
    // USER_HZ is 100 wherever this runs.
    Ok(Sample { rss_kib: field("VmRSS:")?, threads: field("Threads:")?, cpu: Duration::from_millis(ticks * 10) })
}
