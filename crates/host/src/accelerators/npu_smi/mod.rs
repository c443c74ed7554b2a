//! Ascend cards through `npu-smi`, which every driver brings and which needs no library.

mod maps;
mod run;
mod table;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use parking_lot::Mutex;

use super::{
    ascend::{self, Link},
    card::{Accelerator, CardProcess, CardState, Observation, Observed, Provider, Vendor},
    health::HealthMap,
    sysfs::Sysfs,
};
use run::Tool;
use table::{Chip, Table};

/// How long one call may take: a second or two with sixteen cards, for ever with a sick one.
const LIMIT: Duration = Duration::from_secs(20);

/// Card and chip.
type Place = (u32, u32);

/// The provider `npu-smi`.
pub struct NpuSmi {
    tool: Tool,
    sysfs: Sysfs,
    health: HealthMap,
    /// What does not change while the same cards are there.
    known: Mutex<Known>,
}

#[derive(Clone, Default)]
struct Known {
    /// The cards that this is about.
    places: Vec<(Place, Option<String>)>,
    numbers: BTreeMap<Place, (Option<u32>, Option<u32>)>,
    ids: BTreeMap<Place, String>,
    links: Vec<(u32, u32, Link)>,
}

impl NpuSmi {
    /// The tool at this path, or the one in `PATH` and the usual directories.
    pub fn new(program: Option<PathBuf>, sysfs: Sysfs, health: HealthMap) -> Self {
        Self { tool: Tool::new(program, LIMIT), sysfs, health, known: Mutex::default() }
    }

    /// Whether the tool is there.
    pub fn is_there(&self) -> bool {
        self.tool.is_there()
    }

    /// Numbers, ids and links, asked again only when other cards are there.
    fn known(&self, table: &Table) -> Known {
        let places: Vec<(Place, Option<String>)> =
            table.chips.iter().map(|chip| ((chip.npu, chip.chip), chip.bus.clone())).collect();
        let mut known = self.known.lock();
        if known.places != places {
            *known = Known { numbers: self.numbers(table), ids: self.ids(table), links: self.links(), places };
        }
        known.clone()
    }

    /// Logic id and number of the device node of each chip.
    fn numbers(&self, table: &Table) -> BTreeMap<Place, (Option<u32>, Option<u32>)> {
        let mut numbers: BTreeMap<Place, (Option<u32>, Option<u32>)> =
            table.chips.iter().map(|chip| ((chip.npu, chip.chip), (chip.logic_id, chip.phy_id))).collect();
        for row in maps::numbers(&self.tool.call(&["info", "-m"]).unwrap_or_default()) {
            if let Some((logic, phy)) = numbers.get_mut(&(row.npu, row.chip)) {
                *logic = row.logic_id.or(*logic);
                *phy = row.phy_id.or(*phy);
            }
        }
        let nodes = self.sysfs.davinci_nodes();
        if numbers.values().any(|(_, phy)| phy.is_none()) {
            for node in &nodes {
                let text = self.tool.call(&["info", "-t", "phyid-remap", "-p", &node.to_string()]).unwrap_or_default();
                let number = |name| maps::value(&text, name).and_then(|value| value.parse::<u32>().ok());
                if let (Some(npu), Some(chip)) = (number("NPU ID"), number("Chip ID"))
                    && let Some((logic, phy)) = numbers.get_mut(&(npu, chip))
                {
                    *logic = number("Chip Logic ID").or(*logic);
                    *phy = phy.or(Some(*node));
                }
            }
        }
        // Without any word on it: in their order, if there are as many nodes as cards.
        let logic: Option<Vec<u32>> = numbers.values().map(|(logic, _)| *logic).collect();
        if numbers.values().all(|(_, phy)| phy.is_none())
            && nodes.len() == numbers.len()
            && let Some(mut order) = logic
        {
            order.sort_unstable();
            for (logic, phy) in numbers.values_mut() {
                *phy = logic.and_then(|logic| order.iter().position(|at| *at == logic)).map(|at| nodes[at]);
            }
        }
        numbers
    }

