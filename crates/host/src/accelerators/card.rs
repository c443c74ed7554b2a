//! What a card is, and what was seen of it.

use serde::{Deserialize, Serialize};

use super::{health::Health, topology::Topology};

/// Who made a card: decides how it is passed to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA GPUs and MIG slices.
    Nvidia,
    /// Huawei Ascend NPUs.
    Ascend,
    /// Anything else that the configuration declares.
    Other,
}

/// A device node that a card needs, on the host and in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
}

impl DeviceNode {
    /// The same path on both sides.
    pub fn same(path: impl Into<String>) -> Self {
        let host = path.into();
        Self { container: host.clone(), host }
    }

    /// `/dev/x`, or `/dev/x:/dev/y` with the container's path behind the colon.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((host, container)) => Self { host: host.to_owned(), container: container.to_owned() },
            None => Self::same(text),
        }
    }
}

/// One card, or one part of a card that can be given away by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accelerator {
    /// Index as the vendor's tools count. It may change with a reboot.
    pub index: u32,
    /// Id that stays the same over reboots: NVIDIA's UUID, Ascend's VDie id.
    pub uuid: String,
    /// Who made it.
    pub vendor: Vendor,
    /// Model, e.g. `NVIDIA H200`, `910B3`.
    pub kind: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The number in the name of the device node: N of `/dev/nvidiaN` and `/dev/davinciN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// Ascend: number in the order of the runtime (`ASCEND_RT_VISIBLE_DEVICES` of a host process).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logic_id: Option<u32>,
    /// Ascend: card and chip in the card, as `npu-smi -i -c` takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<(u32, u32)>,
    /// Address on the PCI bus as sysfs writes it, e.g. `0000:3d:00.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// NUMA node that it is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// MIG: the GPU that this is a part of, with GPU instance and compute instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_of: Option<Slice>,
    /// Declared cards: the nodes that are passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceNode>,
    /// Declared cards: the variable that names them to a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible_env: Option<String>,
}

/// Where a MIG slice belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slice {
    /// UUID of the GPU.
    pub gpu: String,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
}

impl Accelerator {
    /// A card of which only the obvious is known.
    pub fn new(
        index: u32,
        uuid: impl Into<String>,
        vendor: Vendor,
        kind: impl Into<String>,
        memory_bytes: u64,
    ) -> Self {
        Self {
            index,
            uuid: uuid.into(),
            vendor,
            kind: kind.into(),
            memory_bytes,
            node: None,
            logic_id: None,
            chip: None,
            pci: None,
            numa_node: None,
            slice_of: None,
            devices: Vec::new(),
            visible_env: None,
        }
    }

    /// The card in a few words, e.g. `0 (NVIDIA H200)`.
    pub fn in_words(&self) -> String {
        format!("{} ({})", self.index, self.kind)
    }

    /// Whether this is the card with this index or UUID.
    pub fn is_named(&self, id: &str) -> bool {
        id == self.uuid || id.trim().parse() == Ok(self.index)
    }

    /// Whether this is of the type that somebody asked for: the whole name, or a word of it from its beginning, whatever the
    /// case: `h200` is an `NVIDIA H200`, `910B` a `910B3`, `ascend` every Ascend card.
    pub fn is_of_kind(&self, wanted: &str) -> bool {
        let vendor = match self.vendor {
            Vendor::Nvidia => "nvidia",
            Vendor::Ascend => "ascend",
            Vendor::Other => "",
        };
        let plain = |text: &str| -> String {
            let text = text.trim().to_ascii_lowercase();
            let words: Vec<&str> =
                text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
            words.join(" ")
        };
        let (wanted, kind) = (plain(wanted), plain(&self.kind));
        if wanted.is_empty() || wanted == vendor {
            return !wanted.is_empty();
        }
        let bare =
            |text: &str| text.strip_prefix(vendor).map_or_else(|| text.to_owned(), |rest| rest.trim().to_owned());
        let (wanted, kind) = (bare(&wanted), bare(&kind));
        format!(" {kind}").contains(&format!(" {wanted}"))
    }
}

