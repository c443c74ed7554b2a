//! Cards that the configuration declares: for hosts whose driver has neither NVML nor DCMI nor npu-smi, and for tests.
//!
//! Nobody can look at such a card, so its processes are found by the device nodes that they hold open, and where it has none
//! the ledger alone decides.

use std::{fs, os::unix::fs::MetadataExt};

use super::{
    card::{Accelerator, CardProcess, CardState, DeviceNode, Observation, Observed, Provider, Vendor},
    topology::Topology,
};

/// One entry of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredCard {
    /// Its stable id; default `{kind}-{index}`.
    pub uuid: Option<String>,
    /// Who made it.
    pub vendor: Vendor,
    /// Model.
    pub kind: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The number in the name of its device node.
    pub node: Option<u32>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Cards of the same group are near to each other.
    pub group: Option<String>,
    /// Device nodes that are passed.
    pub devices: Vec<DeviceNode>,
    /// The variable that names the cards to a program.
    pub visible_env: Option<String>,
}

/// The provider `declared`.
#[derive(Clone, Debug)]
pub struct Declared {
    cards: Vec<DeclaredCard>,
}

impl Declared {
    /// These cards, numbered from 0.
    pub fn new(cards: Vec<DeclaredCard>) -> Self {
        Self { cards }
    }
}

impl Provider for Declared {
    fn name(&self) -> &'static str {
        "declared"
    }

    fn observe(&self) -> Result<Observation, String> {
        let users = users(&self.cards);
        let cards = self.cards.iter().zip(users).enumerate().map(|(at, (declared, processes))| {
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            let uuid = declared.uuid.clone().unwrap_or_else(|| format!("{}-{index}", declared.kind));
            let mut card = Accelerator::new(index, uuid, declared.vendor, &declared.kind, declared.memory_bytes);
            card.node = declared.node;
            card.logic_id = Some(index);
            card.numa_node = declared.numa_node;
            card.devices = declared.devices.clone();
            card.visible_env = declared.visible_env.clone();
            let mut state = CardState { processes: Some(processes), ..CardState::default() };
            if let Some(missing) = declared.devices.iter().find(|node| !std::path::Path::new(&node.host).exists()) {
                state.unusable = Some(format!("its device {} does not exist", missing.host));
            }
            Observed { card, state }
        });
        let near = |i: usize, j: usize| {
            let (a, b) = (&self.cards[i], &self.cards[j]);
            let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
            10 + 10 * u32::from(a.numa_node.is_some() && a.numa_node == b.numa_node)
                + 40 * u32::from(same(&a.group, &b.group))
        };
        Ok(Observation {
            through: "the configuration".to_owned(),
            cards: cards.collect(),
            topology: Topology::of(self.cards.len(), near),
            notes: Vec::new(),
        })
    }
}

/// Processes that hold a node of a card open, by card. Nodes that everybody has open (`/dev/null`) would make a card busy for
/// ever, so what is below the kernel's own memory devices (major 1) says nothing.
fn users(cards: &[DeclaredCard]) -> Vec<Vec<CardProcess>> {
    let nodes: Vec<Vec<u64>> =
        cards.iter().map(|card| card.devices.iter().filter_map(|node| device(&node.host)).collect()).collect();
    let mut users = vec![Vec::new(); cards.len()];
    if nodes.iter().all(Vec::is_empty) {
        return users;
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let mut open: Vec<u64> = fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            // Only what can be a device: the target of a socket or a pipe is not looked at.
            .filter(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.starts_with("/dev")))
            .filter_map(|fd| device(&fd.path().display().to_string()))
            .collect();
        open.sort_unstable();
        for (nodes, users) in nodes.iter().zip(&mut users) {
            if nodes.iter().any(|node| open.binary_search(node).is_ok()) {
                users.push(CardProcess { pid, ..CardProcess::default() });
            }
        }
    }
    users
}

fn device(path: &str) -> Option<u64> {
    use std::os::unix::fs::FileTypeExt;
    let meta = fs::metadata(path).ok().filter(|meta| meta.file_type().is_char_device())?;
    (nix::sys::stat::major(meta.rdev()) != 1).then_some(meta.rdev())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn card(kind: &str, devices: &[&str]) -> DeclaredCard {
        DeclaredCard {
            uuid: None,
            vendor: Vendor::Other,
            kind: kind.into(),
            memory_bytes: 1 << 34,
            node: None,
            numa_node: None,
            group: None,
            devices: devices.iter().map(|text| DeviceNode::parse(text)).collect(),
            visible_env: None,
        }
    }

    #[test]
    fn declared_cards_are_numbered_and_a_missing_node_is_told() {
        let provider =
            Declared::new(vec![card("stub", &["/dev/zero:/dev/accel0"]), card("stub", &["/dev/no-such-node"])]);
        let seen = provider.observe().expect("nothing to fail");
        assert_eq!(seen.cards[1].card.uuid, "stub-1");
        assert_eq!(seen.cards[0].card.devices[0].container, "/dev/accel0");
        assert_eq!(seen.cards[0].state.unusable, None);
        assert_eq!(seen.cards[1].state.unusable.as_deref(), Some("its device /dev/no-such-node does not exist"));
    }

    #[test]
    fn who_holds_a_node_open_uses_the_card() {
        // A terminal's master is a device that nobody else has open by this name.
        let Ok(_held) = fs::File::open("/dev/ptmx") else { panic!("there is no /dev/ptmx") };
        let provider = Declared::new(vec![card("stub", &["/dev/ptmx"]), card("stub", &["/dev/null"])]);
        let seen = provider.observe().expect("nothing to fail");
        let pids = |at: usize| -> Vec<u32> {
            seen.cards[at].state.processes.iter().flatten().map(|process| process.pid).collect()
        };
        assert!(pids(0).contains(&std::process::id()), "{:?}", pids(0));
        assert_eq!(pids(1), [] as [u32; 0], "what everybody has open says nothing");
    }

    #[test]
    fn cards_of_one_group_are_chosen_together() {
        let mut cards = vec![card("a", &[]), card("a", &[]), card("a", &[]), card("a", &[])];
        for (at, group) in [(1, "x"), (3, "x")] {
            cards[at].group = Some(group.into());
        }
        let seen = Declared::new(cards).observe().expect("nothing to fail");
        assert_eq!(seen.topology.choose(2, &[0, 1, 2, 3]), Some(vec![1, 3]));
    }
}
