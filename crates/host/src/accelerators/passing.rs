//! How a run gets exactly the cards of its lease: what a container is made with, and what a process has in its environment.
//!
//! Cards are passed explicitly, by their own ids and device nodes. Nothing counts cards ("two of them" means the first two to
//! the engine, whoever uses them), and who leases nothing is told so: images carry `NVIDIA_VISIBLE_DEVICES=all`.

use std::path::{Path, PathBuf};

use super::card::{Accelerator, DeviceNode, Vendor};
use crate::docker::{DeviceRequest, EngineInfo, Mount};

/// Variables that choose cards. A run's own values would lead past its lease.
pub const GOVERNED: [&str; 10] = [
    "NVIDIA_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "ASCEND_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "ASCEND_RUNTIME_OPTIONS",
    "ASCEND_VNPU_SPECS",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
];

/// Nodes that every NVIDIA program needs beside its card's.
const NVIDIA_COMMON: [&str; 4] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];
/// Nodes that every Ascend program needs, as far as the board has them.
const ASCEND_COMMON: [&str; 6] =
    ["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc", "/dev/dvpp_cmdlist", "/dev/uburma", "/dev/ummu"];
/// Parts of the Ascend driver that a container reads, as far as the host has them.
const ASCEND_MOUNTS: [&str; 8] = [
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/usr/local/Ascend/driver/topo",
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/sbin/npu-smi",
    "/etc/ascend_install.info",
    "/etc/hccn.conf",
];
/// What a container's user must belong to where the nodes are not root's: the group of `/dev/davinci_manager`.
const ASCEND_GROUP_OF: &str = "/dev/davinci_manager";

/// What a container is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passing {
    /// How the cards are passed, for the log: `cdi`, `runtime nvidia`, `device request`, `devices`, `none`.
    pub way: String,
    /// Environment, stronger than the run's own.
    pub env: Vec<(String, String)>,
    /// Device nodes.
    pub devices: Vec<DeviceNode>,
    /// Read-only mounts.
    pub mounts: Vec<Mount>,
    /// Requests to the engine.
    pub requests: Vec<DeviceRequest>,
    /// Runtime that must be used.
    pub runtime: Option<String>,
    /// Further groups of the container's user.
    pub groups: Vec<String>,
}

/// The host's file system, as far as it is looked at; another root in tests.
#[derive(Clone, Debug)]
pub struct HostFiles {
    /// Root directory.
    pub root: PathBuf,
    /// Directories that programs are looked for in.
    pub path: Vec<PathBuf>,
}

impl Default for HostFiles {
    fn default() -> Self {
        let path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        Self { root: PathBuf::from("/"), path }
    }
}

impl HostFiles {
    fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    fn has_program(&self, name: &str) -> bool {
        self.path.iter().any(|dir| dir.join(name).is_file())
    }

    fn group_of(&self, path: &str) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(self.root.join(path.trim_start_matches('/')))
            .ok()
            .map(|meta| meta.gid())
            .filter(|gid| *gid != 0)
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()
    }
}

/// What a container gets. `runtime` is what the run asked for by name.
///
/// # Errors
/// The engine has no way to pass such cards; says which ways there are and what each needs.
pub fn for_container(
    cards: &[Accelerator],
    runtime: Option<&str>,
    engine: &EngineInfo,
    host: &HostFiles,
) -> Result<Passing, String> {
    let mut passing = Passing::default();
    let of = |vendor| -> Vec<&Accelerator> { cards.iter().filter(|card| card.vendor == vendor).collect() };
    let (nvidia, ascend, other) = (of(Vendor::Nvidia), of(Vendor::Ascend), of(Vendor::Other));
    let mut ways = Vec::new();
    if nvidia.is_empty() {
        // "void" and not "none": with "none" the runtime still mounts the driver.
        set(&mut passing.env, "NVIDIA_VISIBLE_DEVICES", "void");
    } else {
        ways.push(pass_nvidia(&mut passing, &nvidia, runtime, engine, host)?);
    }
    if ascend.is_empty() {
        set(&mut passing.env, "ASCEND_VISIBLE_DEVICES", "void");
    } else {
        ways.push(pass_ascend(&mut passing, &ascend, runtime, engine, host)?);
    }
    if !other.is_empty() {
        ways.push("devices".to_owned());
    }
    for card in cards {
        passing.devices.extend(card.devices.iter().cloned());
    }
    visible(&mut passing.env, cards);
    passing.way = if ways.is_empty() { "none".to_owned() } else { ways.join(", ") };
    passing.devices.dedup();
    Ok(passing)
}

