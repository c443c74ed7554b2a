//! The cgroups of a boundary, v2 and v1, where they can be made.
//!
//! They lie below the agent's own: `<own>/testrig/<name>`. The v2 tree may be at `/sys/fs/cgroup` or, beside v1
//! controllers, at `/sys/fs/cgroup/unified`. The v2 cgroup can kill all of its processes at once; v1's freezer can hold them
//! still; v1's `memory` and `cpuacct` count. None of them is needed: without, the marker and the subreaper remain.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The directories of one boundary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    unified: Option<PathBuf>,
    freezer: Option<PathBuf>,
    memory: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
}

impl Cgroups {
    /// Makes the cgroups that can be made; with `memory`, v2 cgroups that can limit it, where the tree allows that.
    pub(crate) fn make(name: &str, memory: bool) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let make = |controller: &str| {
            let parent = place(&mounts, &own, controller)?.join("testrig");
            let dir = parent.join(name);
            fs::create_dir_all(&dir).ok()?;
            // A controller's files are there only if all cgroups above pass it on; whether they may depends on the host.
            if controller.is_empty() && memory {
                for above in parent.parent().into_iter().chain([parent.as_path()]) {
                    let _ = fs::write(above.join("cgroup.subtree_control"), "+memory");
                }
            }
            Some(dir)
        };
        Self { unified: make(""), freezer: make("freezer"), memory: make("memory"), cpuacct: make("cpuacct") }
    }

    /// The kinds that are in use, for the log.
    pub(crate) fn in_words(&self) -> String {
        let kinds = [
            (&self.unified, "cgroup v2"),
            (&self.freezer, "freezer"),
            (&self.memory, "memory"),
            (&self.cpuacct, "cpuacct"),
        ];
        let used: Vec<&str> = kinds.iter().filter(|(dir, _)| dir.is_some()).map(|(_, name)| *name).collect();
        if used.is_empty() { "no cgroup".to_owned() } else { used.join(", ") }
    }

    /// Files that a process joins by writing `0` to them.
    pub(crate) fn join_files(&self) -> io::Result<Vec<File>> {
        self.dirs().map(|dir| File::options().write(true).open(dir.join("cgroup.procs"))).collect()
    }

    /// Limits the memory of all processes together.
    pub(crate) fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        let text = bytes.to_string();
        if let Some(dir) = &self.memory {
            fs::write(dir.join("memory.limit_in_bytes"), &text)?;
            // Only where swap is accounted.
            let _ = fs::write(dir.join("memory.memsw.limit_in_bytes"), &text);
            return Ok(());
        }
        match &self.unified {
            Some(dir) if dir.join("memory.max").exists() => {
                fs::write(dir.join("memory.max"), &text)?;
                let _ = fs::write(dir.join("memory.swap.max"), "0");
                Ok(())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no memory cgroup can be made here; give the agent's unit `Delegate=yes`, or leave the memory limit out",
            )),
        }
    }

    /// Pids in the boundary, those in cgroups below included.
    pub(crate) fn pids(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for dir in self.dirs() {
            collect(dir, &mut pids);
        }
        pids
    }

    /// Kills everything at once where the kernel can (v2, 5.14); elsewhere holds it still, so that nothing forks while it is
    /// killed one by one. Follow it with [`Cgroups::thaw`].
    pub(crate) fn kill_or_freeze(&self) {
        if let Some(dir) = &self.unified
            && fs::write(dir.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        if let Some(dir) = &self.freezer {
            let _ = fs::write(dir.join("freezer.state"), "FROZEN");
        }
    }

    /// Lets frozen processes go on, which a killed one must to die.
    pub(crate) fn thaw(&self) {
        if let Some(dir) = &self.freezer {
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
        }
    }

    /// How many processes the kernel killed for want of memory; `None` where it does not count them.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        oom_kills(self.memory.as_deref(), self.unified.as_deref())
    }

    /// CPU time used by all processes so far, ended ones included, nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        let v1 = self
            .cpuacct
            .as_ref()
            .and_then(|dir| fs::read_to_string(dir.join("cpuacct.usage")).ok()?.trim().parse().ok());
        v1.or_else(|| Some(field(&self.unified.as_ref()?.join("cpu.stat"), "usage_usec")? * 1000))
    }

    /// Removes the directories; the kernel refuses while a process is in one.
    pub(crate) fn remove(&self) {
        for dir in self.dirs() {
            remove_tree(dir);
        }
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.unified, &self.freezer, &self.memory, &self.cpuacct].into_iter().flatten()
    }
}

