//! The cgroups of a boundary, v2 and v1, where they can be made.
//!
//! They lie below the agent's own: `<own>/testrig/<name>`; in a systemd unit of the boundary's own, which leaves its v2 cgroup
//! to the shim, that is divided into `shim` and `run`, because the kernel passes controllers on only to the children of a
//! cgroup that holds no process itself. The v2 tree may be at `/sys/fs/cgroup` or, beside v1 controllers, at
//! `/sys/fs/cgroup/unified`. The v2 cgroup can kill all of its processes at once; v1's freezer can hold them still; v1's `memory`
//! and `cpuacct` count. None of them is needed: without, the marker and the subreaper remain.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The systemd unit of one boundary, as the shim finds itself in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unit {
    name: String,
    /// Its cgroup: v2, else that of systemd's own v1 hierarchy.
    dir: PathBuf,
}

impl Unit {
    /// The unit that this process was started in, if it is in it. Moves the process to the unit's part `shim`: the children that it
    /// forks from now on stay there.
    pub(crate) fn enter(name: &str) -> Option<Self> {
        let (mounts, own) = own_places();
        // With v1 beside v2, systemd keeps its units in both trees.
        let dir = [UNIFIED, SYSTEMDS_OWN]
            .into_iter()
            .filter_map(|tree| place(&mounts, &own, tree))
            .find(|dir| dir.ends_with(name))?;
        let shim = dir.join("shim");
        fs::create_dir_all(&shim).ok()?;
        fs::write(shim.join("cgroup.procs"), "0").ok()?;
        Some(Self { name: name.to_owned(), dir })
    }
}

/// Names of trees that are no v1 controllers.
const UNIFIED: &str = "";
const SYSTEMDS_OWN: &str = "name=systemd";

/// What all processes of a boundary may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// CPUs' worth of time.
    pub(crate) cpus: Option<f64>,
}

/// The directories of one boundary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    /// The systemd unit that they lie in, where the boundary has one.
    unit: Option<Unit>,
    unified: Option<PathBuf>,
    freezer: Option<PathBuf>,
    memory: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    /// Only where CPU time is limited.
    cpu: Option<PathBuf>,
}

impl Cgroups {
    /// Makes the cgroups that can be made, in the unit if there is one; v2 cgroups that can keep these limits, where the tree
    /// allows that.
    pub(crate) fn make(name: &str, limits: Limits, unit: Option<Unit>) -> Self {
        let (mounts, own) = own_places();
        let below_own = |controller: &str| {
            let dir = place(&mounts, &own, controller)?.join("testrig").join(name);
            fs::create_dir_all(&dir).ok()?;
            Some(dir)
        };
        let unified = match &unit {
            Some(unit) => {
                let dir = unit.dir.join("run");
                fs::create_dir_all(&dir).ok().map(|()| dir)
            }
            None => below_own(UNIFIED),
        };
        // A controller's files are there only if all cgroups above pass it on; whether they may depends on the host.
        let wanted = [limits.memory.map(|_| "+memory"), limits.cpus.map(|_| "+cpu")];
        for controller in wanted.into_iter().flatten() {
            let Some(parent) = unified.as_deref().and_then(Path::parent) else { break };
            let above = parent.parent().filter(|_| unit.is_none());
            for dir in above.into_iter().chain([parent]) {
                let _ = fs::write(dir.join("cgroup.subtree_control"), controller);
            }
        }
        Self {
            unit,
            unified,
            freezer: below_own("freezer"),
            memory: below_own("memory"),
            cpuacct: below_own("cpuacct"),
            cpu: limits.cpus.and_then(|_| below_own("cpu")),
        }
    }

    /// Makes cgroups to see whether they can be made, and removes them: the kinds, or why there are none.
    pub(crate) fn tried() -> Result<String, String> {
        let tried = Self::make(&format!("trial-{}", uuid::Uuid::new_v4().simple()), Limits::default(), None);
        let words = tried.in_words();
        let found = tried.dirs().next().is_some();
        tried.remove();
        if found { Ok(words) } else { Err("none can be made below the agent's own".to_owned()) }
    }

    /// Whether everything in it can be killed or held still at one stroke.
    pub(crate) fn can_hold(&self) -> bool {
        let kill = self.unified.as_ref().is_some_and(|dir| dir.join("cgroup.kill").exists());
        kill || self.freezer.is_some()
    }