/// What a process on the host has in its environment. `hide` = the host has cards, and a process without a lease must not find
/// them by itself.
pub fn for_process(cards: &[Accelerator], hide: bool) -> Vec<(String, String)> {
    let mut env = Vec::new();
    let nvidia: Vec<&str> =
        cards.iter().filter(|card| card.vendor == Vendor::Nvidia).map(|card| card.uuid.as_str()).collect();
    // Ascending, or the runtime stops at the first that is not.
    let mut ascend: Vec<u32> =
        cards.iter().filter(|card| card.vendor == Vendor::Ascend).filter_map(|card| card.logic_id).collect();
    ascend.sort_unstable();
    if !nvidia.is_empty() {
        set(&mut env, "CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    }
    if hide || !nvidia.is_empty() {
        set(&mut env, "CUDA_VISIBLE_DEVICES", nvidia.join(","));
        set(&mut env, "NVIDIA_VISIBLE_DEVICES", if nvidia.is_empty() { "void".to_owned() } else { nvidia.join(",") });
    }
    if hide || !ascend.is_empty() {
        let ids: Vec<String> = ascend.iter().map(ToString::to_string).collect();
        set(&mut env, "ASCEND_RT_VISIBLE_DEVICES", ids.join(","));
    }
    visible(&mut env, cards);
    env
}

/// What an engine's or a driver's refusal means, where its own words do not say it.
pub fn explain(refusal: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 9] = [
        (
            "could not select device driver",
            "the NVIDIA container toolkit is not installed, or the engine was not restarted after its installation",
        ),
        ("unresolvable CDI devices", "the CDI specification is stale; run `nvidia-ctk cdi generate` again"),
        ("driver not loaded", "the NVIDIA driver is not loaded on the host"),
        ("unknown device", "the driver does not know a card of the lease any more"),
        ("Driver/library version mismatch", "the driver was upgraded but not reloaded; the host needs a reboot"),
        ("ret is -8020", "another container owns one of the Ascend cards"),
        ("ret is -8005", "another container owns one of the Ascend cards, or the driver does not answer"),
        (
            "error gathering device information while adding custom device",
            "a device node of the lease is not there on the host",
        ),
        ("Unknown runtime specified", "the runtime is not registered with the engine"),
    ];
    KNOWN.iter().find(|(words, _)| refusal.contains(words)).map(|(_, meaning)| *meaning)
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: impl Into<String>) {
    env.push((name.to_owned(), value.into()));
}

/// The variables of declared cards: their numbers as the program counts them, 0 and up.
fn visible(env: &mut Vec<(String, String)>, cards: &[Accelerator]) {
    let mut names: Vec<(&str, usize)> = Vec::new();
    for name in cards.iter().filter_map(|card| card.visible_env.as_deref()) {
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => names.push((name, 1)),
        }
    }
    for (name, count) in names {
        let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        set(env, name, numbers.join(","));
    }
}

