//! The lanes of an agent: a worker each, all of them or none.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use powerjob_worker::{Processor, Shutdown, Worker, WorkerConfig, WorkerHandle};
use testrig_processors::Environment;
use tokio::sync::watch;

use super::{StateDir, leases};
use crate::config::{Config, Lane};

/// What the lanes share: the processors of this agent, the names that its configuration refuses, and the host.
struct Served {
    processors: Vec<(&'static str, Arc<dyn Processor>)>,
    refused: Vec<(&'static str, String)>,
    /// Whether the disk has too little room.
    low: watch::Receiver<bool>,
}

/// Starts every lane. If one cannot be started, those before it may be listed and have taken jobs already: they say goodbye
/// and leave their runs to the next start, as at any other end.
pub(super) async fn start(
    config: &Config,
    environment: &Arc<Environment>,
    state: &StateDir,
    low: watch::Receiver<bool>,
) -> anyhow::Result<Vec<WorkerHandle>> {
    let served = Served {
        processors: testrig_processors::registry(environment, &state.store),
        refused: testrig_processors::refused(environment),
        low,
    };
    let mut workers = Vec::new();
    for lane in &config.lane {
        match start_one(config, lane, environment, state, &served).await {
            Ok(worker) => workers.push(worker),
            Err(error) => {
                futures_util::future::join_all(workers.iter().map(|worker| worker.shutdown(Shutdown::Detach))).await;
                return Err(error).with_context(|| format!("failed to start lane `{}`", lane.name));
            }
        }
    }
    Ok(workers)
}

async fn start_one(
    config: &Config,
    lane: &Lane,
    environment: &Arc<Environment>,
    state: &StateDir,
    all: &Served,
) -> anyhow::Result<WorkerHandle> {
    let served = served_by(config, lane);
    let mut builder = Worker::builder(worker_config(config, lane, environment, &all.low)?)
        .store(state.store.clone())
        .journals(state.journals.clone());
    for (name, processor) in all.processors.iter().filter(|(name, _)| served.contains(name)) {
        builder = builder.processor(*name, Arc::clone(processor));
    }
    for (name, why) in &all.refused {
        builder = builder.refuse(*name, why);
    }
    let worker = builder.start().await?;
    tracing::info!(lane = %lane.name, address = %worker.address(), processors = served.join(","), "lane started");
    Ok(worker)
}

/// Names that a lane serves: its own list, else all that are enabled.
fn served_by<'a>(config: &'a Config, lane: &'a Lane) -> Vec<&'a str> {
    match &lane.processors {
        Some(own) => own.iter().map(String::as_str).collect(),
        None => {
            let ours = config.processors.enabled.iter().map(String::as_str);
            ours.chain(crate::config::official_names(config)).collect()
        }
    }
}

fn worker_config(
    config: &Config,
    lane: &Lane,
    environment: &Environment,
    low: &watch::Receiver<bool>,
) -> anyhow::Result<WorkerConfig> {
    let app_password = config
        .powerjob
        .app_password_file
        .as_deref()
        .map(|f: &Path| crate::client::read_token(f))
        .transpose()
        .map_err(anyhow::Error::msg)?;
    Ok(WorkerConfig {
        app_password,
        listen: lane.listen.clone(),
        advertise: lane.advertise.clone(),
        prefer_interfaces: lane.prefer_interfaces.clone(),
        ignore_interfaces: lane.ignore_interfaces.clone(),
        tag: lane.tag.clone(),
        slots: lane.slots,
        backlog: lane.backlog.unwrap_or(if lane.accelerators { 0 } else { 1024 }),
        host: Some(leases::notices(environment.accelerators.as_ref(), low.clone(), lane)),
        result_limit: config.powerjob.result_limit,
        lane: lane.name.clone(),
        extra_peers: config.powerjob.peers.clone(),
        state_dir: Some(config.state.dir.clone()),
        client: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..WorkerConfig::new(config.powerjob.servers.clone(), config.powerjob.app.clone())
    })
}
