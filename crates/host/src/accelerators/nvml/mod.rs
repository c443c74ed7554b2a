//! NVIDIA cards through NVML.

mod library;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::{
    card::{Accelerator, CardProcess, CardState, Observation, Observed, Provider, Slice, Vendor},
    health::{Health, HealthClass, HealthMap},
    sysfs::Sysfs,
    topology::Topology,
};
use library::{Failed, Handle, NO_MEMORY_FIGURE, Nvml, ProcessInfo};

/// More NVLinks than any GPU has.
const MOST_LINKS: u32 = 18;
/// Codes of single answers that say something of the whole card.
const OF_THE_CARD: [i32; 4] = [9, 10, 15, 16];

/// The provider `nvml`. The session stays open once it was opened: a driver without persistence mode would be started anew for
/// every look. (An open session is a user of the card: toggling MIG or resetting it needs the agent to be stopped.)
pub struct NvidiaNvml {
    path: Option<PathBuf>,
    sysfs: Sysfs,
    health: HealthMap,
    open: Mutex<Option<Session>>,
}

struct Session {
    nvml: Nvml,
    /// Cards that are listened to.
    heard: BTreeMap<String, Handle>,
    /// XIDs of each card since the session began; none is forgotten.
    xids: BTreeMap<String, Vec<u64>>,
    /// Pairs of cards and their nearness, asked once for the same cards.
    near: Option<(Vec<String>, Topology)>,
}

impl NvidiaNvml {
    /// The library at this path, or the driver's own.
    pub fn new(path: Option<PathBuf>, sysfs: Sysfs, health: HealthMap) -> Self {
        Self { path, sysfs, health, open: Mutex::new(None) }
    }

    /// Whether the library is there. It may still refuse to work.
    pub fn is_there(path: Option<&Path>) -> bool {
        Nvml::is_there(path)
    }
}

/// A GPU or a slice of one, with its handle.
struct Found {
    handle: Handle,
    observed: Observed,
}

impl Provider for NvidiaNvml {
    fn name(&self) -> &'static str {
        "nvml"
    }

    fn observe(&self) -> Result<Observation, String> {
        let mut open = self.open.lock();
        let session = match &mut *open {
            Some(session) => session,
            None => open.insert(Session {
                nvml: Nvml::open(self.path.as_deref())?,
                heard: BTreeMap::new(),
                xids: BTreeMap::new(),
                near: None,
            }),
        };
        let seen = self.look(session);
        // A driver that was unloaded or upgraded answers nothing any more: the next look begins anew.
        if seen.is_err() {
            *open = None;
        }
        seen
    }
}

impl NvidiaNvml {
    fn look(&self, session: &mut Session) -> Result<Observation, String> {
        let count =
            session.nvml.count().map_err(|failed| format!("NVML does not count its GPUs: {}", failed.in_words()))?;
        session.hear();
        let mut found = Vec::new();
        let mut notes = Vec::new();
        for index in 0..count {
            match session.nvml.device(index) {
                Ok(handle) => found.extend(self.gpu(session, index, handle)),
                Err(failed) => {
                    notes.push(format!("GPU {index} cannot be opened: {}", failed.in_words()));
                }
            }
        }
        // Slices come behind all whole cards, so that indices of cards are those of nvidia-smi.
        let whole =
            u32::try_from(found.iter().filter(|card| card.observed.card.slice_of.is_none()).count()).unwrap_or(0);
        found.sort_by_key(|card| (card.observed.card.slice_of.is_some(), card.observed.card.index));
        for (at, card) in found.iter_mut().filter(|card| card.observed.card.slice_of.is_some()).enumerate() {
            card.observed.card.index = whole.max(count) + u32::try_from(at).unwrap_or(0);
        }
        let topology = session.topology(&found);
        let (hardware, _) = self.sysfs.hardware();
        if hardware > count as usize {
            notes.push(format!("the PCI bus has {hardware} NVIDIA devices, the driver knows {count} GPUs"));
        }
        let version = session.nvml.driver_version().unwrap_or_else(|_| "of unknown version".to_owned());
        let cards = found.into_iter().map(|card| card.observed).collect();
        Ok(Observation { through: format!("NVML, driver {version}"), cards, topology, notes })
    }

