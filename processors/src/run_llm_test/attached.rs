//! The tasks beside a running service: its output, its end, its samples, its health. Dropping them stops them all.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use testrig_host::{BoundaryId, ExitStatus, accelerators::Accelerators, system::HostSampler};
use testrig_joblog::{Journal, Level, Tail};
use tokio::{io::AsyncWriteExt, sync::watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    dir::RunDir,
    health::{Checker, HealthState},
    service::{Say, Service},
};

/// The journal's name for what the service writes.
pub(super) const SOURCE: &str = "svc";

/// How long the last output of an ended service may take to arrive.
const OUTPUT_LIMIT: Duration = Duration::from_secs(30);

/// How long the end of a service is waited for whose health checks fail.
const END_AFTER_SILENCE: Duration = Duration::from_secs(2);

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

/// What runs beside a service.
pub(super) struct Attached {
    service: Arc<dyn Service>,
    /// How the service ended by itself, once it has.
    ended: watch::Receiver<Option<ExitStatus>>,
    /// Brings the output into the file.
    copy: Option<AbortOnDropHandle<()>>,
    /// Brings the file into the journal, until `written`.
    follow: Option<AbortOnDropHandle<()>>,
    written: CancellationToken,
    _exit: AbortOnDropHandle<()>,
    sampler: Option<AbortOnDropHandle<()>>,
    health: Option<AbortOnDropHandle<()>>,
}

impl Attached {
    /// Starts reading the output and waiting for the end of a service that was started.
    pub(super) fn new(
        service: Arc<dyn Service>,
        journal: Arc<Journal>,
        output: PathBuf,
        max_line: usize,
        exited: watch::Sender<Option<ExitStatus>>,
        say: Say,
    ) -> Self {
        let written = CancellationToken::new();
        let copy = spawn(copy(Arc::clone(&service), written.clone(), Arc::clone(&say)));
        let follow = spawn(follow(journal, output, max_line, written.clone()));
        let ended = exited.subscribe();
        let exit = spawn(exit(Arc::clone(&service), exited, say));
        Self {
            service,
            ended,
            copy: Some(copy),
            follow: Some(follow),
            written,
            _exit: exit,
            sampler: None,
            health: None,
        }
    }

    /// Writes samples of host, service and leased cards into `system-monitor.log`.
    pub(super) fn sample(&mut self, every: Duration, dir: &RunDir, cards: Option<LeasedCards>) {
        let service = Arc::clone(&self.service);
        self.sampler = Some(spawn(sample(service, cards, every, dir.monitor.clone(), dir.path.clone())));
    }

    /// Watches the health of a service that is ready.
    pub(super) fn watch_health(
        &mut self,
        checker: Arc<Checker>,
        state: HealthState,
        unhealthy: watch::Sender<Option<String>>,
    ) {
        let mut ended = self.ended.clone();
        self.health = Some(spawn(async move {
            let why = checker.watch(state).await;
            // One that has ended does not answer either, and its end is the truer word: an engine under load says it later.
            let _ = tokio::time::timeout(END_AFTER_SILENCE, ended.wait_for(Option::is_some)).await;
            unhealthy.send_replace(Some(why));
        }));
    }

    /// Ends what only makes sense while the service is wanted.
    pub(super) fn stop_watching(&mut self) {
        self.health = None;
        self.sampler = None;
    }

    /// Waits until everything that a container wrote is in its file. The shim's file needs no waiting.
    pub(super) async fn settle(&mut self, limit: Duration) -> bool {
        let Some(copy) = &mut self.copy else { return true };
        let done = tokio::time::timeout(limit, copy).await.is_ok();
        if done {
            self.copy = None;
        }
        done
    }

    /// The boundary is empty: brings the rest of the output into file and journal. False when that was not done in time.
    pub(super) async fn finish(mut self) -> bool {
        self.stop_watching();
        let copied = self.settle(OUTPUT_LIMIT).await;
        self.written.cancel();
        let followed = match self.follow.take() {
            Some(follow) => tokio::time::timeout(OUTPUT_LIMIT, follow).await.is_ok(),
            None => true,
        };
        copied && followed
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

async fn copy(service: Arc<dyn Service>, written: CancellationToken, say: Say) {
    let mut said = false;
    // Each try goes on where the file ends.
    while let Err(fault) = service.copy_output().await {
        if !said {
            say(format!("the output of the service cannot be kept for the moment: {}", fault.text));
            said = true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A process goes on writing its file by itself, children included, until the boundary is empty.
    if service.kind() == "container" {
        written.cancel();
    }
}

async fn follow(journal: Arc<Journal>, output: PathBuf, max_line: usize, written: CancellationToken) {
    loop {
        let tail = Tail::new(&output, journal.last_position(SOURCE), max_line);
        match testrig_joblog::follow(&journal, SOURCE, |_| Level::Info, tail, &written).await {
            Ok(_) => return,
            Err(error) => {
                journal.append(
                    Level::Warn,
                    "agent",
                    &format!("failed to read `{}`, trying again: {error}", output.display()),
                );
                if written.is_cancelled() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn exit(service: Arc<dyn Service>, exited: watch::Sender<Option<ExitStatus>>, say: Say) {
    let mut said = false;
    loop {
        match service.ended(Arc::clone(&say)).await {
            Ok(Some(exit)) => {
                exited.send_replace(Some(exit));
                return;
            }
            Ok(None) => return,
            Err(fault) => {
                if !said {
                    say(format!("the state of the service cannot be read for the moment: {}", fault.text));
                    said = true;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn sample(service: Arc<dyn Service>, cards: Option<LeasedCards>, every: Duration, file: PathBuf, dir: PathBuf) {
    let mut sampler = HostSampler::new();
    // The first reading has no CPU use: it only opens the interval.
    if let Ok(sampler) = &mut sampler {
        let _ = sampler.sample();
    }
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let line = sample_line(&service, cards.as_ref(), &mut sampler, &dir).await;
        let written = async {
            let mut out = tokio::fs::OpenOptions::new().append(true).create(true).open(&file).await?;
            out.write_all(format!("{line}\n").as_bytes()).await?;
            out.flush().await
        };
        if let Err(error) = written.await {
            tracing::debug!(file = %file.display(), %error, "a sample was not written");
        }
    }
}

async fn sample_line(
    service: &Arc<dyn Service>,
    cards: Option<&LeasedCards>,
    sampler: &mut std::io::Result<HostSampler>,
    dir: &std::path::Path,
) -> Value {
    let host = match sampler {
        Ok(sampler) => sampler.sample().map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let disk = testrig_host::system::disk(dir).ok();
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
        "service": {"kind": service.kind(), "sample": service.sample().await},
    });
    if let Some(cards) = cards {
        line["accelerators"] = cards.sample().await;
    }
    line
}
