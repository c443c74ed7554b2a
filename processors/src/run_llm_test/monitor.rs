//! Samples of host, service and cards: into `system-monitor.log`, to a Pushgateway, and as figures into the result.

mod push;
mod summary;

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use testrig_host::{
    BoundaryId,
    accelerators::Accelerators,
    process::{Inside, network},
    system::HostSampler,
};
use tokio::io::AsyncWriteExt;

use super::service::{Say, Service};

pub(super) use push::Gateway;
pub(super) use summary::of as summary_of;

/// The first sample comes this early even where the interval is longer, so that a short run has one.
const FIRST: Duration = Duration::from_secs(1);
/// How often it is looked whether the service process in a container is alive.
const LOOK: Duration = Duration::from_millis(500);

/// How often in a row it must be missed.
const LOOKS: u32 = 4;

/// The cards of a run.
pub(super) struct LeasedCards {
    pub(super) accelerators: Arc<dyn Accelerators>,
    pub(super) holder: BoundaryId,
}

impl LeasedCards {
    /// What they do now; null where nobody can look. A figure that a card does not tell is null, too.
    async fn sample(&self) -> Value {
        let Some(cards) = self.accelerators.sample(&self.holder).await else { return Value::Null };
        let card = |(index, state): (u32, testrig_host::accelerators::CardState)| {
            json!({
                "index": index, "memory_used_bytes": state.memory_used_bytes,
                "utilization_percent": state.utilization_percent, "temperature_c": state.temperature_c,
                "power_w": state.power_w, "health": state.health.class,
            })
        };
        cards.into_iter().map(card).collect()
    }
}

/// What is sampled, and where it goes.
pub(super) struct Monitor {
    pub(super) service: Arc<dyn Service>,
    pub(super) cards: Option<LeasedCards>,
    pub(super) every: Duration,
    /// `system-monitor.log`.
    pub(super) file: PathBuf,
    /// The disk under it is sampled.
    pub(super) dir: PathBuf,
    pub(super) gateway: Option<Arc<Gateway>>,
    /// The service process in the container (`monitor.trackMode` BOTH).
    pub(super) inside: Option<Arc<Mutex<Inside>>>,
    pub(super) say: Say,
}

impl Monitor {
    /// Takes samples until it is dropped.
    pub(super) async fn run(self) {
        let mut sampler = HostSampler::new();
        // The first reading has no CPU use: it only opens the interval.
        if let Ok(sampler) = &mut sampler {
            let _ = sampler.sample();
        }
        let first = tokio::time::Instant::now() + self.every.min(FIRST);
        let mut ticks = tokio::time::interval_at(first, self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            ticks.tick().await;
            let line = self.sample(&mut sampler).await;
            let written = async {
                let mut out = tokio::fs::OpenOptions::new().append(true).create(true).open(&self.file).await?;
                out.write_all(format!("{line}\n").as_bytes()).await?;
                out.flush().await
            };
            if let Err(error) = written.await {
                tracing::debug!(file = %self.file.display(), %error, "a sample was not written");
            }
            if let Some(gateway) = &self.gateway
                && let Err(why) = gateway.push_sample(&line).await
                && !told
            {
                (self.say)(format!("the samples do not reach the Pushgateway for the moment: {why}"));
                told = true;
            }
        }
    }

    async fn sample(&self, sampler: &mut std::io::Result<HostSampler>) -> Value {
        let host = match sampler {
            Ok(sampler) => sampler.sample().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let disk = testrig_host::system::disk(&self.dir).ok();
        let mut service = json!({"kind": self.service.kind(), "sample": self.service.sample().await});
        if let Some(inside) = &self.inside {
            let inside = Arc::clone(inside);
            let sample = tokio::task::spawn_blocking(move || inside.lock().sample()).await.ok().flatten();
            service["process"] = json!(sample);
        }
        let mut line = json!({
            "time_ms": jiff::Timestamp::now().as_millisecond(),
            "host": match host {
                Ok(host) => json!({
                    "cpu_percent": host.cpu_percent, "cpus": host.cpus, "load": host.load,
                    "memory_total_bytes": host.memory_total_bytes, "memory_used_bytes": host.memory_used_bytes,
                    "swap_total_bytes": host.swap_total_bytes, "swap_used_bytes": host.swap_used_bytes,
                }),
                Err(error) => json!({"error": error}),
            },
            "disk": disk.map(|disk| json!({"total_bytes": disk.total_bytes, "available_bytes": disk.available_bytes})),
            "service": service,
        });
        if let Some(cards) = &self.cards {
            line["accelerators"] = cards.sample().await;
        }
        line
    }
}

/// Waits until the service process in a container has ended although the container goes on; says so.
pub(super) async fn lost_inside(inside: Arc<Mutex<Inside>>) -> String {
    let mut missed = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let look = Arc::clone(&inside);
        let lost = tokio::task::spawn_blocking(move || look.lock().lost()).await.ok().flatten();
        missed = if lost.is_some() { missed + 1 } else { 0 };
        // A server that starts itself anew leaves its port for a moment.
        if let Some(who) = lost.filter(|_| missed >= LOOKS) {
            return format!(
                "the service process in the container ({who}) ended by itself, its container goes on (monitor.trackMode BOTH)"
            );
        }
    }
}

/// The network's figures beside those of a service, where somebody knows them.
pub(super) fn with_network(sample: Value, pid: Option<i32>) -> Value {
    let bytes = pid.and_then(network).and_then(|bytes| serde_json::to_value(bytes).ok());
    match (sample, bytes) {
        (Value::Object(mut sample), Some(Value::Object(bytes))) => {
            sample.extend(bytes);
            Value::Object(sample)
        }
        (sample, _) => sample,
    }
}
