//! From `[accelerators]` to what runs are given.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use testrig_host::{
    accelerators::{
        Accelerators, AscendDcmi, Book, Declared, DeclaredCard, DeviceNode, HealthMap, NoAccelerators, NpuSmi,
        NvidiaNvml, Policy, Pool, Provider, Settings, Sysfs, Vendor,
    },
    docker::Docker,
};

use crate::config::{self, AcceleratorProvider, AcceleratorVendor, Config};

/// The accelerators that the configuration describes.
pub(crate) fn build(config: &Config) -> anyhow::Result<Arc<dyn Accelerators>> {
    let wanted = &config.accelerators;
    let Some(provider) = provider(wanted)? else { return Ok(Arc::new(NoAccelerators)) };
    let state_dir = &config.state.dir;
    let file = wanted.lease_file.clone().unwrap_or_else(|| state_dir.join("leases.db"));
    let agent = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.clone());
    let book = Book::open(&file, agent.display().to_string())
        .with_context(|| format!("failed to open the leases in {} (`accelerators.lease_file`)", file.display()))?;
    let mut settings = Settings {
        policy: Policy {
            excluded: wanted.exclude.clone(),
            idle_memory_bytes: wanted.idle_memory_mib.map(|mib| mib.saturating_mul(1 << 20)),
        },
        // Only names are asked of it: without an engine there are none.
        docker: Docker::connect(&config.docker.endpoint).ok(),
        ..Settings::default()
    };
    if let Some(seconds) = wanted.look_seconds {
        settings.look_limit = Duration::from_secs(seconds);
    }
    Ok(Arc::new(Pool::new(provider, book, settings)))
}

fn provider(wanted: &config::Accelerators) -> anyhow::Result<Option<Arc<dyn Provider>>> {
    let health = match &wanted.health_map {
        Some(file) => HealthMap::with_file(file).map_err(anyhow::Error::msg)?,
        None => HealthMap::default(),
    };
    let library = wanted.library.clone();
    let found = match wanted.provider {
        AcceleratorProvider::Auto => detect(wanted),
        named => named,
    };
    Ok(match found {
        AcceleratorProvider::None | AcceleratorProvider::Auto => None,
        AcceleratorProvider::Declared => Some(declared(wanted)),
        AcceleratorProvider::Nvml => Some(Arc::new(NvidiaNvml::new(library, Sysfs::default(), health))),
        AcceleratorProvider::Dcmi => Some(Arc::new(AscendDcmi::new(library, Sysfs::default(), health))),
        AcceleratorProvider::NpuSmi => Some(Arc::new(NpuSmi::new(wanted.npu_smi.clone(), Sysfs::default(), health))),
    })
}

/// What this host offers. Hardware without its driver counts: that its driver is missing is worth being told.
fn detect(wanted: &config::Accelerators) -> AcceleratorProvider {
    if !wanted.card.is_empty() {
        return AcceleratorProvider::Declared;
    }
    let sysfs = Sysfs::default();
    let (nvidia, ascend) = sysfs.hardware();
    let library = wanted.library.as_deref();
    if nvidia > 0 || NvidiaNvml::is_there(library) {
        return AcceleratorProvider::Nvml;
    }
    if ascend == 0 && sysfs.davinci_nodes().is_empty() {
        return AcceleratorProvider::None;
    }
    if AscendDcmi::is_there(library) { AcceleratorProvider::Dcmi } else { AcceleratorProvider::NpuSmi }
}

fn declared(wanted: &config::Accelerators) -> Arc<dyn Provider> {
    Arc::new(Declared::new(wanted.card.iter().map(card).collect()))
}

fn card(card: &config::AcceleratorCard) -> DeclaredCard {
    DeclaredCard {
        uuid: card.uuid.clone(),
        vendor: match card.vendor {
            AcceleratorVendor::Nvidia => Vendor::Nvidia,
            AcceleratorVendor::Ascend => Vendor::Ascend,
            AcceleratorVendor::Other => Vendor::Other,
        },
        kind: card.kind.clone(),
        memory_bytes: card.memory_mib.saturating_mul(1 << 20),
        node: card.node,
        numa_node: card.numa_node,
        group: card.group.clone(),
        devices: card.devices.iter().map(|text| DeviceNode::parse(text)).collect(),
        visible_env: card.visible_env.clone(),
    }
}
