//! One server, one app on it, and the workers that all cases share: jobs name the workers they want by their tags.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use libtest_mimic::Failed;
use parking_lot::Mutex;
use powerjob_worker::openapi::OpenApi;
use tokio::sync::OnceCell;

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

/// Tags of the workers. The last of each kind are those that die.
pub(crate) const OURS: [&str; 2] = ["r1", "r2"];
pub(crate) const JAVA: [&str; 2] = ["j1", "j2"];
pub(crate) const OURS_KILLED: &str = "r-killed";
pub(crate) const OURS_BACK: &str = "r-back";
pub(crate) const JAVA_KILLED: &str = "j-killed";

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
    addresses: BTreeMap<String, &'static str>,
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
        let ours = OURS.into_iter().chain([OURS_KILLED, OURS_BACK]).map(|tag| (Kind::Ours, tag));
        let java = JAVA.into_iter().chain([JAVA_KILLED]).map(|tag| (Kind::Java, tag));
        let workers = java
            .chain(ours)
            .map(|(kind, tag)| Worker::start(kind, tag, &app, &address, dir.join(tag)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut site = Self { api, app_id, workers, addresses: BTreeMap::new() };
        site.addresses = site.wait_listed().await?;
        let site = Arc::new(site);
        STARTED.lock().push(site.clone());
        Ok(site)
    }

    /// Waits until the server lists every worker; the addresses it knows them by.
    async fn wait_listed(&self) -> Result<BTreeMap<String, &'static str>, Failed> {
        eventually(Duration::from_secs(180), "the server lists all workers", async || {
            let rows = self.api.list_workers(self.app_id).await.map_err(|error| error.to_string())?;
            let found = |worker: &&Worker| {
                let port = format!(":{}", worker.port);
                rows.iter().find(|row| row.is_online() && row.address.ends_with(&port)).map(|row| row.address.clone())
            };
            let known: BTreeMap<String, &'static str> =
                self.workers.iter().filter_map(|worker| Some((found(&worker)?, worker.tag))).collect();
            let missing = self.workers.iter().filter(|worker| found(worker).is_none()).map(Worker::tail);
            match missing.collect::<Vec<_>>() {
                none if none.is_empty() => Ok(known),
                tails => Err(format!("missing: {}", tails.join("\n"))),
            }
        })
        .await
    }

    /// A worker by its tag.
    pub(crate) fn worker(&self, tag: &str) -> Result<&Worker, Failed> {
        let found = self.workers.iter().find(|worker| worker.tag == tag);
        found.ok_or_else(|| format!("no worker has the tag {tag}").into())
    }

    /// The worker that the server knows by this address.
    pub(crate) fn at(&self, address: &str) -> Result<&Worker, Failed> {
        let tag = self.addresses.get(address).ok_or_else(|| format!("no worker has the address {address}"))?;
        self.worker(tag)
    }
}

/// The two workers of a kind that live through everything.
pub(crate) fn tags(kind: Kind) -> [&'static str; 2] {
    match kind {
        Kind::Ours => OURS,
        Kind::Java => JAVA,
    }
}
