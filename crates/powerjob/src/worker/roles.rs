//! The two roles of a worker for instances with tasks, wired together: it owns some, and executes tasks of its own and of
//! others.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use testrig_store::Store;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::{
    Counters, WorkerConfig, WorkerError,
    driver::{Clock, Input},
    registry::Registry,
    shared::Shared,
    task_logs::{Given, TaskLogs},
};
use crate::{
    RestartPolicy,
    client::Transport,
    core::Owner,
    server::{Reading, TaskRoutes},
    tasks::{
        Exchange, HttpPeers, ServerCluster, TaskStore, TrackerDeps, TrackerHost, TrackerOptions,
        api::{TrackerPeer, WorkerPeer},
        processor::{Options, ProcessorDeps, ProcessorTrackers},
    },
    wire::ServerScheduleJobReq,
};

/// How often the table of tasks is searched for rows that nobody needs.
const TIDY_EVERY: Duration = Duration::from_secs(600);

/// What both roles need.
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a WorkerConfig,
    pub(super) address: &'a str,
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) transport: Transport,
    pub(super) owner: watch::Receiver<Option<Owner>>,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    pub(super) inbox: mpsc::Sender<Input>,
    pub(super) tasks: TaskTracker,
}

/// Both roles.
pub(super) struct Roles {
    pub(super) trackers: TrackerHost,
    pub(super) processors: Arc<ProcessorTrackers>,
    pub(super) given: Given,
    /// For [`Roles::know`].
    shared: Arc<OnceLock<Weak<Shared>>>,
    counters: Arc<Counters>,
    tasks: TaskTracker,
    address: String,
    peer: Arc<dyn TrackerPeer>,
}

impl Roles {
    /// Wires them; tasks of other workers that the store holds are taken up.
    pub(super) async fn start(around: Surroundings<'_>) -> Result<Self, WorkerError> {
        let Surroundings { config, address, store, registry, transport, owner, clock, counters, inbox, tasks } = around;
        let exchange = Arc::new(Exchange::new(address, HttpPeers::new(transport.clone())));
        let clock = Arc::new(move || clock.now());
        let shared: Arc<OnceLock<Weak<Shared>>> = Arc::default();
        let (policies, silent, opened) = (registry.clone(), shared.clone(), shared.clone());
        let trackers = TrackerHost::new(TrackerDeps {
            lane: config.lane.clone(),
            address: address.to_owned(),
            table: table(&store, &config.lane),
            peers: exchange.clone(),
            cluster: Arc::new(ServerCluster::new(transport, owner)),
            clock: clock.clone(),
            server_silent_ms: Arc::new(move |instance_id| {
                let shared = silent.get().and_then(Weak::upgrade);
                shared.map_or(0, |shared| shared.server_silent_ms(instance_id))
            }),
            is_open: Arc::new(move |instance_id| {
                // A worker that is still starting, or has ended, does not know.
                let shared = opened.get().and_then(Weak::upgrade);
                shared.is_none_or(|shared| shared.record(instance_id).is_some())
            }),
            restart_policy: Arc::new(move |request: &ServerScheduleJobReq| {
                let name = request.processor_info.as_deref().unwrap_or_default();
                policies.find_named(name).map_or(RestartPolicy::Fail, |processor| processor.restart_policy())
            }),
            options: TrackerOptions { context_limit: config.context_limit, ..TrackerOptions::default() },
        });
        tasks.spawn(tidy(trackers.clone(), inbox.clone()));
        let given = Given::default();
        let processors = ProcessorTrackers::start(ProcessorDeps {
            lane: config.lane.clone(),
            address: address.to_owned(),
            store,
            registry,
            logs: Arc::new(TaskLogs { inbox, given: given.clone() }),
            trackers: exchange.clone(),
            clock,
            counters: counters.clone(),
            tasks: tasks.clone(),
            options: Options {
                result_limit: config.result_limit,
                context_limit: config.context_limit,
                ..Options::default()
            },
        });
        let processors = Arc::new(processors.await?);
        let peer: Arc<dyn TrackerPeer> = Arc::new(trackers.clone());
        let worker: Arc<dyn WorkerPeer> = processors.clone();
        exchange.connect(&worker, &peer);
        Ok(Self { trackers, processors, given, shared, counters, tasks, address: address.to_owned(), peer })
    }

    /// Makes the rest of the worker known to them.
    pub(super) fn know(&self, shared: &Arc<Shared>) {
        // Only the first call counts.
        let _ = self.shared.set(Arc::downgrade(shared));
    }

    /// The paths that other workers call.
    pub(super) fn routes(&self) -> TaskRoutes {
        TaskRoutes {
            address: self.address.clone(),
            processors: self.processors.clone(),
            trackers: self.peer.clone(),
            tasks: self.tasks.clone(),
            reading: Reading { counters: self.counters.clone() },
        }
    }
}

/// Tidies the table now and then, until the driver is gone.
async fn tidy(trackers: TrackerHost, inbox: mpsc::Sender<Input>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TIDY_EVERY) => trackers.tidy().await,
            () = inbox.closed() => return,
        }
    }
}

/// `tasks.db` beside the store, one a lane, so that each has its own writer.
fn table(store: &Store, lane: &str) -> TaskStore {
    let Some(dir) = store.path().parent().filter(|_| store.path() != std::path::Path::new(":memory:")) else {
        return TaskStore::in_memory();
    };
    let name = match lane {
        "main" => "tasks.db".to_owned(),
        lane => {
            let lane = percent_encoding::utf8_percent_encode(lane, percent_encoding::NON_ALPHANUMERIC);
            format!("tasks-{lane}.db")
        }
    };
    TaskStore::at(PathBuf::from(dir).join(name))
}
