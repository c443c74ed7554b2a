//! Every configuration key, with its meaning and its default. The doc comments are the reference that
//! `testrig config schema` prints.

mod accelerators;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use testrig_host::process::BoundaryKind;
use testrig_processors::official::Switch;

pub(crate) use accelerators::{AcceleratorCard, AcceleratorProvider, AcceleratorVendor, Accelerators};

/// The whole configuration of an agent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Config {
    /// Which PowerJob servers this agent works for.
    pub(crate) powerjob: PowerJob,
    /// Worker identities of this agent; without any, one lane `main` with the defaults.
    pub(crate) lane: Vec<Lane>,
    /// Where the agent keeps what must survive it.
    pub(crate) state: State,
    /// The port for people and programs of the operator: logs, health, metrics, control.
    pub(crate) admin: Admin,
    /// What job parameters may name on this host.
    pub(crate) paths: Paths,
    /// The container engine.
    pub(crate) docker: Docker,
    /// The accelerators of this host: how they are found, kept and given to runs.
    pub(crate) accelerators: Accelerators,
    /// Programs that job parameters may start on the host.
    pub(crate) programs: Programs,
    /// Programs that runs start on the host: services, scripts, commands.
    pub(crate) processes: Processes,
    /// Services that jobs start and leave running.
    pub(crate) service: Service,
    /// Hosts that job parameters may make the agent talk to.
    pub(crate) outbound: Outbound,
    /// The test platform.
    pub(crate) platform: Platform,
    /// Which processors are served.
    pub(crate) processors: Processors,
    /// The official processors of PowerJob (`tech.powerjob.official.processors.impl...`).
    pub(crate) official: Official,
    /// Databases by key (`resultDbKey`, `dataSourceName`).
    pub(crate) databases: BTreeMap<String, Database>,
    /// Image registries that want a login, by any key.
    pub(crate) registries: BTreeMap<String, Registry>,
    /// S3-compatible object stores by key (`objectStoreKey`).
    pub(crate) object_stores: BTreeMap<String, ObjectStore>,
    /// Signing secrets of chat robots by key (`channelConfig.feishu.secretRef`), each a file with the secret in it.
    pub(crate) secrets: BTreeMap<String, PathBuf>,
    /// The journals: the logs of instances on this host.
    pub(crate) journal: Journal,
    /// Room on the disks: what must be left, what runs may take, how long their directories stay.
    pub(crate) disk: Disk,
    /// What happens on SIGTERM.
    pub(crate) shutdown: Shutdown,
}

/// `[powerjob]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct PowerJob {
    /// Web addresses `host:port` of the servers (port 7700 by default there). Flag: `-s a:7700,b:7700`.
    pub(crate) servers: Vec<String>,
    /// The app name under which this agent registers. Flag: `-a`.
    pub(crate) app: String,
    /// File with the app's password, needed only where the server asks for OpenAPI tokens (5.x).
    pub(crate) app_password_file: Option<PathBuf>,
    /// Longest result text in characters; longer ones are cut and end in `...`. Flag: `-l`.
    pub(crate) result_limit: usize,
    /// Addresses (CIDR, e.g. `10.0.0.0/24`) besides the servers' own that may call a lane's port.
    pub(crate) peers: Vec<String>,
}

impl Default for PowerJob {
    fn default() -> Self {
        Self { servers: Vec::new(), app: String::new(), app_password_file: None, result_limit: 8096, peers: Vec::new() }
    }
}

/// `[[lane]]`: one worker identity with its own port, tag and slots.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Lane {
    /// A short name for logs and status, unique among the lanes.
    pub(crate) name: String,
    /// `host:port` for the job protocol. Flag `-p` sets the port of the first lane.
    pub(crate) listen: String,
    /// `host:port` that the servers use to reach this lane; default: the port of `listen` with the local address of a
    /// connection to the first server that answers, or with another one of this host if the server reaches only that.
    pub(crate) advertise: Option<String>,
    /// Interfaces whose address is taken first where `advertise` is absent, e.g. `["eth1", "ib*"]`.
    pub(crate) prefer_interfaces: Vec<String>,
    /// Interfaces whose address is never taken, e.g. `["docker*", "br-*"]`.
    pub(crate) ignore_interfaces: Vec<String>,
    /// Free text that jobs can be targeted at. Flag: `-t`.
    pub(crate) tag: Option<String>,
    /// Processors that run at once.
    pub(crate) slots: usize,
    /// Instances that may wait behind the slots. Default: 1024, and 0 on a lane with `accelerators`.
    pub(crate) backlog: Option<usize>,
    /// This lane serves runs that lease accelerators: while none are free it says so to the servers, and takes nothing.
    pub(crate) accelerators: bool,
    /// The fewest cards that must be free together for this lane to take a run (with `accelerators`).
    pub(crate) smallest_lease: usize,
    /// Processors that this lane serves; default: all that are enabled.
    pub(crate) processors: Option<Vec<String>>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            name: "main".into(),
            listen: "0.0.0.0:27777".into(),
            advertise: None,
            prefer_interfaces: Vec::new(),
            ignore_interfaces: Vec::new(),
            tag: None,
            slots: 8,
            backlog: None,
            accelerators: false,
            smallest_lease: 1,
            processors: None,
        }
    }
}

