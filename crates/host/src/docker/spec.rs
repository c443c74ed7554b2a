//! What a container shall be, and its translation into the engine's words.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest as EngineDeviceRequest, HostConfig, HostConfigLogConfig,
    Mount as EngineMount, MountType, PortBinding, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::{BoundaryId, LABEL_BOUNDARY, Signal, accelerators::DeviceNode};

/// A container to be made. Only `boundary`, `name` and `image` have no sensible default.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Label [`LABEL_BOUNDARY`] and environment variable [`crate::ENV_BOUNDARY`].
    pub boundary: BoundaryId,
    /// Name of the container.
    pub name: String,
    /// Image, with tag or digest.
    pub image: String,
    /// Further labels.
    pub labels: Vec<(String, String)>,
    /// Environment; a later value of the same name wins.
    pub env: Vec<(String, String)>,
    /// Instead of the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's command.
    pub command: Option<Vec<String>>,
    /// Instead of the image's working directory.
    pub work_dir: Option<String>,
    /// Host directories and files to mount.
    pub mounts: Vec<Mount>,
    /// Network.
    pub network: Network,
    /// Ports to publish; only with [`Network::Bridge`] and [`Network::Named`].
    pub publish: Vec<PortPublish>,
    /// CPUs, e.g. 1.5.
    pub cpus: Option<f64>,
    /// Memory in bytes. Swap is limited to the same, so that an OOM is one and not a slow death.
    pub memory: Option<u64>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Limits such as `nofile`.
    pub ulimits: Vec<Ulimit>,
    /// A runtime that the engine has registered.
    pub runtime: Option<String>,
    /// Device nodes of the host.
    pub devices: Vec<DeviceNode>,
    /// Requests that the engine or a hook of it turns into devices.
    pub device_requests: Vec<DeviceRequest>,
    /// Further groups of the container's user.
    pub groups: Vec<String>,
    /// All capabilities and devices.
    pub privileged: bool,
    /// The signal that asks it to end; default: the image's.
    pub stop_signal: Option<Signal>,
    /// Runs an init program as process 1 that passes signals on and reaps. Set it from [`super::EngineInfo::init`].
    pub init: bool,
}

/// A host path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host; it must exist.
    pub host: PathBuf,
    /// Path in the container.
    pub container: String,
    /// Not writable in the container.
    pub read_only: bool,
}

/// Network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The engine's default network.
    #[default]
    Bridge,
    /// The host's own.
    Host,
    /// None at all.
    None,
    /// A network made by somebody.
    Named(String),
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPublish {
    /// TCP port in the container.
    pub container: u16,
    /// TCP port on the host; 0 = the engine picks a free one.
    pub host: u16,
    /// Address to bind; absent = all addresses.
    pub bind: Option<IpAddr>,
}

/// A resource limit, by its name without `RLIMIT_`, in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// E.g. `nofile`, `memlock`.
    pub name: String,
    /// Soft limit, -1 = none.
    pub soft: i64,
    /// Hard limit, -1 = none.
    pub hard: i64,
}

/// Devices by the ids of whoever serves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRequest {
    /// `nvidia` or `cdi`.
    pub driver: String,
    /// Exactly these.
    pub ids: Vec<String>,
    /// All of these, for drivers that are chosen by them.
    pub capabilities: Vec<String>,
}

