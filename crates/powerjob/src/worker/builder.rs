//! From a configuration to a running worker.

use std::{io, sync::Arc};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use testrig_joblog::{Journals, Limits};
use testrig_store::{LockError, StateDirLock, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Counters, HostNotice, WorkerConfig, WorkerHandle, address,
    clock::ServerClock,
    cluster::AskOwner,
    driver::{Driver, Input, Parts},
    heavy::Trackers,
    interfaces::{self, Candidate},
    logs::{self, Logs},
    metrics::HostMetrics,
    records::Records,
    registry::Registry,
    reports::Reports,
    roles::{Roles, Surroundings},
    runs::Runs,
    shared::Shared,
    silence::Silence,
};
use crate::{
    client::{Discovery, Transport, Web, http_client},
    core::{Core, CoreConfig, Event},
    openapi::OpenApi,
    processor::Processor,
    server::{Inbound, JobOf, Listener, Peers, Reading, Routes, Served, StoreProblem},
    wire::{InstanceDetail, ServerScheduleJobReq},
};

/// Inputs that may wait for the driver. When it is full, those who send wait: a server's request until its own time-out,
/// an answer or the end of a processor as long as it takes.
const INBOX: usize = 1024;

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Mistakes in the configuration, all of them.
    #[error("the worker's configuration has {} mistake(s):\n  {}", .0.len(), .0.join("\n  "))]
    Config(Vec<String>),
    /// The port cannot be bound.
    #[error("{0}")]
    Bind(String),
    /// No address of its own was found.
    #[error("{0}")]
    Address(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process uses the state directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journals cannot be opened.
    #[error(transparent)]
    Journals(#[from] io::Error),
    /// The HTTP client cannot be built.
    #[error("failed to set up the HTTP client")]
    Http(#[from] reqwest::Error),
    /// A stored record cannot be read.
    #[error(
        "failed to read the stored record of {what} ({why}): it was written by another version; start that one and let it \
         drain, or move the state store away to begin without open instances"
    )]
    Record {
        /// Of what.
        what: String,
        /// Why not.
        why: String,
    },
}

/// Entry point.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Begins with a configuration.
    pub fn builder(config: WorkerConfig) -> WorkerBuilder {
        WorkerBuilder {
            config,
            store: None,
            journals: None,
            registry: Registry::default(),
            trackers: None,
            interfaces: None,
        }
    }
}

/// Takes what a worker needs besides its configuration.
pub struct WorkerBuilder {
    config: WorkerConfig,
    store: Option<Store>,
    journals: Option<Journals>,
    registry: Registry,
    trackers: Option<Arc<dyn Trackers>>,
    /// In place of those that this host has.
    interfaces: Option<Vec<Candidate>>,
}

impl WorkerBuilder {
    /// The store, opened with [`MIGRATIONS`](crate::MIGRATIONS) and those of [`joblog`](crate::joblog). Without it, one in
    /// [`WorkerConfig::state_dir`].
    ///
    /// ```
    /// # use powerjob_worker::{Journals, Limits, MIGRATIONS, Store, Worker, WorkerConfig, joblog};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = std::env::temp_dir().join(format!("powerjob-worker-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// let store = Store::open(&dir.join("mine.db"), &[MIGRATIONS, joblog::MIGRATIONS].concat())?;
    /// let journals = Journals::open(&dir.join("journals"), Limits::default(), store.clone())?;
    /// let worker = Worker::builder(WorkerConfig::new(["127.0.0.1:7700"], "my-app")).store(store).journals(journals);
    /// # drop(worker);
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// The journals of the instances. Without them, some in [`WorkerConfig::state_dir`].
    #[must_use]
    pub fn journals(mut self, journals: Journals) -> Self {
        self.journals = Some(journals);
        self
    }

    /// Serves jobs with this `processorInfo`.
    #[must_use]
    pub fn processor(mut self, name: impl Into<String>, processor: Arc<dyn Processor>) -> Self {
        self.registry.insert(name.into(), processor);
        self
    }

