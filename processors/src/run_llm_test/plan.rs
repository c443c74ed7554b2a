//! The typed plan of a run: everything decided before anything starts.

mod container;
mod downstream;
mod driver;
mod interpreter;
mod load;
mod process;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use testrig_host::{Signal, accelerators::passing};

pub(super) use container::ContainerPlan;
pub(super) use downstream::Downstream;
#[cfg(test)]
pub(super) use downstream::When;
pub(super) use driver::{Driver, ScriptPlan};
pub(super) use load::LoadSettings;
pub(super) use process::ProcessPlan;

use crate::{
    Access, Environment,
    params::{Params, Problems, shown_text},
};

/// A run, decided.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) who: Identity,
    /// Root of the log tree.
    pub(super) log_base: PathBuf,
    /// Last directory of the log path, if the run names one.
    pub(super) log_suffix: Option<String>,
    pub(super) service_port: Option<u16>,
    /// Where it was given, for messages.
    pub(super) service_port_in: String,
    pub(super) target: Target,
    pub(super) health: HealthPlan,
    pub(super) monitor: MonitorPlan,
    pub(super) load: LoadSettings,
    pub(super) accelerators: AcceleratorPlan,
    pub(super) setup_script: Option<PathBuf>,
    pub(super) teardown_script: Option<PathBuf>,
    /// Jobs that are started when the run ends.
    pub(super) downstream: Vec<Downstream>,
    /// Environment that the parameters give to service and scripts.
    pub(super) env_vars: BTreeMap<String, String>,
}

/// Whose run it is.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) platform_task_id: String,
    pub(super) test_plan_id: Option<String>,
    pub(super) trigger_user: Option<String>,
    pub(super) trace_id: Option<String>,
    pub(super) env: String,
    pub(super) model_key: String,
    pub(super) model_version: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
}

/// What the service is.
#[derive(Debug)]
pub(super) enum Target {
    /// A container that the run starts.
    Container(Box<ContainerPlan>),
    /// A host process that the run starts.
    Process(ProcessPlan),
    /// A service that already runs.
    Reuse(url::Url),
}

/// How health is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HealthPlan {
    pub(super) kind: HealthKind,
    pub(super) port: Option<u16>,
    /// From the start of the service to the first check.
    pub(super) initial_delay: Duration,
    /// Between the starts of two checks.
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) max_retry: u32,
    pub(super) success_threshold: u32,
    pub(super) failure_threshold: u32,
}

/// The kinds of health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HealthKind {
    /// `GET` of this path.
    Http(String),
    /// A TCP connection.
    Tcp,
    /// A command in the container, or on the host.
    Cmd(Vec<String>),
    /// A first token (or vector) from the API that the load is sent to; once ready, a TCP connection.
    ReadyToken,
    /// A started service counts as ready.
    None,
}

impl HealthKind {
    /// Its name as a parameter.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "HTTP",
            Self::Tcp => "TCP",
            Self::Cmd(_) => "CMD",
            Self::ReadyToken => "READY_TOKEN",
            Self::None => "NONE",
        }
    }
}

/// How the run is watched and ended.
#[derive(Clone, Debug)]
pub(super) struct MonitorPlan {
    /// The service process in the container is watched, too (`monitor.trackMode` BOTH).
    pub(super) inside: bool,
    /// `metricsPushEndpoint`.
    pub(super) push: Option<String>,
    /// `None` = no samples.
    pub(super) sample_every: Option<Duration>,
    pub(super) kill_on_timeout: bool,
    pub(super) kill_signal: Signal,
    pub(super) grace: Duration,
    pub(super) cleanup: Cleanup,
    pub(super) max_run: Option<Duration>,
}

/// Whether what ended is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleanup {
    OnSuccess,
    Always,
    Never,
}

/// What is asked of the accelerators.
#[derive(Clone, Debug)]
pub(super) struct AcceleratorPlan {
    pub(super) count: u32,
    pub(super) kind: Option<String>,
    pub(super) min_memory: Option<u64>,
    pub(super) device_ids: Vec<String>,
    pub(super) queue: Duration,
}

/// What a service is made of when the parameters leave the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrackMode {
    Container,
    Process,
    Reuse,
}

/// What the parameters say about the kind of service; `None` = a container where there is an engine, else a process.
pub(super) fn track_mode(params: &Params) -> Option<TrackMode> {
    if params.given("service.reuse") {
        return Some(TrackMode::Reuse);
    }
    match params.first(&["monitorOverrides.trackMode", "monitor.trackMode"]).and_then(|name| params.str(name)) {
        Some("PROCESS") => Some(TrackMode::Process),
        Some(_) => Some(TrackMode::Container),
        None if !params.given("service.command") => Some(TrackMode::Container),
        None if params.str("image").or(params.str("docker.baseImage")).is_none() => Some(TrackMode::Process),
        None => None,
    }
}

