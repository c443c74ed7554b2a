//! What the agent's configuration gives to processors, and what it lets them touch.

mod lists;
mod paths;
mod resources;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

pub use lists::Denied;
pub use paths::{Access, PathDenied, Root};
pub use resources::{Database, DiskLimits, MailServer, ObjectStore, Person, ServiceDefaults};
use testrig_host::{
    accelerators::{Accelerators, NoAccelerators},
    docker::PullSettings,
    process::{Boundaries, ShimCommand},
};

/// The part of the agent's configuration that processors need. Built once at start, shared by all runs.
#[derive(Clone)]
pub struct Environment {
    /// `[state] dir`.
    pub state_dir: PathBuf,
    /// The program whose hidden subcommand `__shim` starts host processes: the agent itself.
    pub shim: PathBuf,
    /// What holds host processes together.
    pub boundaries: Boundaries,
    /// `[paths] allowed_roots`.
    pub allowed_roots: Vec<Root>,
    /// `[paths] datasets`: where `datasetId` is looked up.
    pub datasets: Option<PathBuf>,
    /// `[docker] endpoint`, e.g. `unix:///var/run/docker.sock`; `None` = `DOCKER_HOST` or the usual socket.
    pub docker_endpoint: Option<String>,
    /// `[docker] allowed_images`; `None` = every image.
    pub allowed_images: Option<Vec<String>>,
    /// `[docker] allow_privileged`: whether `docker.privileged` may be asked for.
    pub allow_privileged: bool,
    /// How images are pulled: `[docker] pull_*`, and the logins of `[registries.*]`.
    pub pulls: PullSettings,
    /// `[programs] allowed`; `None` = every program.
    pub allowed_programs: Option<Vec<String>>,
    /// `[outbound] allowed_hosts`; `None` = every host.
    pub allowed_hosts: Option<Vec<String>>,
    /// `[databases.*]` by key.
    pub databases: BTreeMap<String, Database>,
    /// `[object_stores.*]` by key.
    pub object_stores: BTreeMap<String, ObjectStore>,
    /// `[mail.*]` by key.
    pub mail: BTreeMap<String, MailServer>,
    /// `[people.*]` by user id.
    pub people: BTreeMap<String, Person>,
    /// `[secrets]`: what `test.apiKeyRef` and `secretRef` name.
    pub secrets: BTreeMap<String, String>,
    /// Where templates of notifications lie.
    pub template_dir: Option<PathBuf>,
    /// The one HTTP client for health checks, callbacks and robots.
    pub http: reqwest::Client,
    /// `[platform] base_url`: default of `testPlatformBaseUrl`.
    pub platform_base_url: Option<String>,
    /// What brings logs to test platforms; `None` = the [`registry`](crate::registry) makes one, whose end nobody waits for.
    pub platform_logs: Option<Arc<crate::PlatformLogs>>,
    /// `[service]`: what the `llmPythonProcessor` names use where a job says nothing.
    pub service: ServiceDefaults,
    /// `[official]`: which official processors may be used, and how.
    pub official: crate::Official,
    /// `[disk]`.
    pub disk: DiskLimits,
    /// The accelerators of this host.
    pub accelerators: Arc<dyn Accelerators>,
    /// Who starts other jobs; `None` without a server.
    pub jobs: Option<Arc<dyn crate::StartJobs>>,
}

impl Environment {
    /// The environment of a configuration that says nothing: this state directory, this shim, these roots and this client;
    /// no accelerators, and whatever is not restricted by default is not restricted.
    pub fn new(state_dir: PathBuf, shim: PathBuf, allowed_roots: Vec<Root>, http: reqwest::Client) -> Self {
        Self {
            state_dir,
            shim,
            boundaries: Boundaries::default(),
            allowed_roots,
            datasets: None,
            docker_endpoint: None,
            allowed_images: None,
            allow_privileged: false,
            pulls: PullSettings { http: Some(http.clone()), ..PullSettings::default() },
            allowed_programs: None,
            allowed_hosts: None,
            databases: BTreeMap::new(),
            object_stores: BTreeMap::new(),
            mail: BTreeMap::new(),
            people: BTreeMap::new(),
            secrets: BTreeMap::new(),
            template_dir: None,
            http,
            platform_base_url: None,
            platform_logs: None,
            service: ServiceDefaults::default(),
            official: crate::Official::default(),
            disk: DiskLimits::default(),
            accelerators: Arc::new(NoAccelerators),
            jobs: None,
        }
    }

    /// How host processes are started.
    pub(crate) fn shim_command(&self) -> ShimCommand {
        ShimCommand::of(&self.shim).with(self.boundaries.clone())
    }
}