/// `[state]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct State {
    /// Directory of the store, the journals and the default result database. Flag: `--state-dir`. Default:
    /// `/var/lib/testrig` for root, else `~/.local/state/testrig`.
    pub(crate) dir: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let dir = match home {
            Some(home) if !nix::unistd::Uid::effective().is_root() => home.join(".local/state/testrig"),
            _ => PathBuf::from("/var/lib/testrig"),
        };
        Self { dir }
    }
}

/// `[admin]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Admin {
    /// `host:port` of log WebSocket, health, metrics and control. Flag: `--admin`.
    pub(crate) listen: String,
    /// File with the token that callers must present (`Authorization: Bearer ..` or `?token=..`). Needed unless
    /// `listen` is on loopback.
    pub(crate) token_file: Option<PathBuf>,
    /// Further names under which this port may be called while there is no token: those of a proxy on this host, for instance.
    /// `localhost`, loopback addresses and the addresses of the lanes need not be named.
    pub(crate) hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8780".into(), token_file: None, hosts: Vec::new() }
    }
}

/// `[paths]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Paths {
    /// Directories under which every data path of a job parameter must lie (log base, scripts, datasets, volumes, mounted
    /// targets); `:ro` behind one = reading only. Absent: the state directory alone.
    pub(crate) allowed_roots: Option<Vec<String>>,
    /// Where `datasetId` is looked up. Default: `datasets` in the state directory.
    pub(crate) datasets: Option<PathBuf>,
}

/// `[docker]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Docker {
    /// `unix:///path` or `tcp://host:port` of the engine. Default: `DOCKER_HOST`, else `unix:///var/run/docker.sock`.
    pub(crate) endpoint: String,
    /// Image patterns that a job may start (`*` matches anything); absent = all.
    pub(crate) allowed_images: Option<Vec<String>>,
    /// Whether a job may ask for `docker.privileged`.
    pub(crate) allow_privileged: bool,
    /// Seconds without a word from the engine after which a pull stalls and is given up.
    pub(crate) pull_silence_seconds: u64,
    /// How often a pull is begun in all, where the registry, the connection to it or the engine failed in a way that may pass.
    pub(crate) pull_tries: u32,
}

impl Default for Docker {
    fn default() -> Self {
        let endpoint = std::env::var("DOCKER_HOST")
            .ok()
            .filter(|v| !v.is_empty())
            .unwrap_or_else(|| "unix:///var/run/docker.sock".into());
        Self { endpoint, allowed_images: None, allow_privileged: false, pull_silence_seconds: 300, pull_tries: 4 }
    }
}

/// `[programs]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Programs {
    /// Programs (absolute paths) that a job may start on the host; absent = all.
    pub(crate) allowed: Option<Vec<String>>,
}

/// `[service]`: what `llmPythonProcessor#pythonLauncher` and `llmPythonProcessor#pythonLauncherWithStreamingLog` start where their
/// job leaves something out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Service {
    /// Name of the service.
    pub(crate) model_name: String,
    /// Path of the model.
    pub(crate) model_path: String,
    /// Port of the service.
    pub(crate) port: u16,
    /// Interpreter of the start script.
    pub(crate) python_bin: String,
    /// The start script; called with --model-name, --model-path, --port and, if there is one, --callback-url.
    pub(crate) script_path: PathBuf,
    /// Where ServiceControl writes the logs of commands when the job names no logDir.
    pub(crate) log_dir: PathBuf,
}

impl Default for Service {
    fn default() -> Self {
        let known = testrig_processors::ServiceDefaults::default();
        Self {
            model_name: known.model_name,
            model_path: known.model_path,
            port: known.port,
            python_bin: known.python_bin,
            script_path: known.script_path,
            log_dir: known.log_dir,
        }
    }
}

/// `[outbound]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Outbound {
    /// Hosts that callbacks, robots and foreign services may be at; absent = all.
    pub(crate) allowed_hosts: Option<Vec<String>>,
}

/// `[platform]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Platform {
    /// Where the logs of instances go besides, at `{base_url}/api/log/append`; a job's `testPlatformBaseUrl` is stronger.
    pub(crate) base_url: Option<String>,
}

/// `[processes]`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Processes {
    /// What holds the processes of a run together, so that stopping it leaves none. `testrig status` shows what was taken
    /// and why.
    pub(crate) boundary: Boundary,
}

