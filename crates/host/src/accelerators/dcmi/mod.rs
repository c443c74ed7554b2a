//! Ascend cards through DCMI: the same facts as npu-smi tells, in milliseconds instead of seconds.

mod library;

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{
    ascend::{self, Link},
    card::{Accelerator, CardProcess, CardState, Observation, Observed, Provider, Vendor},
    health::{Health, HealthClass, HealthMap},
    sysfs::Sysfs,
};
use library::{Dcmi, Failed};

/// The provider `dcmi`.
pub struct AscendDcmi {
    path: Option<PathBuf>,
    sysfs: Sysfs,
    health: HealthMap,
    open: Mutex<Option<Dcmi>>,
}

impl AscendDcmi {
    /// The library at this path, or where the driver puts it.
    pub fn new(path: Option<PathBuf>, sysfs: Sysfs, health: HealthMap) -> Self {
        Self { path, sysfs, health, open: Mutex::new(None) }
    }

    /// Whether the library is there. It may still refuse to work.
    pub fn is_there(path: Option<&Path>) -> bool {
        Dcmi::is_there(path)
    }

    fn look(&self, dcmi: &Dcmi) -> Result<Observation, String> {
        let fail = |failed: Failed| format!("DCMI does not list its cards: {}", failed.in_words());
        let mut notes = Vec::new();
        let mut cards = Vec::new();
        for card in dcmi.cards().map_err(fail)? {
            match dcmi.chips(card) {
                Ok(chips) => cards.extend(chips.into_iter().map(|chip| self.chip(dcmi, card, chip))),
                Err(failed) => notes.push(format!("card {card} does not list its chips: {}", failed.in_words())),
            }
        }
        cards.sort_by_key(|seen| seen.card.index);
        let signed = |place: (u32, u32)| (i32::try_from(place.0).unwrap_or(-1), i32::try_from(place.1).unwrap_or(-1));
        let near = |a, b| dcmi.link(signed(a), signed(b)).ok().and_then(Link::numbered);
        let topology = ascend::topology(&cards, near);
        let (_, hardware) = self.sysfs.hardware();
        let known = cards.iter().filter_map(|seen| seen.card.pci.as_ref()).collect::<std::collections::BTreeSet<_>>();
        if hardware > known.len() && !known.is_empty() {
            notes.push(format!("the PCI bus has {hardware} Ascend devices, the driver knows {}", known.len()));
        }
        let version = dcmi.driver_version().unwrap_or_else(|_| "of unknown version".to_owned());
        Ok(Observation { through: format!("DCMI, driver {version}"), cards, topology, notes })
    }

    fn chip(&self, dcmi: &Dcmi, card: i32, chip: i32) -> Observed {
        let place = (u32::try_from(card).unwrap_or(u32::MAX), u32::try_from(chip).unwrap_or(0));
        let logic_id = dcmi.logic_id(card, chip).ok();
        let node = logic_id.and_then(|logic| dcmi.physical_id(logic).ok());
        let pci = dcmi.pci(card, chip).ok();
        let memory = dcmi.memory_mb(card, chip).ok();
        let uuid = dcmi
            .die(card, chip)
            .unwrap_or_else(|_| format!("npu-{}-{}-{}", place.0, place.1, pci.as_deref().unwrap_or("no-bus")));
        let name = dcmi.name(card, chip).unwrap_or_else(|_| "Ascend".to_owned());
        let index = node.or(logic_id).unwrap_or(place.0);
        let mut known = Accelerator::new(
            index,
            uuid,
            Vendor::Ascend,
            name,
            memory.map_or(0, |(_, all)| all.saturating_mul(1 << 20)),
        );
        (known.node, known.logic_id, known.chip) = (node, logic_id, Some(place));
        known.numa_node = pci.as_deref().and_then(|pci| self.sysfs.numa_node(pci));
        known.pci = pci;
        let processes = dcmi.processes(card, chip).ok().map(|processes| {
            let said = |process: library::ProcessInfo| CardProcess {
                pid: u32::try_from(process.pid).unwrap_or(0),
                memory_bytes: Some(process.bytes),
                ..CardProcess::default()
            };
            processes.into_iter().map(said).collect()
        });
        let state = CardState {
            memory_used_bytes: memory.map(|(used, _)| used.saturating_mul(1 << 20)),
            utilization_percent: dcmi.utilization(card, chip).ok().map(f64::from),
            temperature_c: dcmi.temperature(card, chip).ok(),
            power_w: dcmi.power(card, chip).ok().filter(|power| *power > 0).map(|power| f64::from(power) / 10.0),
            health: self.health_of(dcmi, card, chip),
            processes,
            unusable: node
                .is_none()
                .then(|| "the number of its device node is not known, so it cannot be passed".to_owned()),
        };
        Observed { card: known, state }
    }

    fn health_of(&self, dcmi: &Dcmi, card: i32, chip: i32) -> Health {
        match dcmi.health(card, chip) {
            Ok(number) => ascend::health(&self.health, number, &dcmi.error_codes(card, chip).unwrap_or_default()),
            Err(failed) => {
                let class = match &failed {
                    Failed::Code(code) => self.health.class("ascend.answer", code),
                    Failed::Missing(_) => HealthClass::Unknown,
                };
                Health::default().and(class, failed.in_words())
            }
        }
    }
}

impl Provider for AscendDcmi {
    fn name(&self) -> &'static str {
        "dcmi"
    }

    fn observe(&self) -> Result<Observation, String> {
        let mut open = self.open.lock();
        let dcmi = match &*open {
            Some(dcmi) => dcmi,
            None => open.insert(Dcmi::open(self.path.as_deref())?),
        };
        let seen = self.look(dcmi);
        if seen.is_err() {
            *open = None;
        }
        seen
    }
}

#[cfg(test)]
mod tests;