impl Plan {
    /// Decides everything that can be decided before the start.
    ///
    /// # Errors
    /// Every problem with the parameters, at once.
    pub(super) fn build(params: &mut Params, env: &Environment, mode: TrackMode, seed: u64) -> Result<Self, Problems> {
        let who = identity(params);
        let log_base = PathBuf::from(params.string("hostLogBaseDir"));
        let log_base = allowed(params, env, "hostLogBaseDir", &log_base, Access::Write).unwrap_or(log_base);
        let service_port = port(params, "servicePort");
        let health = health(params, service_port, mode);
        let monitor = monitor(params, env, mode);
        let load = load::settings(params, env, mode, seed);
        let accelerators = accelerators(params, mode);
        let mut env_vars = params.map("envVars");
        if env.accelerators.provider() != "none" {
            for name in passing::GOVERNED.iter().filter(|name| env_vars.remove(**name).is_some()) {
                params.warn(format!("envVars.{name} is not used: the lease of the run says which cards it sees"));
            }
        }
        let target = match mode {
            TrackMode::Reuse => reuse(params, env),
            TrackMode::Process => process::plan(params, env).map(Target::Process),
            TrackMode::Container => {
                container::plan(params, env, &who, &health).map(|plan| Target::Container(Box::new(plan)))
            }
        };
        if mode != TrackMode::Reuse && params.is_missing("servicePort") {
            params.refuse(
                "servicePort",
                "is missing; accepted: the port that the service listens on, which the load is sent to",
            );
        }
        for name in ["modelVersion", "test.model", "docker.runtime", "resources.gpuType"] {
            if params.str(name).is_some_and(|text| text.trim().is_empty()) {
                params.refuse(name, "is empty; accepted: a text, or leave it out");
            }
        }
        if let Some(bad) = params.map("envVars").keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            params.refuse("envVars", format!("{bad:?} is no name of a variable; accepted: names without `=`"));
        }
        for name in params.map("extraTags").keys().filter(|name| name.starts_with("testrig.")) {
            params.warn(format!(
                "extraTags.{name} is no label of the container: names with `testrig.` are the agent's own"
            ));
        }
        let setup_script = script(params, env, "env.setupScript");
        let teardown_script = script(params, env, "env.teardownScript");
        let downstream = downstream::plan(params, env);
        params.check()?;
        let (Some(target), Some(load)) = (target, load) else { unreachable!("what could not be planned is a problem") };
        Ok(Self {
            log_suffix: params.str("logDirSuffix").map(str::to_owned),
            env_vars,
            who,
            log_base,
            service_port,
            service_port_in: params.path("servicePort"),
            target,
            health,
            monitor,
            load,
            accelerators,
            setup_script,
            teardown_script,
            downstream,
        })
    }
}

fn identity(params: &Params) -> Identity {
    let text = |name| params.str(name).map(str::to_owned);
    Identity {
        platform_task_id: params.string("platformTaskId"),
        test_plan_id: text("testPlanId"),
        trigger_user: text("triggerUser"),
        trace_id: text("traceId"),
        env: text("env").unwrap_or_else(|| params.string("envDefault")),
        model_key: params.string("modelKey"),
        model_version: text("modelVersion"),
        tags: params.map("extraTags"),
    }
}