    /// The id of each chip that stays over reboots.
    fn ids(&self, table: &Table) -> BTreeMap<Place, String> {
        let id = |chip: &Chip| {
            let (npu, at) = (chip.npu.to_string(), chip.chip.to_string());
            let by_chip = self.tool.call(&["info", "-t", "board", "-i", &npu, "-c", &at]).unwrap_or_default();
            maps::value(&by_chip, "VDie ID").map(|id| id.replace(' ', "-")).or_else(|| {
                let by_card = self.tool.call(&["info", "-t", "board", "-i", &npu]).unwrap_or_default();
                maps::value(&by_card, "Serial Number").map(|serial| format!("{serial}-{at}"))
            })
        };
        let places = table.chips.iter().map(|chip| ((chip.npu, chip.chip), chip));
        places
            .map(|(place, chip)| {
                let bus = chip.bus.as_deref().unwrap_or("no-bus");
                (place, id(chip).unwrap_or_else(|| format!("npu-{}-{}-{bus}", place.0, place.1)))
            })
            .collect()
    }

    fn links(&self) -> Vec<(u32, u32, Link)> {
        maps::links(&self.tool.call(&["info", "-t", "topo"]).unwrap_or_default())
    }

    fn observed(&self, index: usize, chip: &Chip, known: &Known) -> Observed {
        let place = (chip.npu, chip.chip);
        let (logic_id, node) = known.numbers.get(&place).copied().unwrap_or_default();
        let uuid = known.ids.get(&place).cloned().unwrap_or_default();
        let memory = chip.memory_mb.map_or(0, |(_, all)| all << 20);
        let index = node.or(logic_id).unwrap_or_else(|| u32::try_from(index).unwrap_or(u32::MAX));
        let mut card = Accelerator::new(index, uuid, Vendor::Ascend, &chip.name, memory);
        (card.node, card.logic_id, card.chip) = (node, logic_id, Some(place));
        card.pci = chip.bus.as_ref().map(|bus| bus.to_ascii_lowercase());
        card.numa_node = card.pci.as_deref().and_then(|pci| self.sysfs.numa_node(pci));
        let processes = chip.processes.as_ref().map(|processes| {
            processes
                .iter()
                .map(|process| CardProcess {
                    pid: process.pid,
                    name: process.name.clone(),
                    memory_bytes: process.memory_mb.map(|mb| mb << 20),
                    ..CardProcess::default()
                })
                .collect()
        });
        let state = CardState {
            memory_used_bytes: chip.memory_mb.map(|(used, _)| used << 20),
            utilization_percent: chip.utilization,
            temperature_c: chip.temperature_c,
            power_w: chip.power_w,
            health: ascend::health(&self.health, ascend::health_number(&chip.health), &[]),
            processes,
            unusable: node
                .is_none()
                .then(|| "the number of its device node is not known, so it cannot be passed".to_owned()),
        };
        Observed { card, state }
    }
}

impl Provider for NpuSmi {
    fn name(&self) -> &'static str {
        "npu-smi"
    }

    fn observe(&self) -> Result<Observation, String> {
        let table = table::read(&self.tool.call(&["info"])?)?;
        let known = self.known(&table);
        let mut cards: Vec<Observed> =
            table.chips.iter().enumerate().map(|(at, chip)| self.observed(at, chip, &known)).collect();
        cards.sort_by_key(|seen| seen.card.index);
        let near =
            |a: Place, b: Place| known.links.iter().find(|(x, y, _)| (*x, *y) == (a.0, b.0)).map(|(_, _, link)| *link);
        let topology = ascend::topology(&cards, near);
        let through = format!("npu-smi {}", table.version.as_deref().unwrap_or("of unknown version"));
        Ok(Observation { through, cards, topology, notes: Vec::new() })
    }
}

#[cfg(test)]
mod tests;
