//! What the kernel says without any driver: PCI devices, NUMA nodes, device nodes.

use std::{fs, path::PathBuf};

/// PCI vendor of NVIDIA.
const NVIDIA: &str = "0x10de";
/// PCI vendor of Huawei, which makes network cards and disks as well.
const HUAWEI: &str = "0x19e5";

/// The host's `/sys` and `/dev`; another root in tests.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::at("/")
    }
}

impl Sysfs {
    /// A file system whose `/sys` and `/dev` lie below this directory.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// How many NVIDIA and Ascend devices the PCI bus has, driver or not.
    pub fn hardware(&self) -> (usize, usize) {
        let mut found = (0, 0);
        for entry in fs::read_dir(self.root.join("sys/bus/pci/devices")).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default().trim().to_owned();
            let (vendor, class) = (read("vendor"), read("class"));
            // Display controllers and processing accelerators.
            if vendor == NVIDIA && (class.starts_with("0x03") || class.starts_with("0x12")) {
                found.0 += 1;
            } else if vendor == HUAWEI && class.starts_with("0x12") {
                found.1 += 1;
            }
        }
        found
    }

    /// NUMA node of a PCI address as sysfs writes it (`0000:3d:00.0`); `None` where the machine has no such nodes.
    pub fn numa_node(&self, pci: &str) -> Option<u32> {
        let file = self.root.join("sys/bus/pci/devices").join(pci).join("numa_node");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// The numbers N of `/dev/davinciN`, ascending.
    pub fn davinci_nodes(&self) -> Vec<u32> {
        let names = fs::read_dir(self.root.join("dev")).into_iter().flatten().flatten();
        let mut nodes: Vec<u32> =
            names.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("davinci")?.parse().ok()).collect();
        nodes.sort_unstable();
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerators_are_found_on_the_bus_and_other_devices_of_their_makers_are_not() {
        let dir = tempfile::tempdir().expect("dir");
        for (address, vendor, class, numa) in [
            ("0000:3d:00.0", "0x10de", "0x030200", "1"),
            ("0000:3e:00.0", "0x10de", "0x040300", "0"),
            ("0000:c1:00.0", "0x19e5", "0x120000", "-1"),
            ("0000:c2:00.0", "0x19e5", "0x020000", "0"),
        ] {
            let device = dir.path().join("sys/bus/pci/devices").join(address);
            fs::create_dir_all(&device).expect("made");
            for (name, text) in [("vendor", vendor), ("class", class), ("numa_node", numa)] {
                fs::write(device.join(name), format!("{text}\n")).expect("written");
            }
        }
        fs::create_dir(dir.path().join("dev")).expect("made");
        for name in ["davinci10", "davinci2", "davinci_manager", "davinci0"] {
            fs::write(dir.path().join("dev").join(name), "").expect("written");
        }
        let sysfs = Sysfs::at(dir.path());
        assert_eq!(sysfs.hardware(), (1, 1));
        assert_eq!((sysfs.numa_node("0000:3d:00.0"), sysfs.numa_node("0000:c1:00.0")), (Some(1), None));
        assert_eq!(sysfs.davinci_nodes(), [0, 2, 10]);
    }
}