/// A process that uses a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CardProcess {
    /// Process id on the host.
    pub pid: u32,
    /// Name, if it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Memory of the card that it uses, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// It only draws (Xorg, a desktop).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub graphics: bool,
    /// Container that it runs in: name if known, else the short id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Full id of that container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Boundary of the run that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// What was seen of a card at one moment. What could not be read is absent, never 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CardState {
    /// Memory in use, bytes.
    pub memory_used_bytes: Option<u64>,
    /// Percent of the time in which something was computed (NVIDIA), or of the AI cores in use (Ascend).
    pub utilization_percent: Option<f64>,
    /// Degrees Celsius.
    pub temperature_c: Option<i32>,
    /// Watts. On A3 boards the first die tells that of both.
    pub power_w: Option<f64>,
    /// Its health.
    pub health: Health,
    /// Who uses it; `None` = the driver does not say, which is not "nobody".
    pub processes: Option<Vec<CardProcess>>,
    /// Why it can never be given away as it is set up (MIG is on, compute mode Prohibited).
    pub unusable: Option<String>,
}

/// One card with its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The card.
    pub card: Accelerator,
    /// Its state.
    pub state: CardState,
}

/// All cards at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// What they were seen through, with its version, e.g. `NVML, driver 550.54.14`.
    pub through: String,
    /// The cards, in the order of their indices.
    pub cards: Vec<Observed>,
    /// How near they are to each other.
    #[serde(skip)]
    pub topology: Topology,
    /// What a person should know about the whole.
    pub notes: Vec<String>,
}

/// What looks at the cards of a host. A call may block for long (drivers hang): [`super::Pool`] calls it on a thread of its
/// own and does not wait for ever.
pub trait Provider: Send + Sync + 'static {
    /// Short name: `nvml`, `dcmi`, `npu-smi`, `declared`.
    fn name(&self) -> &'static str;

    /// Looks at all cards.
    ///
    /// # Errors
    /// What was tried and what the driver or tool answered.
    fn observe(&self) -> Result<Observation, String>;
}

/// Bytes as people read them, e.g. `139.7 GiB`.
pub fn bytes_in_words(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_meant_by_its_name_or_a_word_of_it_in_any_case() {
        let card = |vendor, kind: &str| Accelerator::new(0, "x", vendor, kind, 0);
        for (vendor, kind, good, bad) in [
            (
                Vendor::Nvidia,
                "NVIDIA H200",
                &["NVIDIA H200", "h200", "H200", "nvidia"][..],
                &["H100", "200", "ascend", " "][..],
            ),
            (
                Vendor::Nvidia,
                "NVIDIA A100-SXM4-80GB",
                &["a100", "A100-SXM4", "nvidia a100", "80gb"],
                &["A10G", "sxm"][..1],
            ),
            (Vendor::Ascend, "910B3", &["910B", "910B3", "Ascend 910B3", "Ascend910B", "ascend"], &["910A", "10B"]),
            (Vendor::Ascend, "Ascend910", &["910", "Ascend910"], &["910B"]),
            (Vendor::Other, "stub-card", &["stub", "stub-card", "CARD"], &["tub", ""]),
        ] {
            let card = card(vendor, kind);
            for wanted in good {
                assert!(card.is_of_kind(wanted), "{kind} is a {wanted}");
            }
            for wanted in bad {
                assert!(!card.is_of_kind(wanted), "{kind} is no {wanted}");
            }
        }
    }

    #[test]
    fn a_node_may_have_another_path_in_the_container() {
        assert_eq!(DeviceNode::parse("/dev/x"), DeviceNode { host: "/dev/x".into(), container: "/dev/x".into() });
        assert_eq!(
            DeviceNode::parse("/dev/x:/dev/y"),
            DeviceNode { host: "/dev/x".into(), container: "/dev/y".into() }
        );
    }
}
