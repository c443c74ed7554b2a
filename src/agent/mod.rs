//! `testrig agent`: everything wired together, from the state directory to the signals.

mod environment;
mod jobs;
mod lanes;
mod leases;
mod retention;
mod room;
pub(crate) mod signals;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use powerjob_worker::{Shutdown, WorkerHandle};
use testrig_joblog::{Journals, Limits};
use testrig_processors::PlatformLogs;
use testrig_store::{Migration, StateDirLock, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use environment::environment;

use crate::{
    admin,
    cli::AgentArgs,
    config::{Config, OnSigterm, Purpose, load},
};
use signals::Stops;

/// How long the last lines for test platforms may take at the end.
const LAST_LINES: Duration = Duration::from_millis(400);

/// Runs the agent until SIGTERM or Ctrl-C.
pub(crate) async fn command(args: &AgentArgs) -> ExitCode {
    let sources = match args.sources() {
        Ok(sources) => sources,
        Err(e) => return crate::usage(&e),
    };
    let config = match load(&sources, std::env::vars(), Purpose::Agent) {
        Ok(config) => config,
        Err(e) => return crate::usage(&e.to_string()),
    };
    let drain = config.shutdown.on_sigterm == OnSigterm::Drain;
    let mut stops = match Stops::listen() {
        Ok(stops) => stops,
        Err(e) => return crate::fail(&format!("failed to listen for SIGTERM and SIGINT: {e}")),
    };
    let started = tokio::select! {
        started = Agent::start(config) => started,
        () = stops.next() => {
            tracing::info!("stopped while it was starting");
            return ExitCode::SUCCESS;
        }
    };
    let mut agent = match started {
        Ok(agent) => agent,
        Err(e) => return crate::fail(&format!("{e:#}")),
    };
    tokio::select! {
        () = stops.next() => {}
        what = agent.broken() => {
            agent.shutdown(Shutdown::Detach).await;
            return crate::fail(&format!(
                "{what} ended unasked, so the agent ends too; its log says why. Started again, it takes up what is open"
            ));
        }
    }
    end(&agent, drain, &mut stops).await;
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// Ends as configured. While a drain waits, a second signal cancels what runs and a third one leaves it to the next agent.
async fn end(agent: &Agent, drain: bool, stops: &mut Stops) {
    let steps = [
        (
            Shutdown::Drain,
            "draining: no new instances are taken, open ones are waited for; a second signal cancels them",
        ),
        (
            Shutdown::Cancel,
            "cancelling: open instances are ended and reported FAILED; a third signal leaves them as they are",
        ),
    ];
    for (how, text) in steps.into_iter().filter(|_| drain) {
        tracing::info!("{text}");
        tokio::select! {
            () = agent.shutdown(how) => return,
            () = stops.next() => {}
        }
    }
    agent.shutdown(Shutdown::Detach).await;
}

/// All tables of the agent's store.
pub(crate) fn migrations() -> Vec<Migration> {
    [testrig_joblog::MIGRATIONS, powerjob_worker::MIGRATIONS, testrig_processors::MIGRATIONS].concat()
}

/// A state directory in use: nobody else has it.
pub(crate) struct StateDir {
    /// Held as long as the directory is used.
    _lock: StateDirLock,
    pub(crate) store: Store,
    pub(crate) journals: Journals,
}

impl StateDir {
    /// Creates the directory if need be, locks it, opens store and journals.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let dir = &config.state.dir;
        std::fs::create_dir_all(dir).with_context(|| {
            format!("failed to create the state directory {} (`state.dir`, --state-dir); choose one that this user can write to", dir.display())
        })?;
        let lock = StateDirLock::acquire(dir)?;
        let store = Store::open(&dir.join("testrig.db"), &migrations())?;
        let limits = Limits { max_bytes_per_journal: config.journal.max_bytes, ..Limits::default() };
        let journals = Journals::open(&dir.join("journals"), limits, store.clone())
            .with_context(|| format!("failed to open the journals in {}", dir.join("journals").display()))?;
        Ok(Self { _lock: lock, store, journals })
    }
}

/// A running agent.
pub(crate) struct Agent {
    workers: Arc<Vec<WorkerHandle>>,
    admin: JoinHandle<std::io::Result<()>>,
    admin_state: Arc<admin::AdminState>,
    admin_address: SocketAddr,
    retention: JoinHandle<()>,
    runs: JoinHandle<()>,
    leases: JoinHandle<()>,
    logs: Arc<PlatformLogs>,
    stopping: CancellationToken,
    state: StateDir,
}

impl Agent {
    /// Starts everything; an error leaves nothing behind.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        let state = StateDir::open(&config)?;
        let token = config
            .admin
            .token_file
            .as_deref()
            .map(crate::client::read_token)
            .transpose()
            .map_err(anyhow::Error::msg)?;
        let (listener, admin_address) = admin::bind(&config.admin.listen).await?;
        let mut environment = environment(&config)?;
        environment.jobs = Some(Arc::new(jobs::ServerJobs::new(&config)?));
        let logs = Arc::new(PlatformLogs::new(state.store.clone(), environment.http.clone()));
        environment.platform_logs = Some(Arc::clone(&logs));
        let environment = Arc::new(environment);
        let stopping = CancellationToken::new();
        // Also where the start fails: nobody looks any more then.
        let low = room::watch(config.state.dir.clone(), config.disk.floor_bytes, stopping.clone());
        let workers = lanes::start(&config, &environment, &state, low).await.inspect_err(|_| stopping.cancel())?;
        let workers = Arc::new(workers);
        if let Err(error) = logs.resume(&state.journals).await {
            tracing::warn!(%error, "what had not reached the test platform before the restart is not sent");
        }
        let own = (admin_address, config.admin.hosts.as_slice());
        let boundaries = environment.boundaries.clone();
        let admin_state =
            admin::AdminState::new(state.journals.clone(), Arc::clone(&workers), token, own, stopping.clone())
                .with_boundaries(boundaries.clone());
        let admin_state = Arc::new(admin_state);
        let admin = tokio::spawn(admin::serve(listener, Arc::clone(&admin_state)));
        let retention = tokio::spawn(retention::run(
            state.journals.clone(),
            Arc::clone(&workers),
            config.journal.retention_days,
            stopping.clone(),
        ));
        let runs = tokio::spawn(retention::runs(Arc::clone(&environment), state.store.clone(), stopping.clone()));
        let leases = tokio::spawn(leases::run(environment, state.store.clone(), stopping.clone()));
        tracing::info!(kind = %boundaries.kind(), why = boundaries.why(), "host processes are held by {}", boundaries.words());
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), state = %config.state.dir.display(), admin = %admin_address,
            "testrig agent is up: ws://{admin_address}/ws/log, http://{admin_address}/metrics"
        );
        Ok(Self { workers, admin, admin_state, admin_address, retention, runs, leases, logs, stopping, state })
    }

    /// Where the admin port is.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The journals of this agent's instances.
    pub(crate) fn journals(&self) -> &Journals {
        &self.state.journals
    }

    /// The lanes.
    pub(crate) fn workers(&self) -> &[WorkerHandle] {
        &self.workers
    }

    /// Waits until a part of the agent ends that nobody has asked to, and names it.
    pub(crate) async fn broken(&mut self) -> String {
        let lanes = self.workers.iter().map(|worker| {
            Box::pin(async move {
                worker.ended().await;
                format!("lane `{}`", worker.status().lane)
            })
        });
        tokio::select! {
            (lane, ..) = futures_util::future::select_all(lanes) => lane,
            _ = &mut self.admin => format!("the admin port {}", self.admin_address),
            _ = &mut self.retention => "the removal of old journals".to_owned(),
            _ = &mut self.runs => "the removal of old runs".to_owned(),
            _ = &mut self.leases => "the care for the accelerators".to_owned(),
        }
    }

    /// Ends: with `Drain` after the running instances, with `Detach` at once and leaving their services running. All lanes
    /// side by side, so that none takes jobs while another one ends. Subscribers of logs are told.
    pub(crate) async fn shutdown(&self, how: Shutdown) {
        futures_util::future::join_all(self.workers.iter().map(|worker| worker.shutdown(how))).await;
        self.logs.finish(LAST_LINES).await;
        self.stopping.cancel();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        let ended = || {
            self.admin.is_finished()
                && self.retention.is_finished()
                && self.runs.is_finished()
                && self.leases.is_finished()
                && self.admin_state.subscribers() == 0
        };
        while !ended() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