impl ContainerSpec {
    /// A container with the image's own settings on the engine's default network.
    pub fn new(boundary: BoundaryId, name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            boundary,
            name: name.into(),
            image: image.into(),
            labels: Vec::new(),
            env: Vec::new(),
            entrypoint: None,
            command: None,
            work_dir: None,
            mounts: Vec::new(),
            network: Network::default(),
            publish: Vec::new(),
            cpus: None,
            memory: None,
            shm_size: None,
            ulimits: Vec::new(),
            runtime: None,
            devices: Vec::new(),
            device_requests: Vec::new(),
            groups: Vec::new(),
            privileged: false,
            stop_signal: None,
            init: false,
        }
    }

    /// The body of `POST /containers/create`.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let mut labels: HashMap<String, String> = self.labels.iter().cloned().collect();
        labels.insert(LABEL_BOUNDARY.to_owned(), self.boundary.to_string());
        let ports = self.port_bindings();
        ContainerCreateBody {
            image: Some(self.image.clone()),
            labels: Some(labels),
            env: Some(self.env_list()),
            entrypoint: self.entrypoint.clone(),
            cmd: self.command.clone(),
            working_dir: self.work_dir.clone(),
            stop_signal: self.stop_signal.map(|s| s.to_string()),
            exposed_ports: Some(ports.keys().cloned().collect()),
            host_config: Some(self.host_config(ports)),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self, ports: HashMap<String, Option<Vec<PortBinding>>>) -> HostConfig {
        let memory = self.memory.map(clamp);
        HostConfig {
            mounts: Some(self.mounts.iter().map(engine_mount).collect()),
            network_mode: Some(match &self.network {
                Network::Bridge => "bridge".to_owned(),
                Network::Host => "host".to_owned(),
                Network::None => "none".to_owned(),
                Network::Named(name) => name.clone(),
            }),
            port_bindings: Some(ports),
            nano_cpus: self.cpus.map(nano_cpus),
            memory,
            memory_swap: memory,
            shm_size: self.shm_size.map(clamp),
            ulimits: Some(self.ulimits.iter().map(engine_ulimit).collect()),
            runtime: self.runtime.clone(),
            devices: Some(self.devices.iter().map(engine_device).collect()),
            device_requests: Some(self.device_requests.iter().map(engine_request).collect()),
            group_add: Some(self.groups.clone()),
            privileged: Some(self.privileged),
            init: Some(self.init),
            // A log that the engine rotates or a container that it removes by itself would lose lines and the exit code;
            // a restart by the engine would be a second run that nobody asked for.
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(never_rotated()) }),
            auto_remove: Some(false),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            ..HostConfig::default()
        }
    }

    fn env_list(&self) -> Vec<String> {
        let mut list: Vec<(&str, &str)> = Vec::new();
        let boundary = (crate::ENV_BOUNDARY, self.boundary.as_str());
        for (name, value) in self.env.iter().map(|(n, v)| (n.as_str(), v.as_str())).chain([boundary]) {
            list.retain(|(known, _)| *known != name);
            list.push((name, value));
        }
        list.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn port_bindings(&self) -> HashMap<String, Option<Vec<PortBinding>>> {
        if matches!(self.network, Network::Host | Network::None) {
            return HashMap::new();
        }
        let mut ports: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
        for port in &self.publish {
            let binding = PortBinding {
                host_ip: Some(port.bind.map(|ip| ip.to_string()).unwrap_or_default()),
                // Empty: the engine takes a free one.
                host_port: Some(if port.host == 0 { String::new() } else { port.host.to_string() }),
            };
            ports.entry(format!("{}/tcp", port.container)).or_default().get_or_insert_default().push(binding);
        }
        ports
    }
}

/// The engine fills options that are missing from its own `log-opts`, and "unlimited" cannot be said: so a size that no disk
/// has, one file (with which `compress` must be off), and no dropping of lines by `non-blocking`.
fn never_rotated() -> HashMap<String, String> {
    [("max-size", "1p"), ("max-file", "1"), ("compress", "false"), ("mode", "blocking")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// `Mounts`, not `Binds`: the engine refuses a missing host path instead of creating a directory of that name.
fn engine_mount(mount: &Mount) -> EngineMount {
    EngineMount {
        typ: Some(MountType::BIND),
        source: Some(mount.host.to_string_lossy().into_owned()),
        target: Some(mount.container.clone()),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    }
}

fn engine_device(node: &DeviceNode) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(node.host.clone()),
        path_in_container: Some(node.container.clone()),
        cgroup_permissions: Some("rwm".to_owned()),
    }
}

/// Never a count: the engine takes "two" for the first two, whoever uses them.
fn engine_request(request: &DeviceRequest) -> EngineDeviceRequest {
    EngineDeviceRequest {
        driver: Some(request.driver.clone()),
        device_ids: Some(request.ids.clone()),
        capabilities: (!request.capabilities.is_empty()).then(|| vec![request.capabilities.clone()]),
        ..EngineDeviceRequest::default()
    }
}