/// CDI where the engine knows each of the cards, then the engine's own hook, then the registered runtime.
fn pass_nvidia(
    passing: &mut Passing,
    cards: &[&Accelerator],
    runtime: Option<&str>,
    engine: &EngineInfo,
    host: &HostFiles,
) -> Result<String, String> {
    let ids: Vec<String> = cards.iter().map(|card| card.uuid.clone()).collect();
    set(&mut passing.env, "CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    let cdi: Vec<String> = ids.iter().map(|id| format!("nvidia.com/gpu={id}")).collect();
    if runtime.is_none_or(|runtime| runtime != "nvidia") && cdi.iter().all(|id| engine.cdi_devices.contains(id)) {
        passing.requests.push(DeviceRequest { driver: "cdi".into(), ids: cdi, capabilities: Vec::new() });
        return Ok("cdi".to_owned());
    }
    // The nodes beside hook and runtime: without them a `systemctl daemon-reload` takes the cards away again.
    for card in cards {
        if let Some(node) = card.node {
            passing.devices.push(DeviceNode::same(format!("/dev/nvidia{node}")));
        }
        passing.devices.extend(slice_nodes(card, host));
    }
    passing.devices.extend(NVIDIA_COMMON.iter().map(|path| DeviceNode::same(*path)));
    passing.devices.retain(|node| host.has(&node.host));
    let has_runtime = engine.runtimes.iter().any(|known| known == "nvidia");
    if runtime == Some("nvidia") || (has_runtime && !host.has_program("nvidia-container-runtime-hook")) {
        set(&mut passing.env, "NVIDIA_VISIBLE_DEVICES", ids.join(","));
        set(&mut passing.env, "NVIDIA_DRIVER_CAPABILITIES", "compute,utility");
        passing.runtime = Some("nvidia".to_owned());
        return Ok("runtime nvidia".to_owned());
    }
    if host.has_program("nvidia-container-runtime-hook") {
        let capabilities = ["gpu", "compute", "utility"].map(str::to_owned).to_vec();
        passing.requests.push(DeviceRequest { driver: "nvidia".into(), ids, capabilities });
        return Ok("device request".to_owned());
    }
    Err(format!(
        "the engine cannot pass NVIDIA cards to a container: no CDI device `{}` (engine 25 or newer and `nvidia-ctk cdi generate`), no \
         runtime `nvidia` (`nvidia-ctk runtime configure --runtime=docker`), no nvidia-container-runtime-hook in PATH; install the NVIDIA \
         container toolkit and restart the engine",
        cdi.first().map_or("nvidia.com/gpu=..", String::as_str)
    ))
}

/// The capability nodes of a MIG slice.
fn slice_nodes(card: &Accelerator, host: &HostFiles) -> Vec<DeviceNode> {
    let (Some(slice), Some(node)) = (&card.slice_of, card.node) else { return Vec::new() };
    let (gpu, compute) = (slice.gpu_instance, slice.compute_instance);
    let wanted = [format!("gpu{node}/gi{gpu}/access"), format!("gpu{node}/gi{gpu}/ci{compute}/access")];
    let minors = host.read("/proc/driver/nvidia-caps/mig-minors").unwrap_or_default();
    minors
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| wanted.iter().any(|wanted| wanted == name))
        .map(|(_, minor)| DeviceNode::same(format!("/dev/nvidia-caps/nvidia-cap{}", minor.trim())))
        .collect()
}

/// By hand, which needs no runtime: nodes and driver files. Only a run that names the runtime `ascend` gets them from it.
fn pass_ascend(
    passing: &mut Passing,
    cards: &[&Accelerator],
    runtime: Option<&str>,
    engine: &EngineInfo,
    host: &HostFiles,
) -> Result<String, String> {
    let mut nodes = Vec::new();
    for card in cards {
        match card.node {
            Some(node) => nodes.push(node),
            None => {
                return Err(format!(
                    "the device node of card {} is not known, so it cannot be passed",
                    card.in_words()
                ));
            }
        }
    }
    nodes.sort_unstable();
    if runtime == Some("ascend") {
        let ids: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        set(&mut passing.env, "ASCEND_VISIBLE_DEVICES", ids.join(","));
        return Ok("runtime ascend".to_owned());
    }
    set(&mut passing.env, "ASCEND_VISIBLE_DEVICES", "void");
    // The same path inside: another number there has no effect.
    passing.devices.extend(nodes.iter().map(|node| DeviceNode::same(format!("/dev/davinci{node}"))));
    let common = ASCEND_COMMON.iter().filter(|path| host.has(path));
    passing.devices.extend(common.map(|path| DeviceNode::same(*path)));
    let mounts = ASCEND_MOUNTS.iter().filter(|path| host.has(path));
    passing.mounts.extend(mounts.map(|path| Mount {
        host: Path::new(path).to_owned(),
        container: (*path).to_owned(),
        read_only: true,
    }));
    passing.groups.extend(host.group_of(ASCEND_GROUP_OF).map(|gid| gid.to_string()));
    if runtime.is_none()
        && engine.default_runtime.as_deref() == Some("ascend")
        && engine.runtimes.iter().any(|r| r == "runc")
    {
        passing.runtime = Some("runc".to_owned());
    }
    Ok("devices".to_owned())
}

#[cfg(test)]
#[path = "passing/tests.rs"]
mod tests;