fn port(params: &Params, name: &str) -> Option<u16> {
    params.int(name).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

/// What a first token may take where nobody says: the first request after the load of the weights compiles and warms up.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

fn health(params: &mut Params, service_port: Option<u16>, mode: TrackMode) -> HealthPlan {
    let pick = |params: &Params, field: &str| -> String {
        let (over, base) = (format!("healthCheckOverrides.{field}"), format!("healthCheck.{field}"));
        params.first(&[&over, &base]).map_or(base.clone(), str::to_owned)
    };
    let millis = |params: &Params, field| Duration::from_millis(params.u64(&pick(params, field)).unwrap_or(1000));
    let count =
        |params: &Params, field| params.u64(&pick(params, field)).and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    let kind = match params.str(&pick(params, "type")) {
        Some("TCP") => HealthKind::Tcp,
        Some("CMD") => HealthKind::Cmd(params.strings(&pick(params, "command"))),
        Some("NONE") => HealthKind::None,
        Some("READY_TOKEN") => HealthKind::ReadyToken,
        _ => HealthKind::Http(params.string(&pick(params, "path"))),
    };
    if let HealthKind::Http(path) = &kind
        && (!path.starts_with('/') || path[1..].starts_with(['/', '\\']))
    {
        // Two of them would make a host of what follows.
        let name = pick(params, "path");
        params.refuse(&name, format!("found {}; accepted: a path that begins with one `/`", shown_text(path)));
    }
    if let HealthKind::Cmd(command) = &kind {
        let name = pick(params, "command");
        if command.is_empty() {
            params.refuse(
                &name,
                "is missing or empty; accepted: the command of the health check as a list (healthCheck.type is CMD)",
            );
        } else if mode == TrackMode::Reuse {
            let name = pick(params, "type");
            params.refuse(
                &name,
                "CMD has no container to run in with service.reuse; accepted: HTTP, TCP, READY_TOKEN, NONE",
            );
        }
    }
    let needs_port =
        matches!(kind, HealthKind::Http(_) | HealthKind::Tcp | HealthKind::ReadyToken) && mode != TrackMode::Reuse;
    let timeout = pick(params, "timeoutMillis");
    let timeout = match kind {
        HealthKind::ReadyToken if !params.given(&timeout) => TOKEN_TIMEOUT,
        _ => millis(params, "timeoutMillis"),
    };
    let key_name = pick(params, "portKey");
    let key = params.string(&key_name);
    let port = if key == "servicePort" { service_port } else { named_port(params, &key_name, &key, needs_port) };
    HealthPlan {
        port,
        initial_delay: millis(params, "initialDelayMillis"),
        interval: millis(params, "intervalMillis"),
        timeout,
        max_retry: count(params, "maxRetry"),
        success_threshold: count(params, "successThreshold"),
        failure_threshold: count(params, "failureThreshold"),
        kind,
    }
}

/// The port in the parameter that `portKey` names, which may be one that no table knows.
fn named_port(params: &mut Params, key_name: &str, key: &str, needed: bool) -> Option<u16> {
    let known = matches!(key, "hostPort").then(|| params.get(key).cloned()).flatten();
    let value = known.or_else(|| params.take_unknown(key));
    let found = match &value {
        Some(serde_json::Value::Number(n)) => n.as_u64(),
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let port = found.and_then(|n| u16::try_from(n).ok()).filter(|port| *port > 0);
    if port.is_none() && needed {
        let found = value.map_or("no such parameter".to_owned(), |value| value.to_string());
        params.refuse(key_name, format!("names `{key}`, where {found} was found; accepted: the name of an instance parameter that holds a port from 1 to 65535"));
    }
    port
}

fn monitor(params: &mut Params, env: &Environment, mode: TrackMode) -> MonitorPlan {
    let pick = |params: &Params, field: &str| -> String {
        let (over, base) = (format!("monitorOverrides.{field}"), format!("monitor.{field}"));
        params.first(&[&over, &base]).map_or(base.clone(), str::to_owned)
    };
    let seconds = |params: &Params, name: &str| params.num(name).and_then(|s| Duration::try_from_secs_f64(s).ok());
    let signal = params.string("monitorOverrides.killSignal");
    let kill_signal = signal.parse().unwrap_or_else(|error: testrig_host::InvalidSignal| {
        params.refuse("monitorOverrides.killSignal", error.to_string());
        Signal::TERM
    });
    let grace = seconds(params, "monitorOverrides.forceKillAfterSeconds")
        .or_else(|| seconds(params, &pick(params, "stopTimeoutSeconds")))
        .unwrap_or(Duration::from_secs(30));
    let every = seconds(params, &pick(params, "statsSampleIntervalSeconds"));
    let collects = params.flag(&pick(params, "collectMetrics"));
    let both = params.str(&pick(params, "trackMode")) == Some("BOTH");
    if both && mode == TrackMode::Reuse {
        params.refuse(
            &pick(params, "trackMode"),
            "BOTH needs a container whose service process can be watched; accepted with service.reuse: leave it out",
        );
    }
    MonitorPlan {
        inside: both && mode == TrackMode::Container,
        push: push(params, env, collects),
        sample_every: every.filter(|_| collects),
        kill_on_timeout: params.flag(&pick(params, "killOnTimeout")),
        kill_signal,
        grace,
        cleanup: match params.str(&pick(params, "cleanupPolicy")) {
            Some("REMOVE_ON_SUCCESS") => Cleanup::OnSuccess,
            Some("NEVER") => Cleanup::Never,
            _ => Cleanup::Always,
        },
        max_run: seconds(params, "monitorOverrides.maxRunSeconds"),
    }
}

/// Where samples and results are pushed to.
fn push(params: &mut Params, env: &Environment, collects: bool) -> Option<String> {
    let endpoint = params.str("metricsPushEndpoint")?.to_owned();
    if let Err(denied) = env.allow_url(&endpoint) {
        params.refuse("metricsPushEndpoint", denied.to_string());
    }
    if !collects {
        let path = params.path("metricsPushEndpoint");
        params.warn(format!("{path} is not used: monitor.collectMetrics is false"));
    }
    collects.then_some(endpoint)
}

fn accelerators(params: &mut Params, mode: TrackMode) -> AcceleratorPlan {
    let count =
        params.first(&["resources.gpus", "docker.defaultGpuCount"]).and_then(|name| params.u64(name)).unwrap_or(0);
    let ids = params.strings("resources.deviceIds");
    let asks = count > 0 || !ids.is_empty();
    if !asks {
        for name in ["resources.gpuType", "resources.gpuMemory"] {
            if params.given(name) {
                params.warn(format!("`{name}` is not used: the run asks for no card (`resources.gpus`)"));
            }
        }
    }
    // What the template says of numbers is not meant where this run names its cards.
    let said = params.u64("resources.gpus");
    if !ids.is_empty() && said.is_some_and(|said| said != ids.len() as u64) {
        params.refuse(
            "resources.gpus",
            format!(
                "is {}, but resources.deviceIds names {}; accepted: the same number, or one of the two",
                said.unwrap_or(0),
                ids.len()
            ),
        );
    }
    if asks && params.flag("docker.privileged") {
        params.refuse(
            "docker.privileged",
            "gives a container every card of the host, not those of its lease; leave it out, or ask for no card (`resources.gpus` 0)",
        );
    }
    if asks && mode == TrackMode::Reuse {
        let name = params.first(&["resources.gpus", "docker.defaultGpuCount"]).unwrap_or("resources.deviceIds");
        params.refuse(
            name,
            "cannot be leased for a service that already runs (`service.reuse`); accepted: 0, or leave it out",
        );
    }
    AcceleratorPlan {
        count: u32::try_from(count).unwrap_or(u32::MAX),
        kind: params.str("resources.gpuType").map(str::to_owned),
        min_memory: params.u64("resources.gpuMemory"),
        device_ids: params.strings("resources.deviceIds"),
        queue: Duration::try_from_secs_f64(params.num("resources.queueTimeoutSeconds").unwrap_or(0.0))
            .unwrap_or_default(),
    }
}

fn reuse(params: &mut Params, env: &Environment) -> Option<Target> {
    let text = params.str("service.reuse")?.to_owned();
    if let Err(denied) = env.allow_url(&text) {
        params.deny("service.reuse", &denied);
    }
    let own =
        ["service.command", "resources.cpu", "resources.memory", "docker.defaultCpuLimit", "docker.defaultMemoryLimit"];
    let unused =
        process::CONTAINER_ONLY.iter().chain(&own).filter(|name| params.given(name)).map(|name| params.path(name));
    let unused: Vec<String> = unused.collect();
    if !unused.is_empty() {
        params.warn(format!("not used, because the service runs already (service.reuse): {}", unused.join(", ")));
    }
    match text.parse() {
        Ok(url) => Some(Target::Reuse(url)),
        Err(error) => {
            params.refuse("service.reuse", format!("is not a URL: {error}"));
            None
        }
    }
}

/// A path inside the allowed roots, resolved; otherwise a noted problem.
fn allowed(
    params: &mut Params,
    env: &Environment,
    name: &str,
    path: &std::path::Path,
    access: Access,
) -> Option<PathBuf> {
    if path.as_os_str().is_empty() {
        return None;
    }
    match env.allow_path(path, access) {
        Ok(resolved) => Some(resolved),
        Err(denied) => {
            params.deny(name, &denied);
            None
        }
    }
}

fn script(params: &mut Params, env: &Environment, name: &'static str) -> Option<PathBuf> {
    let given = PathBuf::from(params.str(name)?);
    let path = allowed(params, env, name, &given, Access::Read)?;
    if !path.is_file() {
        params.refuse(name, format!("`{}` is no file; accepted: a script inside the allowed roots", path.display()));
    }
    if let Err(denied) = env.allow_program(&path.display().to_string()) {
        params.deny(name, &denied);
    }
    Some(path)
}

#[cfg(test)]
mod tests;