fn engine_ulimit(limit: &Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(limit.name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

#[expect(clippy::cast_possible_truncation, reason = "a CPU count is far below 2^63 / 1e9")]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec::new(BoundaryId::new(7, 0), "llm-test-7", "img:1")
    }

    #[test]
    fn the_log_is_never_rotated_and_the_container_never_removed_or_restarted_by_the_engine() {
        let host = spec().body().host_config.expect("always set");
        let log = host.log_config.expect("explicit, whatever the engine's default is");
        assert_eq!(log.typ.as_deref(), Some("json-file"));
        let options = log.config.expect("explicit");
        assert_eq!((options["max-size"].as_str(), options["max-file"].as_str()), ("1p", "1"));
        assert_eq!((options["compress"].as_str(), options["mode"].as_str()), ("false", "blocking"));
        assert_eq!(host.auto_remove, Some(false));
        assert_eq!(host.restart_policy.and_then(|p| p.name), Some(RestartPolicyNameEnum::NO));
    }

    #[test]
    fn swap_is_limited_to_the_memory_so_that_an_oom_is_one() {
        let mut spec = spec();
        spec.memory = Some(64 << 20);
        spec.cpus = Some(1.5);
        let host = spec.body().host_config.expect("always set");
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!(host.nano_cpus, Some(1_500_000_000));
    }

    #[test]
    fn the_boundary_is_a_label_and_a_marker_that_parameters_cannot_override() {
        let mut spec = spec();
        spec.env = vec![("A".into(), "1".into()), ("TESTRIG_BOUNDARY".into(), "x".into()), ("A".into(), "2".into())];
        spec.labels = vec![("testrig.boundary".into(), "x".into())];
        let body = spec.body();
        assert_eq!(body.env.expect("set"), ["A=2", "TESTRIG_BOUNDARY=testrig-7-0"]);
        assert_eq!(body.labels.expect("set")["testrig.boundary"], "testrig-7-0");
    }

    #[test]
    fn devices_are_asked_for_by_their_ids_and_never_by_a_count() {
        let mut spec = spec();
        spec.devices = vec![DeviceNode::parse("/dev/zero:/dev/accel0")];
        spec.device_requests = vec![
            DeviceRequest { driver: "cdi".into(), ids: vec!["nvidia.com/gpu=GPU-1".into()], capabilities: Vec::new() },
            DeviceRequest {
                driver: "nvidia".into(),
                ids: vec!["GPU-1".into()],
                capabilities: vec!["gpu".into(), "utility".into()],
            },
        ];
        spec.groups = vec!["1000".into()];
        let host = spec.body().host_config.expect("always set");
        let device = &host.devices.expect("set")[0];
        assert_eq!(
            (device.path_on_host.as_deref(), device.path_in_container.as_deref()),
            (Some("/dev/zero"), Some("/dev/accel0"))
        );
        let requests = host.device_requests.expect("set");
        assert!(requests.iter().all(|request| request.count.is_none() && request.device_ids.as_ref().is_some_and(|ids| ids.len() == 1)));
        assert_eq!(requests[0].capabilities, None);
        assert_eq!(requests[1].capabilities, Some(vec![vec!["gpu".to_owned(), "utility".to_owned()]]));
        assert_eq!(host.group_add, Some(vec!["1000".to_owned()]));
    }

    #[test]
    fn ports_are_published_on_bridges_only_and_zero_means_a_free_one() {
        let mut spec = spec();
        spec.publish = vec![PortPublish { container: 8000, host: 0, bind: None }];
        let ports = spec.body().host_config.and_then(|h| h.port_bindings).expect("set");
        let binding = ports["8000/tcp"].as_ref().expect("one")[0].clone();
        assert_eq!(binding.host_port.as_deref(), Some(""));
        assert_eq!(binding.host_ip.as_deref(), Some(""));
        spec.network = Network::Host;
        assert!(spec.body().host_config.and_then(|h| h.port_bindings).expect("set").is_empty());
    }
}