    /// A GPU and, with MIG on, its slices behind it.
    fn gpu(&self, session: &mut Session, index: u32, handle: Handle) -> Vec<Found> {
        let nvml = &session.nvml;
        let mut asked = Asked { map: &self.health, health: Health::default() };
        let uuid = asked.get(nvml.uuid(handle)).unwrap_or_else(|| format!("no-uuid-{index}"));
        let name = asked.get(nvml.name(handle)).unwrap_or_else(|| "NVIDIA GPU".to_owned());
        let memory = asked.get(nvml.memory(handle));
        let mut card =
            Accelerator::new(index, &uuid, Vendor::Nvidia, name, memory.as_ref().map_or(0, |memory| memory.total));
        card.node = asked.get(nvml.minor(handle));
        card.pci = asked.get(nvml.pci(handle));
        card.numa_node = card.pci.as_deref().and_then(|pci| self.sysfs.numa_node(pci));
        let mig = asked.get(nvml.mig(handle)).unwrap_or(false);
        let processes = asked.processes(nvml, handle);
        let mut state = CardState {
            memory_used_bytes: memory.map(|memory| memory.used),
            utilization_percent: asked.get(nvml.utilization(handle)).map(f64::from),
            temperature_c: asked.get(nvml.temperature(handle)).and_then(|degrees| i32::try_from(degrees).ok()),
            power_w: asked.get(nvml.power_mw(handle)).map(|milliwatts| f64::from(milliwatts) / 1000.0),
            processes: processes
                .as_ref()
                .map(|list| list.iter().map(|(process, graphics)| said(process, *graphics)).collect()),
            ..CardState::default()
        };
        if asked.get(nvml.compute_mode(handle)) == Some(2) {
            state.unusable = Some("its compute mode is Prohibited".to_owned());
        }
        state.health = asked.health;
        for xid in session.xids.get(&uuid).into_iter().flatten() {
            state.health = state.health.and(self.health.class("nvidia.xid", xid), format!("XID {xid}"));
        }
        let mut found = Vec::new();
        if mig {
            state.unusable = Some("MIG is on, its slices are given away".to_owned());
            for slice in session.nvml.slices(handle).unwrap_or_default() {
                found.extend(self.slice(&session.nvml, slice, &card, &state.health, processes.as_deref()));
            }
        }
        session.listen_to(&uuid, handle);
        found.insert(0, Found { handle, observed: Observed { card, state } });
        found
    }

    fn slice(
        &self,
        nvml: &Nvml,
        handle: Handle,
        gpu: &Accelerator,
        health: &Health,
        processes: Option<&[(ProcessInfo, bool)]>,
    ) -> Option<Found> {
        let mut asked = Asked { map: &self.health, health: health.clone() };
        let uuid = asked.get(nvml.uuid(handle))?;
        let (gpu_instance, compute_instance) = asked.get(nvml.instances(handle))?;
        let memory = asked.get(nvml.memory(handle));
        let name = asked.get(nvml.name(handle)).unwrap_or_else(|| format!("{} MIG", gpu.kind));
        let total = memory.as_ref().map_or(0, |memory| memory.total);
        let mut card = Accelerator::new(gpu.index, uuid, Vendor::Nvidia, name, total);
        (card.node, card.pci, card.numa_node) = (gpu.node, gpu.pci.clone(), gpu.numa_node);
        card.slice_of = Some(Slice { gpu: gpu.uuid.clone(), gpu_instance, compute_instance });
        let own = |process: &ProcessInfo| {
            process.gpu_instance == gpu_instance && process.compute_instance == compute_instance
        };
        let processes = processes.map(|list| {
            list.iter()
                .filter(|(process, _)| own(process))
                .map(|(process, graphics)| said(process, *graphics))
                .collect()
        });
        let state = CardState {
            memory_used_bytes: memory.map(|memory| memory.used),
            // The driver measures whole GPUs only.
            processes,
            health: asked.health,
            ..CardState::default()
        };
        Some(Found { handle, observed: Observed { card, state } })
    }
}

/// Takes answers one by one: what a card does not support is absent, what says that the card is sick is noted.
struct Asked<'a> {
    map: &'a HealthMap,
    health: Health,
}

