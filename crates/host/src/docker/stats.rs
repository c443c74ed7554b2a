//! One sample of what a container uses.

use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptions;
use futures_util::StreamExt;
use serde::Serialize;

use super::client::{Docker, QUICK};
use super::container::short;
use super::error::DockerError;

/// What a container used at one moment. Counters run since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ContainerStats {
    /// CPU time used so far, nanoseconds.
    pub cpu_total_ns: u64,
    /// CPU use since the engine's sample one second before, percent of one CPU.
    pub cpu_percent: Option<f64>,
    /// Memory in bytes without the inactive file cache, as `docker stats` shows it.
    pub memory_bytes: u64,
    /// Memory limit in bytes (the host's memory if there is none).
    pub memory_limit_bytes: u64,
    /// Bytes received on all networks; 0 with the host's network, which the engine does not count.
    pub network_rx_bytes: u64,
    /// Bytes sent.
    pub network_tx_bytes: u64,
    /// Bytes read from block devices.
    pub block_read_bytes: u64,
    /// Bytes written to block devices.
    pub block_write_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl Docker {
    /// Takes a sample; lasts about a second, because the engine measures the CPU use over one.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if there is no such container, [`DockerError::Conflict`] if it does not run.
    pub async fn stats(&self, id: &str) -> Result<ContainerStats, DockerError> {
        let doing = format!("read the statistics of container `{}`", short(id));
        let options = StatsOptions { stream: false, one_shot: false };
        let raw = self
            .call(&doing, QUICK, async |d| d.stats(id, Some(options)).next().await.transpose())
            .await?
            .filter(|raw| raw.cpu_stats.as_ref().and_then(|c| c.cpu_usage.as_ref()).is_some());
        match raw {
            // An ended container has a sample, too, in which everything is zero.
            Some(raw) if raw.pids_stats.as_ref().and_then(|p| p.current).is_some() => Ok(sample(&raw)),
            _ => Err(DockerError::Conflict { doing, message: "it does not run".to_owned() }),
        }
    }
}

fn sample(raw: &ContainerStatsResponse) -> ContainerStats {
    let mut stats = ContainerStats {
        cpu_total_ns: raw.cpu_stats.as_ref().and_then(cpu_total).unwrap_or_default(),
        cpu_percent: cpu_percent(raw),
        pids: raw.pids_stats.as_ref().and_then(|p| p.current).unwrap_or_default(),
        ..ContainerStats::default()
    };
    if let Some(memory) = &raw.memory_stats {
        let detail = memory.stats.as_ref();
        // cgroup v1 counts the cache under `total_inactive_file`, v2 under `inactive_file`.
        let cache = detail.and_then(|d| d.get("total_inactive_file").or_else(|| d.get("inactive_file"))).copied();
        let usage = memory.usage.unwrap_or_default();
        stats.memory_bytes = usage.saturating_sub(cache.unwrap_or_default());
        stats.memory_limit_bytes = memory.limit.unwrap_or_default();
    }
    for network in raw.networks.iter().flat_map(|n| n.values()) {
        stats.network_rx_bytes += network.rx_bytes.unwrap_or_default();
        stats.network_tx_bytes += network.tx_bytes.unwrap_or_default();
    }
    let blocks = raw.blkio_stats.as_ref().and_then(|b| b.io_service_bytes_recursive.as_ref());
    for entry in blocks.into_iter().flatten() {
        let value = entry.value.unwrap_or_default();
        match entry.op.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("read") => stats.block_read_bytes += value,
            Some("write") => stats.block_write_bytes += value,
            _ => {}
        }
    }
    stats
}

fn cpu_total(cpu: &bollard::models::ContainerCpuStats) -> Option<u64> {
    cpu.cpu_usage.as_ref()?.total_usage
}

/// Share of the host's CPU time between the two readings, times the number of CPUs: 100 = one CPU busy.
#[expect(clippy::cast_precision_loss, reason = "a percentage needs no 64 bits")]
fn cpu_percent(raw: &ContainerStatsResponse) -> Option<f64> {
    let (now, before) = (raw.cpu_stats.as_ref()?, raw.precpu_stats.as_ref()?);
    let used = cpu_total(now)?.checked_sub(cpu_total(before)?)?;
    let system = now.system_cpu_usage?.checked_sub(before.system_cpu_usage?).filter(|delta| *delta > 0)?;
    let cpus = now
        .online_cpus
        .map(u64::from)
        .filter(|n| *n > 0)
        .or_else(|| Some(now.cpu_usage.as_ref()?.percpu_usage.as_ref()?.len() as u64))?;
    Some(used as f64 / system as f64 * cpus as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_read_as_docker_stats_reads_it() {
        let raw: ContainerStatsResponse = serde_json::from_value(serde_json::json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 3_000_000_000u64}, "system_cpu_usage": 104_000_000_000u64, "online_cpus": 4},
            "precpu_stats": {"cpu_usage": {"total_usage": 2_000_000_000u64}, "system_cpu_usage": 100_000_000_000u64},
            "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"total_inactive_file": 300}},
            "networks": {"eth0": {"rx_bytes": 5, "tx_bytes": 6}, "eth1": {"rx_bytes": 50, "tx_bytes": 60}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "Read", "value": 7}, {"op": "Write", "value": 8}, {"op": "Total", "value": 15}]},
            "pids_stats": {"current": 2},
        }))
        .expect("sample of an engine");
        let stats = sample(&raw);
        assert_eq!(stats.cpu_percent, Some(100.0));
        assert_eq!((stats.memory_bytes, stats.memory_limit_bytes), (700, 4000));
        assert_eq!((stats.network_rx_bytes, stats.network_tx_bytes), (55, 66));
        assert_eq!((stats.block_read_bytes, stats.block_write_bytes, stats.pids), (7, 8, 2));
    }
}
