//! The host figures of a heartbeat.
//!
//! They are taken on a thread of their own, because asking for a file system that hangs (a dead NFS server) would
//! otherwise stop the heartbeats; then the last figures go out again.

use std::{collections::HashSet, time::Duration};

use sysinfo::{Disks, System};
use tokio::sync::watch;

use crate::wire::SystemMetrics;

const EVERY: Duration = Duration::from_secs(9);
/// Longest wait for the first figures.
const FIRST: Duration = Duration::from_secs(2);

/// The newest figures.
#[derive(Clone, Debug)]
pub(crate) struct HostMetrics {
    newest: watch::Receiver<Option<SystemMetrics>>,
}

impl HostMetrics {
    /// Starts the thread; it ends by itself when the last reader is gone.
    pub(crate) fn spawn() -> std::io::Result<Self> {
        let mut system = System::new().map_err(std::io::Error::other)?;
        let (sender, newest) = watch::channel(None);
        std::thread::Builder::new().name("host-metrics".to_owned()).spawn(move || {
            while !sender.is_closed() {
                sender.send_replace(Some(sample(&mut system)));
                for _ in 0..EVERY.as_secs() {
                    if sender.is_closed() {
                        return;
                    }
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        })?;
        Ok(Self { newest })
    }

    /// The newest figures; without any after two seconds, figures with an unknown load and no disk.
    pub(crate) async fn get(&self) -> SystemMetrics {
        let mut newest = self.newest.clone();
        let arrived = tokio::time::timeout(FIRST, newest.wait_for(Option::is_some)).await;
        match arrived {
            Ok(Ok(figures)) => figures.clone().unwrap_or_default(),
            _ => SystemMetrics::from_bytes(processors(), -1.0, 0, 1, 0, 0),
        }
    }
}

fn sample(system: &mut System) -> SystemMetrics {
    system.refresh_memory();
    let total = system.total_memory();
    let used = total.saturating_sub(system.available_memory());
    let (disk_used, disk_total) = disks();
    SystemMetrics::from_bytes(
        processors(),
        System::load_average().map_or(-1.0, |load| load.one),
        used,
        total,
        disk_used,
        disk_total,
    )
}

fn processors() -> i32 {
    std::thread::available_parallelism().map_or(1, |n| i32::try_from(n.get()).unwrap_or(i32::MAX))
}

/// All file systems, each once however often it is mounted.
fn disks() -> (u64, u64) {
    let Ok(disks) = Disks::new_with_refreshed_list() else {
        return (0, 0);
    };
    let mut seen = HashSet::new();
    let mut sum = (0, 0);
    for disk in disks.iter() {
        if seen.insert((disk.name().to_owned(), disk.total_space())) {
            sum.0 += disk.total_space().saturating_sub(disk.available_space());
            sum.1 += disk.total_space();
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_figures_of_this_host_do_not_exclude_it_from_dispatch() {
        let metrics = HostMetrics::spawn().expect("a thread").get().await;
        assert!(metrics.cpu_processors >= 1 && metrics.jvm_max_memory > 0.0, "{metrics:?}");
        assert!(metrics.jvm_used_memory <= metrics.jvm_max_memory && metrics.disk_used <= metrics.disk_total);
    }
}
