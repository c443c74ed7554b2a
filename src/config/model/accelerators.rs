//! `[accelerators]` and the cards that are declared in it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[accelerators]`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Accelerators {
    /// What looks at the cards. `auto`: the declared cards if there are any, else whatever this host's hardware and libraries
    /// offer.
    pub(crate) provider: AcceleratorProvider,
    /// The driver's library (`libnvidia-ml.so.1`, `libdcmi.so`), where it is not in its usual place.
    pub(crate) library: Option<PathBuf>,
    /// The tool `npu-smi`, where it is neither in `PATH` nor in its usual place.
    pub(crate) npu_smi: Option<PathBuf>,
    /// Cards that are never given to runs, by index or UUID.
    pub(crate) exclude: Vec<String>,
    /// MiB of a card's memory that may be in use without its counting as busy. Default: what is usual for its type (1 GiB on
    /// NVIDIA, 1 to 4.5 GiB on Ascend boards).
    pub(crate) idle_memory_mib: Option<u64>,
    /// File of the leases. Agents that share this host's cards must share it. Default: `leases.db` in the state directory.
    pub(crate) lease_file: Option<PathBuf>,
    /// TOML file that says what drivers' codes mean for a card's health, on top of the built-in map.
    pub(crate) health_map: Option<PathBuf>,
    /// Seconds that one look at the cards may take before the driver counts as hanging. Default: 30.
    pub(crate) look_seconds: Option<u64>,
    /// Declared cards, for hosts whose cards nothing can look at.
    pub(crate) card: Vec<AcceleratorCard>,
}

/// What looks at the cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AcceleratorProvider {
    /// Found out.
    #[default]
    Auto,
    /// No card is given to anybody.
    None,
    /// The cards of `[[accelerators.card]]`.
    Declared,
    /// NVIDIA by the driver's library.
    Nvml,
    /// Ascend by the driver's library.
    Dcmi,
    /// Ascend by the tool `npu-smi`.
    NpuSmi,
}

/// `[[accelerators.card]]`: one card that is declared; the first has the index 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct AcceleratorCard {
    /// Type, as `resources.gpuType` names it.
    pub(crate) kind: String,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
    /// `nvidia` and `ascend` are passed to runs as cards of these vendors, `other` (the default) by its `devices` alone.
    pub(crate) vendor: AcceleratorVendor,
    /// An id that stays. Default: type and index.
    pub(crate) uuid: Option<String>,
    /// N of `/dev/nvidiaN` or `/dev/davinciN`.
    pub(crate) node: Option<u32>,
    /// NUMA node.
    pub(crate) numa_node: Option<u32>,
    /// Cards with the same text here are near to each other.
    pub(crate) group: Option<String>,
    /// Device nodes that a run gets with the card: `/dev/x`, or `/dev/x:/dev/y` with another path in the container.
    pub(crate) devices: Vec<String>,
    /// Variable that names the leased cards to the program by their numbers in the lease (`0,1`).
    pub(crate) visible_env: Option<String>,
}

/// Who made a declared card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AcceleratorVendor {
    /// NVIDIA.
    Nvidia,
    /// Huawei Ascend.
    Ascend,
    /// Anybody else.
    #[default]
    Other,
}
