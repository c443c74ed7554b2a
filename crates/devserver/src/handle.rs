//! Starting, ending and restarting a stand-in, and looking into it.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::DevServerConfig;
use crate::enums::status;
use crate::faults::Faults;
use crate::java;
use crate::server::Server;
use crate::world::World;
use crate::{listen, transport, web};

/// Why a stand-in did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or an address is not this machine's.
    #[error(
        "dev server cannot listen on {address} for its {role} port: {source}; choose a free port, or port 0 for any"
    )]
    Listen {
        /// `web` or `transport`.
        role: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The HTTP client that talks to workers could not be built.
    #[error("dev server cannot build its HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A stand-in server. Dropping it ends it.
#[derive(Debug)]
pub struct DevServer {
    world: Arc<Mutex<World>>,
    faults: Faults,
    web: SocketAddr,
    transport: SocketAddr,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
}

/// An instance as the stand-in has it, for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct InstanceView {
    pub instance_id: i64,
    pub job_id: i64,
    pub wf_instance_id: Option<i64>,
    /// InstanceStatus code.
    pub status: i32,
    pub result: Option<String>,
    pub task_tracker_address: Option<String>,
    pub running_times: i64,
}

impl DevServer {
    /// Starts one.
    ///
    /// # Errors
    /// [`StartError`] says which port could not be had.
    pub async fn start(config: DevServerConfig) -> Result<Self, StartError> {
        let (web, transport) = (config.web, config.transport);
        let world = Arc::new(Mutex::new(World::new(config, java::now())));
        let mut server = Self { world, faults: Faults::default(), web, transport, running: None };
        server.launch().await?;
        Ok(server)
    }

    /// Address of the web port.
    pub fn web(&self) -> SocketAddr {
        self.web
    }

    /// Address of the transport port.
    pub fn transport(&self) -> SocketAddr {
        self.transport
    }

    /// `http://host:port` of the web port.
    pub fn url(&self) -> String {
        format!("http://{}", self.web)
    }

    /// Faults to inject.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Ends it as `kill -9` would: listeners and all connections are gone at once, answered or not.
    pub async fn crash(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            for listener in running.listeners {
                // A listener that panicked has ended too.
                let _ = listener.await;
            }
        }
    }

    /// Starts again under the same addresses after [`DevServer::crash`]: the database is as it was; known workers, the
    /// unarchived log lines and delayed runs are lost.
    ///
    /// # Errors
    /// As [`DevServer::start`].
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.crash().await;
        self.world.lock().reborn(java::now());
        self.launch().await
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.crash().await;
    }

    /// The id of an app.
    pub fn app_id(&self, name: &str) -> Option<i64> {
        self.world.lock().app_by_name(name).map(|app| app.id)
    }

    /// All instances, oldest first.
    pub fn instances(&self) -> Vec<InstanceView> {
        let world = self.world.lock();
        let mut views: Vec<InstanceView> = world.instances.values().map(view).collect();
        views.sort_by_key(|view| view.instance_id);
        views
    }

    /// Takes out every instance that ended at least `ago` ago, with its log, as a server does that cleans its database up: for
    /// runs of more instances than memory should hold.
    pub fn take_ended(&self, ago: std::time::Duration) -> Vec<InstanceView> {
        let mut world = self.world.lock();
        let latest = java::now() - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        let old = |instance: &crate::model::Instance| !status::is_open(instance.status) && instance.modified <= latest;
        let ended: Vec<i64> = world.instances.values().filter(|i| old(i)).map(|i| i.id).collect();
        ended
            .into_iter()
            .filter_map(|id| {
                world.logs.forget(id);
                world.instances.remove(&id).map(|instance| view(&instance))
            })
            .collect()
    }

    /// The log lines that have arrived for an instance and are not archived yet, as (log time in ms, text), in log order.
    pub fn log_lines(&self, instance_id: i64) -> Vec<(i64, String)> {
        self.world.lock().logs.lines(instance_id).into_iter().map(|line| (line.time, line.text)).collect()
    }

    /// Addresses of the workers that are online now.
    pub fn online_workers(&self, app_id: i64) -> Vec<String> {
        let world = self.world.lock();
        let now = java::now();
        let workers = world.workers.get(&app_id).into_iter().flat_map(|workers| workers.values());
        workers.filter(|worker| world.is_online(worker, now)).map(|worker| worker.address.clone()).collect()
    }

    /// Forgets every worker, as a server does that has just taken an app over.
    pub fn forget_workers(&self) {
        self.world.lock().workers.clear();
    }

    async fn launch(&mut self) -> Result<(), StartError> {
        // Whoever comes first chooses the process' TLS provider; there is one only.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let web_listener = bind("web", self.web).await?;
        let transport_listener = bind("transport", self.transport).await?;
        self.web = web_listener.local_addr().map_err(|source| StartError::Listen {
            role: "web",
            address: self.web,
            source,
        })?;
        let address = self.transport;
        self.transport = transport_listener.local_addr().map_err(|source| StartError::Listen {
            role: "transport",
            address,
            source,
        })?;
        let stop = CancellationToken::new();
        let server = Server::new(self.world.clone(), self.faults.clone(), self.transport.to_string(), stop.clone())?;
        server.spawn_loops();
        let listeners = vec![
            tokio::spawn(listen::serve(web_listener, web::router(server.clone()), stop.clone())),
            tokio::spawn(listen::serve(transport_listener, transport::router(server), stop.clone())),
        ];
        self.running = Some(Running { stop, listeners });
        Ok(())
    }
}

impl Drop for DevServer {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop.cancel();
        }
    }
}

fn view(instance: &crate::model::Instance) -> InstanceView {
    InstanceView {
        instance_id: instance.id,
        job_id: instance.job_id,
        wf_instance_id: instance.wf_instance_id,
        status: instance.status,
        result: instance.result.clone(),
        task_tracker_address: instance.address.clone(),
        running_times: instance.running_times,
    }
}

async fn bind(role: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { role, address, source })
}
