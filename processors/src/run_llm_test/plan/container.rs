//! A service that is a container.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use testrig_host::docker::{Mount, Network, PullPolicy, Ulimit};

use super::{HealthPlan, Identity, allowed};
use crate::{
    Access, Environment,
    params::{Params, shown_text},
};

/// What to make.
#[derive(Clone, Debug)]
pub(in crate::run_llm_test) struct ContainerPlan {
    pub(in crate::run_llm_test) image: String,
    pub(in crate::run_llm_test) pull: PullPolicy,
    pub(in crate::run_llm_test) name: String,
    pub(in crate::run_llm_test) network: Network,
    pub(in crate::run_llm_test) runtime: Option<String>,
    pub(in crate::run_llm_test) cpus: Option<f64>,
    pub(in crate::run_llm_test) memory: Option<u64>,
    pub(in crate::run_llm_test) shm_size: Option<u64>,
    pub(in crate::run_llm_test) ulimits: Vec<Ulimit>,
    pub(in crate::run_llm_test) privileged: bool,
    pub(in crate::run_llm_test) mounts: Vec<Mount>,
    pub(in crate::run_llm_test) log_dir: String,
    pub(in crate::run_llm_test) work_dir: Option<String>,
    pub(in crate::run_llm_test) entry_script: Option<String>,
    /// Ports of the container that must be reachable: the service's and that of the health check.
    pub(in crate::run_llm_test) ports: Vec<u16>,
    /// Published port of the service port; 0 = a free one.
    pub(in crate::run_llm_test) host_port: u16,
    pub(in crate::run_llm_test) said_in: SaidIn,
}

/// Where the parameters stand that only the engine can refuse, for its messages.
#[derive(Clone, Debug)]
pub(in crate::run_llm_test) struct SaidIn {
    pub(in crate::run_llm_test) network: String,
    pub(in crate::run_llm_test) runtime: String,
    pub(in crate::run_llm_test) host_port: String,
    pub(in crate::run_llm_test) name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    host_path: PathBuf,
    container_path: String,
    mode: String,
}

#[derive(Deserialize)]
struct UlimitText {
    name: String,
    soft: i64,
    hard: i64,
}

pub(super) fn plan(
    params: &mut Params,
    env: &Environment,
    who: &Identity,
    health: &HealthPlan,
) -> Option<ContainerPlan> {
    let image = image(params, env, who);
    if params.flag("docker.privileged") && !env.allow_privileged {
        params.deny(
            "docker.privileged",
            &"is not allowed here (`[docker] allow_privileged` in the agent's configuration)",
        );
    }
    if params.given("service.command") {
        params.warn(
            "service.command is for host processes (trackMode PROCESS) and is not used: the service is a container",
        );
    }
    let work_dir = params.str("containerWorkDir").map(str::to_owned);
    let log_dir = params.string("containerLogBaseDir");
    let mounts = mounts(params, env, work_dir.as_deref(), &log_dir);
    let network_name = params.first(&["networkModeOverride", "docker.networkMode"]).unwrap_or("docker.networkMode");
    let network = match params.string(network_name).as_str() {
        "bridge" | "default" => Network::Bridge,
        "host" => Network::Host,
        "none" => {
            params.refuse(
                network_name,
                "`none` leaves the service unreachable; accepted: host, bridge, or the name of a network",
            );
            Network::None
        }
        "" => {
            params.refuse(network_name, "is empty; accepted: host, bridge, or the name of a network");
            Network::Bridge
        }
        name => Network::Named(name.to_owned()),
    };
    if network == Network::Host
        && params.u64("hostPort").is_some_and(|port| port > 0 && Some(port) != params.u64("servicePort"))
    {
        params.refuse(
            "hostPort",
            "cannot differ from servicePort with the host's network, which publishes nothing; leave it out",
        );
    }
    let ulimits: Vec<UlimitText> = params.parse("docker.ulimits").unwrap_or_default();
    let mut ports: Vec<u16> = params.int("servicePort").and_then(|p| u16::try_from(p).ok()).into_iter().collect();
    ports.extend(health.port.filter(|port| !ports.contains(port)));
    let first = |params: &Params, own: &str, base: &str| params.first(&[own, base]).map(str::to_owned);
    let name = params.str("containerName").map_or_else(|| default_name(&who.platform_task_id), str::to_owned);
    if !is_container_name(&name) {
        params.refuse(
            "containerName",
            format!(
                "found {}; accepted: letters, digits, `_`, `.`, `-`, the first a letter or digit",
                shown_text(&name)
            ),
        );
    }
    Some(ContainerPlan {
        image: image?,
        pull: match params.str("docker.pullPolicy") {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            _ => PullPolicy::IfNotPresent,
        },
        name,
        network,
        runtime: params.str("docker.runtime").map(str::to_owned),
        cpus: first(params, "resources.cpu", "docker.defaultCpuLimit").and_then(|name| params.num(&name)),
        memory: first(params, "resources.memory", "docker.defaultMemoryLimit").and_then(|name| params.u64(&name)),
        shm_size: params.u64("docker.shmSize"),
        ulimits: ulimits.into_iter().map(|u| Ulimit { name: u.name, soft: u.soft, hard: u.hard }).collect(),
        privileged: params.flag("docker.privileged"),
        mounts,
        log_dir,
        work_dir,
        entry_script: params.str("containerEntryScript").map(str::to_owned),
        ports,
        host_port: params.u64("hostPort").and_then(|p| u16::try_from(p).ok()).unwrap_or(0),
        said_in: SaidIn {
            network: params.path(network_name),
            runtime: params.path("docker.runtime"),
            host_port: params.path("hostPort"),
            name: params.path("containerName"),
        },
    })
}