    /// Ends jobs with this `processorInfo` as FAILED with this text: it is known, but not served here.
    #[must_use]
    pub fn refuse(mut self, name: impl Into<String>, why: impl Into<String>) -> Self {
        self.registry.refuse(name.into(), why.into());
        self
    }

    /// Serves every other `processorInfo`.
    #[must_use]
    pub fn fallback(mut self, processor: Arc<dyn Processor>) -> Self {
        self.registry.set_fallback(processor);
        self
    }

    /// Who runs instances with tasks.
    #[cfg(test)]
    pub(crate) fn trackers(mut self, trackers: Arc<dyn Trackers>) -> Self {
        self.trackers = Some(trackers);
        self
    }

    /// The addresses that this host has.
    #[cfg(test)]
    pub(crate) fn interfaces(mut self, interfaces: Vec<Candidate>) -> Self {
        self.interfaces = Some(interfaces);
        self
    }

    /// Binds the port, takes up what the store holds, and starts. No server needs to be up.
    ///
    /// # Errors
    /// [`WorkerError`]: mistakes in the configuration, a busy port, a store or journal directory that cannot be used.
    pub async fn start(self) -> Result<WorkerHandle, WorkerError> {
        let Self { config, store, journals, registry, trackers, interfaces } = self;
        let mut mistakes = Vec::new();
        if registry.is_empty() {
            mistakes.push("processors: none is given; a worker without processors can only fail jobs".to_owned());
        }
        if config.state_dir.is_none() && (store.is_none() || journals.is_none()) {
            mistakes.push("state_dir: give a directory, or a store and journals".to_owned());
        }
        let checked = match config.check() {
            Ok(checked) if mistakes.is_empty() => checked,
            Ok(_) => return Err(WorkerError::Config(mistakes)),
            Err(more) => {
                mistakes.extend(more);
                return Err(WorkerError::Config(mistakes));
            }
        };
        let (lock, store, journals) = open_state(&config, store, journals).await?;
        let records = Records::new(store.clone(), config.lane.clone());
        let loaded = records.load().await?;

        let stored = loaded.address.filter(|_| !loaded.recovered.records.is_empty());
        let http = http_client()?;
        let mut listener = address::listen(&checked, stored.as_deref()).await?;
        let (port, web) = (listener.port(), Web { http: http.clone() });
        let reaches = |ip| address::reached_by(&web, &checked.servers, ip, port);
        let host = interfaces.unwrap_or_else(interfaces::of_this_host);
        let own = tokio::select! {
            own = address::choose(&checked, config.advertise.as_deref(), port, host, stored, reaches) => own?,
            () = listener.answer_pings() => unreachable!("pings are answered without end"),
        };
        records.set_address(&own).await?;

        let counters = Arc::new(Counters::default());
        let (inbox, inputs) = mpsc::channel(INBOX);
        let tasks = TaskTracker::new();
        let server_clock = Arc::new(ServerClock::default());
        let clock = super::driver::Clock::start(server_clock.clone());
        let owner = watch::Sender::new(None);
        let transport = Transport::new();
        let roles = Roles::start(Surroundings {
            config: &config,
            address: &own,
            store,
            registry: registry.clone(),
            transport: transport.clone(),
            owner: owner.subscribe(),
            clock: clock.clone(),
            counters: counters.clone(),
            inbox: inbox.clone(),
            tasks: tasks.clone(),
        })
        .await?;
        let shared = Arc::new(Shared {
            address: own.clone(),
            counters: counters.clone(),
            transport,
            trackers: trackers.unwrap_or_else(|| Arc::new(roles.trackers.clone())),
            processors: Some(roles.processors.clone()),
            silence: Silence::new(std::time::Instant::now()),
            clock: server_clock,
            owner,
            log_owner: watch::Sender::new(None),
            records: RwLock::new(
                loaded.recovered.records.iter().map(|r| (r.dispatch.instance_id, Arc::new(r.clone()))).collect(),
            ),
            state: RwLock::default(),
            generation: watch::Sender::new(0),
            config,
        });
        roles.know(&shared);
        let config = &shared.config;
        let cluster = Arc::new(AskOwner::new(shared.clone(), http.clone()));
        let peers = Arc::new(Peers::new(checked.peers.clone()).with_cluster(cluster));
        peers.resolve(&checked.servers).await;
        if let Some(owner) = &loaded.recovered.owner {
            peers.set_owner(&owner.transport).await;
        }

        let core_config = CoreConfig {
            address: own,
            slots: config.slots,
            backlog: config.backlog,
            heavy: config.heavy,
            result_limit: config.result_limit,
            context_limit: config.context_limit,
        };
        let forgotten: Vec<(i64, String)> =
            loaded.open_logs.into_iter().filter(|(id, _)| shared.record(*id).is_none()).collect();
        let open = loaded.recovered.records.iter().map(|record| record.dispatch.instance_id).collect();
        let taken_up = logs::take_up(&journals, open, forgotten).await?;
        let logs = Logs::new(journals, taken_up.open, shared.clone(), inbox.clone(), tasks.clone());
        let core = Core::new(core_config, loaded.recovered, clock.now());
        let driver = Driver::new(Parts {
            clock,
            core,
            records,
            reports: Reports::new(shared.clone(), inbox.clone(), tasks.clone()),
            runs: Runs::new(registry, inbox.clone(), tasks.clone(), shared.clone()),
            logs,
            discovery: Arc::new(Discovery::new(checked.servers.clone(), config.app.clone(), http)),
            openapi: openapi(config, &checked.servers),
            metrics: HostMetrics::spawn()?,
            peers: peers.clone(),
            shared: shared.clone(),
            inbox: inbox.clone(),
            inputs,
            tasks: tasks.clone(),
            logs_closed: taken_up.closed,
            requests: loaded.requests,
            given: roles.given.clone(),
        });

        if let Some(host) = config.host.clone() {
            tasks.spawn(watch_host(host, inbox.clone()));
        }
        let kill = CancellationToken::new();
        let (gone_sender, gone) = watch::channel(false);
        tracing::info!(
            lane = config.lane,
            app = config.app,
            address = shared.address,
            listen = %checked.listen,
            processors = ?driver.processors(),
            "worker starts"
        );
        let inbound = Arc::new(Requests { shared: shared.clone(), peers: peers.clone(), inbox: inbox.clone() });
        let routes = Routes { inbound, reading: Reading { counters: counters.clone() } }.router();
        let routes = routes.merge(roles.routes().router());
        let jobs: JobOf = {
            let shared = shared.clone();
            Arc::new(move |instance_id| shared.record(instance_id).map(|record| record.dispatch.job_id))
        };
        let served = Served::new(routes, peers.clone(), jobs, counters).with_engaged(roles.processors.clone());
        #[cfg(test)]
        let known_peers = peers.clone();
        let own_tasks =
            OwnTasks { listener, served, peers, servers: checked.servers, tasks, kill: kill.clone(), _lock: lock };
        let driver = tokio::spawn(async move {
            own_tasks.run(driver).await;
            // Nobody may be waiting.
            let _ = gone_sender.send(true);
        });
        Ok(WorkerHandle {
            shared,
            web,
            inbox,
            kill,
            gone,
            driver: Mutex::new(Some(driver)),
            #[cfg(test)]
            peers: known_peers,
        })
    }
}