/// What holds the processes of a run together; a weaker one is taken where the wanted one does not work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Boundary {
    /// The strongest that works here.
    #[default]
    Auto,
    /// A transient systemd unit for each run.
    Systemd,
    /// Control groups for each run, below the agent's own; no systemd units.
    Cgroup,
    /// The shim as subreaper and a marker in the environment; nothing else.
    Marker,
}

impl Boundary {
    /// The strongest that may be taken.
    pub(crate) fn at_most(self) -> Option<BoundaryKind> {
        match self {
            Self::Auto => None,
            Self::Systemd => Some(BoundaryKind::Systemd),
            Self::Cgroup => Some(BoundaryKind::Cgroup),
            Self::Marker => Some(BoundaryKind::Marker),
        }
    }
}

/// `[processors]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Processors {
    /// Processors that this agent serves.
    pub(crate) enabled: Vec<String>,
}

impl Default for Processors {
    fn default() -> Self {
        Self { enabled: super::verify::KNOWN_PROCESSORS.map(String::from).to_vec() }
    }
}

/// `[official]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Official {
    /// Official processors that can do harm and are served only when they are named here: `shell`, `python`, `powershell`,
    /// `http`, `dynamic-sql`, `spring-sql`, `file-cleanup`. InjectWorkflowContext, Config and Verification are always served.
    pub(crate) enable: Vec<Switch>,
    /// Encoding of script output that is no UTF-8, line by line, e.g. `gbk` or `shift_jis`.
    pub(crate) charset: String,
    /// Regular expressions (Java's, found anywhere, in any case) of SQL that the two SQL processors refuse.
    pub(crate) sql_deny: Vec<String>,
}

impl Default for Official {
    fn default() -> Self {
        Self { enable: Vec::new(), charset: "gbk".into(), sql_deny: Vec::new() }
    }
}

/// `[databases.KEY]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Database {
    /// `sqlite:///absolute/path.db` (file and folder are created), `mysql://host:3306/db` (MariaDB as well),
    /// `postgres://host:5432/db`, or the same as a `jdbc:` URL.
    pub(crate) url: String,
    /// The user that logs in.
    pub(crate) user: Option<String>,
    /// File with the user's password in it; it should be readable by the agent's user only.
    pub(crate) password_file: Option<PathBuf>,
}

/// `[registries.KEY]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Registry {
    /// The registry as image names have it, `registry.local:5000`; `docker.io` for images without a registry in their name.
    pub(crate) address: String,
    /// The user that logs in.
    pub(crate) user: String,
    /// File with the user's password or token in it; it should be readable by the agent's user only.
    pub(crate) password_file: PathBuf,
}

/// `[object_stores.KEY]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ObjectStore {
    /// URL of the S3 API, e.g. `http://minio:9000`.
    pub(crate) endpoint: String,
    /// Region for the signature; default `us-east-1`.
    pub(crate) region: Option<String>,
    /// Buckets that are found here without `objectStoreKey`.
    pub(crate) buckets: Vec<String>,
    /// TOML file with `access_key` and `secret_key`; it should be readable by the agent's user only.
    pub(crate) credentials_file: PathBuf,
}

/// `[journal]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Journal {
    /// Bytes that one instance's log may take on the disk; what exceeds it is counted in the log itself.
    pub(crate) max_bytes: u64,
    /// Days after which the journals of closed instances are removed.
    pub(crate) retention_days: u32,
}

impl Default for Journal {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, retention_days: 14 }
    }
}

/// `[disk]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Disk {
    /// Free bytes below which no run begins: where `state.dir` has less, every lane says that it is full; where the log tree
    /// of a run has less, the run is refused. 0 = no such limit.
    pub(crate) floor_bytes: u64,
    /// Bytes that the log directory of one RunLLMTest may take; a run that takes more is ended as failed. Without: no limit.
    pub(crate) run_max_bytes: Option<u64>,
    /// Days after its end that the log directory of a run is removed. Without: never. Only directories that this agent made.
    pub(crate) runs_retention_days: Option<u32>,
    /// Bytes that the log directories of ended runs may take together; the oldest are removed first, none within an hour of
    /// its end. Without: no limit.
    pub(crate) runs_max_bytes: Option<u64>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { floor_bytes: 1 << 30, run_max_bytes: None, runs_retention_days: None, runs_max_bytes: None }
    }
}

/// `[shutdown]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Shutdown {
    /// `detach`: leave services running, a restarted agent takes them up. `drain`: take no new instances and wait until the open
    /// ones have ended; a second signal cancels them (they end FAILED), a third one detaches.
    pub(crate) on_sigterm: OnSigterm,
}

/// What SIGTERM means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnSigterm {
    /// Leave services running.
    #[default]
    Detach,
    /// Wait for running instances.
    Drain,
}
