//! One server, one app on it, and the workers that all cases share: jobs name the workers they want by their tags.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use libtest_mimic::Failed;
use parking_lot::Mutex;
use powerjob_worker::openapi::OpenApi;
use tokio::sync::{OnceCell, Semaphore};

use crate::job::{BEGINNING, Job};
use crate::wait::eventually;
use crate::workers::{Kind, Worker};

/// A real server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Version.
    pub(crate) name: &'static str,
    /// Variable with its address.
    variable: &'static str,
}

/// The servers of the matrix.
pub(crate) const SERVERS: [Server; 2] =
    [Server { name: "4.3.9", variable: "POWERJOB_URL" }, Server { name: "5.1.1", variable: "POWERJOB5_URL" }];

/// Tags of the workers that live through everything.
const OURS: [&str; 2] = ["r1", "r2"];
const JAVA: [&str; 2] = ["j1", "j2"];
/// Tags of those that die.
pub(crate) const OURS_KILLED: &str = "r-killed";
pub(crate) const OURS_BACK: &str = "r-back";
pub(crate) const JAVA_KILLED: &str = "j-killed";
/// Tags of those that a case starts in the middle.
pub(crate) const OURS_LATE: &str = "r-late";
pub(crate) const JAVA_LATE: &str = "j-late";

/// What a case cannot run without.
pub(crate) struct Missing(Vec<&'static str>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "needs real servers and a Java worker ({} not set)", self.0.join(", "))
    }
}

impl Server {
    pub(crate) fn missing(&self) -> Option<Missing> {
        let unset = |name: &&str| std::env::var(name).map_or(true, |value| value.is_empty());
        let names: Vec<&'static str> = [self.variable, "JAVA_WORKER"].into_iter().filter(unset).collect();
        (!names.is_empty()).then_some(Missing(names))
    }
}

/// A site that is set up by the first case that wants it.
pub(crate) struct Lazy {
    server: &'static Server,
    cell: OnceCell<Arc<Site>>,
}

impl Lazy {
    pub(crate) async fn get(&self) -> Result<Arc<Site>, Failed> {
        self.cell.get_or_try_init(|| Site::start(self.server)).await.cloned()
    }
}

/// An app with its workers.
pub(crate) struct Site {
    pub(crate) api: OpenApi,
    pub(crate) app_id: i64,
    workers: Vec<Worker>,
    /// Jobs that may begin at once.
    pub(crate) beginning: Semaphore,
}

/// For the end: statics are not dropped.
static STARTED: Mutex<Vec<Arc<Site>>> = Mutex::new(Vec::new());

/// Ends all workers.
pub(crate) fn end_all() {
    for site in STARTED.lock().drain(..) {
        site.workers.iter().for_each(Worker::kill);
    }
}

impl Site {
    pub(crate) fn of(server: &'static Server) -> Arc<Lazy> {
        Arc::new(Lazy { server, cell: OnceCell::new() })
    }

    async fn start(server: &'static Server) -> Result<Arc<Self>, Failed> {
        let url = std::env::var(server.variable)?;
        let api = OpenApi::new(&[&url])?.with_timeout(Duration::from_secs(15))?;
        let app = format!("interop-{}", std::process::id());
        let app_id = api.ensure_app(&app, "interop").await?;
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let work = std::env::var("TESTRIG_E2E_WORK").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
        let dir = work.join(format!("{app}-{}", server.name));
        let ours = OURS.into_iter().chain([OURS_KILLED, OURS_BACK, OURS_LATE]).map(|tag| (Kind::Ours, tag));
        let java = JAVA.into_iter().chain([JAVA_KILLED, JAVA_LATE]).map(|tag| (Kind::Java, tag));
        let workers = java
            .chain(ours)
            .map(|(kind, tag)| Worker::prepare(kind, tag, &app, &address, dir.join(tag)))
            .collect::<Result<Vec<_>, _>>()?;
        let site = Arc::new(Self { api, app_id, workers, beginning: Semaphore::new(BEGINNING as usize) });
        STARTED.lock().push(site.clone());
        for worker in site.at_once() {
            worker.spawn()?;
        }
        site.wait_listed().await?;
        site.warm_up().await?;
        Ok(site)
    }

    /// The first task of a Java worker loads half of its classes and makes its database: none of the cases shall wait for it.
    async fn warm_up(self: &Arc<Self>) -> Result<(), Failed> {
        let warm = async |tag: &'static str| -> Result<(), Failed> {
            let job = Job::new("MAP_REDUCE", tag, &JAVA);
            job.run(self).await?.ended().await.map(drop)
        };
        tokio::try_join!(warm(JAVA[0]), warm(JAVA[1]), warm(JAVA_KILLED)).map(drop)
    }

    fn at_once(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| ![OURS_LATE, JAVA_LATE].contains(&worker.tag))
    }

    /// Waits until the server lists every worker.
    async fn wait_listed(&self) -> Result<(), Failed> {
        eventually(Duration::from_secs(180), "the server lists all workers", async || {
            let rows = self.api.list_workers(self.app_id).await.map_err(|error| error.to_string())?;
            let missing = |worker: &&Worker| {
                let port = format!(":{}", worker.port);
                !rows.iter().any(|row| row.is_online() && row.address.ends_with(&port))
            };
            let missing: Vec<String> = self.at_once().filter(missing).map(Worker::tail).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("missing: {}", missing.join("\n"))) }
        })
        .await
    }

    /// A worker by its tag.
    pub(crate) fn worker(&self, tag: &str) -> Result<&Worker, Failed> {
        let found = self.workers.iter().find(|worker| worker.tag == tag);
        found.ok_or_else(|| format!("no worker has the tag {tag}").into())
    }

    /// The worker that the server knows by this address; the interface is each worker's own choice.
    pub(crate) fn at(&self, address: &str) -> Result<&Worker, Failed> {
        let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        let found = self.workers.iter().find(|worker| port == Some(Ok(worker.port)));
        found.ok_or_else(|| format!("no worker has the address {address}").into())
    }
}

/// The two workers of a kind that live through everything.
pub(crate) fn tags(kind: Kind) -> [&'static str; 2] {
    match kind {
        Kind::Ours => OURS,
        Kind::Java => JAVA,
    }
}