/// How many processes of a container the kernel killed for want of memory, by the cgroups of its main process; `None` where
/// it does not run, is not on this host, or nobody counts.
pub(crate) fn oom_kills_of_container(container: &str, pid: i32) -> Option<u64> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    // An engine on another host has other processes under the same numbers.
    if container.len() < 64 || !own.contains(container) {
        return None;
    }
    let place = |controller| place(&mounts, &own, controller).filter(|dir| dir.to_string_lossy().contains(container));
    oom_kills(place("memory").as_deref(), place("").as_deref())
}

/// The kernel's counters: `memory.oom_control` of v1 (`oom_kill` since 4.13), `memory.events` of v2.
fn oom_kills(v1: Option<&Path>, v2: Option<&Path>) -> Option<u64> {
    let v1 = v1.and_then(|dir| field(&dir.join("memory.oom_control"), "oom_kill"));
    let v2 = v2.and_then(|dir| field(&dir.join("memory.events"), "oom_kill"));
    v1.into_iter().chain(v2).reduce(|sum, more| sum + more)
}

/// The agent's own cgroup of a controller (v2: the empty name) as a directory.
fn place(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let (root, mount) = mounts.lines().find_map(|line| {
        // proc(5): id parent dev root mount options [tags..] - type source super-options
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let kind = right.next()?;
        let fits = if controller.is_empty() {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && right.nth(1)?.split(',').any(|option| option == controller)
        };
        let mut left = left.split(' ').skip(3);
        fits.then(|| Some((left.next()?.to_owned(), PathBuf::from(left.next()?)))).flatten()
    })?;
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let names = parts.next()?;
        let path = parts.next()?;
        let fits = if controller.is_empty() { names.is_empty() } else { names.split(',').any(|n| n == controller) };
        fits.then_some(path)
    })?;
    // In a container the mount shows only a part of the tree.
    let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    let dir = mount.join(below.trim_start_matches('/'));
    Some(if dir.is_dir() { dir } else { mount })
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn collect(dir: &Path, pids: &mut BTreeSet<i32>) {
    if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
        // 0 is a process of another pid namespace, which has no number here.
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    for below in subdirs(dir) {
        collect(&below, pids);
    }
}

fn remove_tree(dir: &Path) {
    for below in subdirs(dir) {
        remove_tree(&below);
    }
    let _ = fs::remove_dir(dir);
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn the_v2_tree_is_found_beside_v1_and_alone() {
        let alone = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";
        let own = "3:cpu,cpuacct:/\n0::/no/such/unit.service";
        assert_eq!(place(HYBRID, own, ""), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(place(alone, own, ""), Some("/sys/fs/cgroup".into()));
        assert_eq!(place(alone, own, "memory"), None);
    }

    #[test]
    fn a_v1_controller_is_found_among_several_of_one_mount() {
        assert_eq!(place(HYBRID, "3:cpu,cpuacct:/\n0::/", "cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(place(HYBRID, "0::/", "cpuacct"), None);
    }

    #[test]
    fn what_a_container_sees_of_the_tree_is_below_its_mount() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(dir.path().join("inner")).expect("directory");
        let mounts = format!("1 2 0:1 /docker/abc {} rw - cgroup2 c rw", dir.path().display());
        assert_eq!(place(&mounts, "0::/docker/abc/inner", ""), Some(dir.path().join("inner")));
    }

    #[test]
    fn kills_for_want_of_memory_are_counted_by_either_kind_of_cgroup() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (v1, v2) = (dir.path().join("v1"), dir.path().join("v2"));
        fs::create_dir(&v1).expect("directory");
        fs::create_dir(&v2).expect("directory");
        assert_eq!(oom_kills(Some(&v1), Some(&v2)), None, "a kernel that does not count");
        fs::write(v1.join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n").expect("written");
        assert_eq!(oom_kills(Some(&v1), None), Some(2));
        fs::write(v2.join("memory.events"), "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n")
            .expect("written");
        assert_eq!(oom_kills(None, Some(&v2)), Some(3));
        assert_eq!(oom_kills_of_container(&"a".repeat(64), 1), None, "another program's process");
    }

    #[test]
    fn nothing_is_an_error_where_no_cgroup_can_be_made_but_a_limit_is() {
        let none = Cgroups::default();
        none.kill_or_freeze();
        none.thaw();
        none.remove();
        assert!(none.pids().is_empty() && none.oom_kills().is_none() && none.cpu_ns().is_none());
        assert_eq!(none.in_words(), "no cgroup");
        let error = none.limit_memory(1).expect_err("nothing to limit with");
        assert!(error.to_string().contains("Delegate=yes"), "{error}");
    }
}