/// Brings what the host says into the core, until the driver is gone.
async fn watch_host(mut host: watch::Receiver<HostNotice>, inbox: mpsc::Sender<Input>) {
    loop {
        let full = host.borrow_and_update().full;
        if inbox.send(Input::Event(Event::HostFull(full))).await.is_err() {
            return;
        }
        tokio::select! {
            changed = host.changed() => if changed.is_err() { return },
            () = inbox.closed() => return,
        }
    }
}

/// The client that asks the server about one instance.
fn openapi(config: &WorkerConfig, servers: &[crate::ServerAddress]) -> Option<OpenApi> {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let made = OpenApi::new(&servers).and_then(|api| match &config.app_password {
        Some(password) => api.with_app_token(&config.app, password),
        None => Ok(api),
    });
    made.map_err(|error| tracing::warn!(%error, "the server cannot be asked about instances")).ok()
}

async fn open_state(
    config: &WorkerConfig,
    store: Option<Store>,
    journals: Option<Journals>,
) -> Result<(Option<StateDirLock>, Store, Journals), WorkerError> {
    let dir = config.state_dir.clone().unwrap_or_default();
    let opened = tokio::task::spawn_blocking(move || {
        let (lock, store) = match store {
            // Whoever opened it has seen to it that nobody else does.
            Some(store) => (None, store),
            None => {
                let lock = StateDirLock::acquire(&dir)?;
                let migrations = [super::MIGRATIONS, testrig_joblog::MIGRATIONS].concat();
                (Some(lock), Store::open(&dir.join("worker.db"), &migrations)?)
            }
        };
        let journals = match journals {
            Some(journals) => journals,
            None => Journals::open(&dir.join("journals"), Limits::default(), store.clone())?,
        };
        Ok::<_, WorkerError>((lock, store, journals))
    });
    opened.await.map_err(io::Error::other)?
}