fn image(params: &mut Params, env: &Environment, who: &Identity) -> Option<String> {
    let name = params.first(&["image", "docker.baseImage"]);
    if params.problem_with("image") || params.problem_with("docker.baseImage") {
        return None;
    }
    let Some(image) = name.and_then(|name| params.str(name)).map(str::trim).filter(|image| !image.is_empty()) else {
        let name = name.unwrap_or("image");
        params.refuse(
            name,
            "is missing; accepted: an image here or in docker.baseImage (or trackMode PROCESS with service.command)",
        );
        return None;
    };
    if !is_image_name(image) {
        let text = format!(
            "found {}, which is no image name; accepted: e.g. registry.local:5000/llm/qwen:v1",
            shown_text(image)
        );
        params.refuse(name.unwrap_or("image"), text);
        return None;
    }
    let image = match &who.model_version {
        Some(version) if !has_tag(image) => format!("{image}:{version}"),
        _ => image.to_owned(),
    };
    if let Err(denied) = env.allow_image(&image) {
        params.deny(name.unwrap_or("image"), &denied);
    }
    Some(image)
}

/// Rough: what is left is for the engine to say.
fn is_image_name(image: &str) -> bool {
    image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
}

fn has_tag(image: &str) -> bool {
    image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

fn mounts(params: &mut Params, env: &Environment, work_dir: Option<&str>, log_dir: &str) -> Vec<Mount> {
    let mut mounts = Vec::new();
    if let Some(scripts) = params.str("hostScriptDir").map(PathBuf::from)
        && let Some(host) = existing(params, env, "hostScriptDir", &scripts, Access::Read)
    {
        let container =
            work_dir.map_or_else(|| "/scripts".to_owned(), |dir| format!("{}/scripts", dir.trim_end_matches('/')));
        mounts.push(Mount { host, container, read_only: true });
    }
    let volumes: Vec<Volume> = params.parse("volumes").unwrap_or_default();
    for (index, volume) in volumes.into_iter().enumerate() {
        let read_only = volume.mode == "ro";
        let access = if read_only { Access::Read } else { Access::Write };
        let taken =
            volume.container_path == log_dir || mounts.iter().any(|mount| mount.container == volume.container_path);
        if taken {
            params.refuse(
                &format!("volumes[{index}].containerPath"),
                format!("`{}` is mounted already", volume.container_path),
            );
        }
        if let Some(host) = existing(params, env, &format!("volumes[{index}].hostPath"), &volume.host_path, access) {
            mounts.push(Mount { host, container: volume.container_path, read_only });
        }
    }
    mounts
}

fn existing(params: &mut Params, env: &Environment, name: &str, path: &Path, access: Access) -> Option<PathBuf> {
    let resolved = allowed(params, env, name, path, access)?;
    if resolved.exists() {
        return Some(resolved);
    }
    params.refuse(name, format!("`{}` does not exist on this host", path.display()));
    None
}

/// `llm-test-{platformTaskId}`, with what a container's name cannot hold replaced.
fn default_name(platform_task_id: &str) -> String {
    let plain: String = platform_task_id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' })
        .collect();
    format!("llm-test-{plain}")
}

fn is_container_name(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}