impl Asked<'_> {
    fn get<T>(&mut self, answer: Result<T, Failed>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(failed) => {
                if let Failed::Code(code) = &failed
                    && OF_THE_CARD.contains(code)
                    && !self.health.detail.contains(&failed.in_words())
                {
                    let class = self.map.class("nvidia.answer", code);
                    self.health =
                        std::mem::take(&mut self.health).and(class.max(HealthClass::Warning), failed.in_words());
                }
                None
            }
        }
    }

    /// All processes, each once; true = it only draws. `None` if the driver does not tell those that compute.
    fn processes(&mut self, nvml: &Nvml, device: Handle) -> Option<Vec<(ProcessInfo, bool)>> {
        let mut list: Vec<(ProcessInfo, bool)> =
            self.get(nvml.compute_processes(device))?.into_iter().map(|process| (process, false)).collect();
        let further = [(nvml.mps_processes(device), false), (nvml.graphics_processes(device), true)];
        for (answer, graphics) in further {
            for process in self.get(answer).into_iter().flatten() {
                if !list.iter().any(|(known, _)| known.pid == process.pid) {
                    list.push((process, graphics));
                }
            }
        }
        Some(list)
    }
}

fn said(process: &ProcessInfo, graphics: bool) -> CardProcess {
    CardProcess {
        pid: process.pid,
        memory_bytes: (process.memory != NO_MEMORY_FIGURE).then_some(process.memory),
        graphics,
        ..CardProcess::default()
    }
}

impl Session {
    /// Notes the events that came since the last look.
    fn hear(&mut self) {
        for (handle, xid) in self.nvml.xids() {
            let of: Vec<String> =
                self.heard.iter().filter(|(_, known)| **known == handle).map(|(uuid, _)| uuid.clone()).collect();
            // An event of an unknown device may be of each of them.
            let of = if of.is_empty() { self.heard.keys().cloned().collect() } else { of };
            for uuid in of {
                let known = self.xids.entry(uuid).or_default();
                if !known.contains(&xid) {
                    known.push(xid);
                }
            }
        }
    }

    fn listen_to(&mut self, uuid: &str, handle: Handle) {
        if !self.heard.contains_key(uuid) && self.nvml.listen(handle).is_ok() {
            self.heard.insert(uuid.to_owned(), handle);
        }
    }

    fn topology(&mut self, found: &[Found]) -> Topology {
        let ids: Vec<String> = found.iter().map(|card| card.observed.card.uuid.clone()).collect();
        if let Some((known, topology)) = &self.near
            && *known == ids
        {
            return topology.clone();
        }
        let nvml = &self.nvml;
        let links: Vec<Vec<String>> = found
            .iter()
            .map(|card| (0..MOST_LINKS).filter_map(|link| nvml.nvlink(card.handle, link).ok().flatten()).collect())
            .collect();
        let topology = Topology::of(found.len(), |i, j| {
            let (a, b) = (&found[i], &found[j]);
            let (a_card, b_card) = (&a.observed.card, &b.observed.card);
            if a_card.pci.is_some() && a_card.pci == b_card.pci {
                // Slices of one GPU.
                return 60;
            }
            let level = match nvml.common_ancestor(a.handle, b.handle) {
                Ok(0) => 60,
                Ok(10) => 50,
                Ok(20) => 40,
                Ok(30) => 30,
                Ok(40) => 20,
                Ok(_) => 10,
                Err(_) => 10 + 10 * u32::from(a_card.numa_node.is_some() && a_card.numa_node == b_card.numa_node),
            };
            level + 100 * joined(&links[i], &links[j], a_card.pci.as_deref(), b_card.pci.as_deref())
        });
        self.near = Some((ids, topology.clone()));
        topology
    }
}

/// How many NVLinks two GPUs have in common: direct ones, or by a switch that both lead to.
fn joined(a: &[String], b: &[String], a_pci: Option<&str>, b_pci: Option<&str>) -> u32 {
    let direct = a.iter().filter(|end| Some(end.as_str()) == b_pci).count();
    let back = b.iter().filter(|end| Some(end.as_str()) == a_pci).count();
    let switched = a.iter().filter(|end| b.contains(end) && Some(end.as_str()) != b_pci).count();
    u32::try_from(direct.max(back) + switched).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