    /// The kinds that are in use, for the log.
    pub(crate) fn in_words(&self) -> String {
        let tree =
            self.unified.as_ref().map(|dir| if dir.join("cgroup.events").exists() { "cgroup v2" } else { "cgroup" });
        let kinds = [
            (&self.unified, tree.unwrap_or_default()),
            (&self.freezer, "freezer"),
            (&self.memory, "memory"),
            (&self.cpuacct, "cpuacct"),
            (&self.cpu, "cpu"),
        ];
        let used: Vec<&str> = kinds.iter().filter(|(dir, _)| dir.is_some()).map(|(_, name)| *name).collect();
        let used = if used.is_empty() { "no cgroup".to_owned() } else { used.join(", ") };
        match &self.unit {
            Some(unit) => format!("systemd unit {}, {used}", unit.name),
            None => used,
        }
    }

    /// Files that a process joins by writing `0` to them.
    pub(crate) fn join_files(&self) -> io::Result<Vec<File>> {
        self.dirs().map(|dir| File::options().write(true).open(dir.join("cgroup.procs"))).collect()
    }

    /// Sets the limits; an error is a sentence for the user.
    pub(crate) fn limit(&self, limits: Limits) -> Result<(), String> {
        if let Some(bytes) = limits.memory {
            self.limit_memory(bytes).map_err(|e| format!("failed to limit its memory to {bytes} bytes: {e}"))?;
        }
        if let Some(cpus) = limits.cpus {
            self.limit_cpus(cpus).map_err(|e| format!("failed to limit it to {cpus} CPUs: {e}"))?;
        }
        Ok(())
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
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
            // systemd was asked for it with the unit.
            _ if self.unit.as_ref().is_some_and(|unit| number(&unit.dir.join("memory.max")).is_some()) => Ok(()),
            _ => Err(no_controller("memory")),
        }
    }

    fn limit_cpus(&self, cpus: f64) -> io::Result<()> {
        /// Microseconds; the kernel's own default.
        const PERIOD: f64 = 100_000.0;
        // The kernel takes no quota below a millisecond.
        let quota = (cpus * PERIOD).round().max(1000.0);
        if let Some(dir) = self.cpu.as_ref().filter(|dir| dir.join("cpu.cfs_quota_us").exists()) {
            fs::write(dir.join("cpu.cfs_period_us"), format!("{PERIOD}"))?;
            return fs::write(dir.join("cpu.cfs_quota_us"), format!("{quota}"));
        }
        let kept_by_systemd =
            |unit: &Unit| fs::read_to_string(unit.dir.join("cpu.max")).is_ok_and(|text| !text.starts_with("max"));
        match &self.unified {
            Some(dir) if dir.join("cpu.max").exists() => fs::write(dir.join("cpu.max"), format!("{quota} {PERIOD}")),
            _ if self.unit.as_ref().is_some_and(kept_by_systemd) => Ok(()),
            _ => Err(no_controller("CPU")),
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
        // The whole unit's counter: it is there even where its parts have none.
        let v2 = self.unit.as_ref().map(|unit| unit.dir.as_path()).or(self.unified.as_deref());
        oom_kills(self.memory.as_deref(), v2)
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
        // The unit itself is systemd's, which removes it when nothing is left in it.
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.unified, &self.freezer, &self.memory, &self.cpuacct, &self.cpu].into_iter().flatten()
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
    oom_kills(place("memory").as_deref(), place(UNIFIED).as_deref())
}

/// The kernel's counters: `memory.oom_control` of v1 (`oom_kill` since 4.13), `memory.events` of v2.
fn oom_kills(v1: Option<&Path>, v2: Option<&Path>) -> Option<u64> {
    let v1 = v1.and_then(|dir| field(&dir.join("memory.oom_control"), "oom_kill"));
    let v2 = v2.and_then(|dir| field(&dir.join("memory.events"), "oom_kill"));
    v1.into_iter().chain(v2).reduce(|sum, more| sum + more)
}

fn no_controller(of: &str) -> io::Error {
    let text = format!(
        "no {of} cgroup can be made here; run the agent under systemd (`testrig status` says why it makes no unit for each run) \
         with `Delegate=yes` in its own unit, or leave the limit out"
    );
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Where cgroups are mounted, and the own ones.
fn own_places() -> (String, String) {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    (read("/proc/self/mountinfo"), read("/proc/self/cgroup"))
}

/// The agent's own cgroup of a controller ([`UNIFIED`]: v2) as a directory.
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

/// The number that is all of a file; `None` also where it says `max`.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
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
        none.limit(Limits::default()).expect("nothing to limit");
        for limits in [Limits { memory: Some(1), cpus: None }, Limits { memory: None, cpus: Some(1.5) }] {
            let error = none.limit(limits).expect_err("nothing to limit with");
            assert!(error.contains("Delegate=yes"), "{error}");
        }
    }
}