/// The tasks of a worker and their order at the end.
struct OwnTasks {
    listener: Listener,
    served: Served,
    peers: Arc<Peers>,
    servers: Vec<crate::ServerAddress>,
    tasks: TaskTracker,
    kill: CancellationToken,
    /// The state directory, held to the end.
    _lock: Option<StateDirLock>,
}

impl OwnTasks {
    /// Runs until the driver ends or the worker is cut off.
    async fn run(self, driver: Driver) {
        let Self { listener, served, peers, servers, tasks, kill, _lock } = self;
        let closing = CancellationToken::new();
        // Also when the driver panics: a port that answers for a worker that is gone would keep jobs from others.
        let _closes = closing.clone().drop_guard();
        let server = tokio::spawn(listener.serve(served, closing.clone()));
        let resolver = async {
            loop {
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                peers.resolve(&servers).await;
            }
        };
        tokio::select! {
            () = driver.run() => {}
            () = resolver => {}
            () = kill.cancelled() => {}
        }
        closing.cancel();
        // The driver is gone: requests under way find a closed channel and are answered at once.
        if let Err(error) = server.await {
            tracing::error!(%error, "the worker's HTTP server ended badly");
        }
        tracing::debug!("the port is closed");
        // What still sends would only find the closed channel; its own limits end it.
        tasks.close();
        let _ = tokio::time::timeout(std::time::Duration::from_millis(200), tasks.wait()).await;
        tracing::info!("worker has ended");
    }
}

/// The execute type in which no other worker takes part.
const STANDALONE: &str = "STANDALONE";

/// Requests of the server on their way to the driver.
struct Requests {
    shared: Arc<Shared>,
    peers: Arc<Peers>,
    inbox: mpsc::Sender<Input>,
}

#[async_trait::async_trait]
impl Inbound for Requests {
    async fn run_job(&self, request: ServerScheduleJobReq, raw: Bytes) -> Result<(), StoreProblem> {
        self.shared.counters.dispatches.one();
        let (answer, answered) = oneshot::channel();
        if request.execute_type != STANDALONE {
            // They may report tasks before the answer to the dispatch is out.
            self.peers.name_workers(&request.all_worker_address).await;
        }
        let dispatch = Box::new(request.into_dispatch());
        let text = dispatch.is_heavy().then(|| String::from_utf8_lossy(&raw).into_owned());
        let input = Input::Dispatch { dispatch, request: text, answer };
        let ends = || StoreProblem("this worker is ending".to_owned());
        self.inbox.send(input).await.map_err(|_| ends())?;
        answered.await.map_err(|_| ends())?
    }

    async fn stop_instance(&self, instance_id: i64) {
        self.shared.counters.stops.one();
        // A worker that is ending asks the server about the instance when it starts again.
        let _ = self.inbox.send(Input::Event(Event::StopInstance(instance_id))).await;
    }

    async fn query(&self, instance_id: i64, custom_query: Option<&str>) -> Option<InstanceDetail> {
        let detail = self.shared.detail(instance_id)?;
        match self.shared.trackers.detail(instance_id, custom_query).await {
            Some(tracked) => Some(InstanceDetail { job_params: detail.job_params, ..tracked }),
            None => Some(detail),
        }
    }
}
