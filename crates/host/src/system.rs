//! Figures of the host: CPU, load, memory, and the disk that a path lies on.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Takes samples of the host. Keep it: the CPU use is measured between two samples of the same sampler.
#[derive(Debug)]
pub struct HostSampler {
    system: System,
}

/// The host at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostSample {
    /// CPU use since the sampler's last sample, percent of all CPUs together; 0 in the first one.
    pub cpu_percent: f64,
    /// Number of CPUs.
    pub cpus: usize,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Memory in bytes.
    pub memory_total_bytes: u64,
    /// Memory in use, without caches, bytes.
    pub memory_used_bytes: u64,
    /// Swap in bytes.
    pub swap_total_bytes: u64,
    /// Swap in use, bytes.
    pub swap_used_bytes: u64,
}

/// The file system that a path lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiskSample {
    /// Size in bytes.
    pub total_bytes: u64,
    /// Bytes that are free for everybody, root's reserve left out.
    pub available_bytes: u64,
    /// Inodes that are free; 0 where the file system counts none.
    pub available_inodes: u64,
}

impl HostSampler {
    /// A sampler whose first sample has no CPU use yet.
    ///
    /// # Errors
    /// The system's figures cannot be read, e.g. because `/proc` is not mounted.
    pub fn new() -> io::Result<Self> {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(kinds).map_err(io::Error::other)?;
        Ok(Self { system })
    }

    /// Reads the figures now.
    ///
    /// # Errors
    /// The load averages cannot be read.
    pub fn sample(&mut self) -> io::Result<HostSample> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        let load = System::load_average().map_err(io::Error::other)?;
        Ok(HostSample {
            cpu_percent: f64::from(self.system.global_cpu_usage()),
            cpus: self.system.cpus().len(),
            load: [load.one, load.five, load.fifteen],
            memory_total_bytes: self.system.total_memory(),
            memory_used_bytes: self.system.used_memory(),
            swap_total_bytes: self.system.total_swap(),
            swap_used_bytes: self.system.used_swap(),
        })
    }
}

/// The disk under `path`.
///
/// # Errors
/// The path does not exist or cannot be looked at.
pub fn disk(path: &Path) -> io::Result<DiskSample> {
    let stat = statvfs(path)?;
    let block = stat.fragment_size();
    Ok(DiskSample {
        total_bytes: stat.blocks() * block,
        available_bytes: stat.blocks_available() * block,
        available_inodes: stat.files_available(),
    })
}

/// The disk that a path is on or will be on: that of its nearest ancestor that exists.
///
/// # Errors
/// Nothing of the path can be looked at.
pub fn disk_of(path: &Path) -> io::Result<DiskSample> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for at in path.ancestors() {
        match disk(at) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => error = missing,
            found => return found,
        }
    }
    Err(error)
}

/// Bytes that a file, or all files below a directory, take on the disk. Links are not followed; what goes away meanwhile
/// counts nothing.
pub fn bytes_of(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(about) = std::fs::symlink_metadata(path) else { return 0 };
    let own = about.blocks() * 512;
    if !about.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| bytes_of(&entry.path())).sum::<u64>()
}

/// Identifies this boot of the kernel: nothing that was started in another one runs any more.
///
/// # Errors
/// `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    crate::process::proc::boot_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_figures_that_a_running_host_must_have() {
        let mut sampler = HostSampler::new().expect("a Linux host");
        sampler.sample().expect("figures");
        let sample = sampler.sample().expect("figures");
        assert!(sample.cpus > 0 && sample.memory_total_bytes > sample.memory_used_bytes, "{sample:?}");
        assert!((0.0..=100.5).contains(&sample.cpu_percent), "{sample:?}");
    }

    #[test]
    fn a_directory_takes_what_its_files_take_and_a_path_to_come_is_on_the_disk_of_what_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let empty = bytes_of(dir.path());
        std::fs::create_dir(dir.path().join("a")).expect("made");
        std::fs::write(dir.path().join("a/x"), vec![1; 100_000]).expect("written");
        std::os::unix::fs::symlink("/usr", dir.path().join("link")).expect("linked");
        let full = bytes_of(dir.path()) - empty;
        assert!((100_000..200_000).contains(&full), "{full}");
        assert_eq!(bytes_of(Path::new("/does/not/exist")), 0);
        let here = disk(dir.path()).expect("it is there").total_bytes;
        assert_eq!(disk_of(&dir.path().join("b/c/d")).expect("its ancestor is there").total_bytes, here);
    }

    #[test]
    fn a_disk_is_that_of_the_path() {
        let here = disk(Path::new(".")).expect("the working directory exists");
        assert!(here.total_bytes >= here.available_bytes && here.total_bytes > 0, "{here:?}");
        assert!(disk(Path::new("/does/not/exist")).is_err());
    }
}
