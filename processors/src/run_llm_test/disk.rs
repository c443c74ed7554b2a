//! Room on the disk: what a run must find, and which directories of ended runs are removed.
//!
//! Removed is only what this agent made: a directory whose path is in the store, which is no link, whose `result.json` names
//! the same instance, inside of the allowed roots, and whose run is over.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use testrig_host::{
    accelerators::bytes_in_words,
    system::{bytes_of, disk_of},
};
use testrig_store::Store;

use super::{
    dir::owner,
    state::{Runs, Stage},
};
use crate::{Access, DiskLimits, Environment};

/// However little room there is: upstream jobs still want to collect it.
const KEPT_AT_LEAST: Duration = Duration::from_secs(3600);
/// How often the room that a run takes is measured.
const LOOK: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whether a run may begin that writes here; else why not.
pub(super) fn room(env: &Environment, dir: &Path) -> Result<(), String> {
    let floor = env.disk.floor_bytes;
    // What cannot be looked at will be told by what is made there.
    let Some(disk) = disk_of(dir).ok().filter(|disk| disk.available_bytes < floor) else { return Ok(()) };
    Err(format!(
        "the disk under `{}` has {} free, and no run begins below {} (disk.floor_bytes of the agent's configuration); make room, \
         or let old runs be removed (disk.runs_retention_days, disk.runs_max_bytes)",
        dir.display(),
        bytes_in_words(disk.available_bytes),
        bytes_in_words(floor)
    ))
}

/// Returns, with a text that says so, when the directory takes more bytes than it may.
pub(super) async fn outgrown(dir: PathBuf, most: u64) -> String {
    loop {
        let path = dir.clone();
        let taken = tokio::task::spawn_blocking(move || bytes_of(&path)).await.unwrap_or_default();
        if taken > most {
            return format!(
                "the run's directory `{}` takes {}, and it may take {} (disk.run_max_bytes of the agent's configuration)",
                dir.display(),
                bytes_in_words(taken),
                bytes_in_words(most)
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A directory that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Where it was.
    pub path: PathBuf,
    /// What it took.
    pub bytes: u64,
    /// Why it went.
    pub why: &'static str,
}

/// The directory of an ended run.
struct Ended {
    path: PathBuf,
    instance_id: i64,
    age: Duration,
    bytes: u64,
}

/// Removes the directories of runs that ended longer ago than `[disk]` keeps them, then the oldest until the rest takes no more
/// than it may.
///
/// # Errors
/// The store cannot be read; a directory that cannot be removed is logged and stays.
pub async fn remove_old_runs(env: &Arc<Environment>, store: &Store) -> Result<Vec<Removed>, String> {
    let limits = env.disk;
    if limits.runs_retention_days.is_none() && limits.runs_max_bytes.is_none() {
        return Ok(Vec::new());
    }
    let runs = Runs::new(store.clone());
    let known = runs.dirs().await.map_err(|error| error.to_string())?;
    let mut over = Vec::new();
    for (path, instance_id) in known {
        let open = runs.load(instance_id).await.map_err(|error| error.to_string())?;
        if open.is_none_or(|record| record.stage == Stage::Done) {
            over.push((path, instance_id));
        }
    }
    let environment = Arc::clone(env);
    let work = move || {
        let (ended, foreign) = look(&environment, over);
        let chosen = choose(ended, limits);
        (chosen.into_iter().filter_map(remove).collect::<Vec<_>>(), foreign)
    };
    let (removed, foreign) = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    for path in removed.iter().map(|removed| &removed.path).chain(&foreign) {
        runs.dir_gone(path).await.map_err(|error| error.to_string())?;
    }
    Ok(removed)
}

/// The directories that are this agent's own, and the paths that are not (any more).
fn look(env: &Environment, known: Vec<(PathBuf, i64)>) -> (Vec<Ended>, Vec<PathBuf>) {
    let (mut ended, mut foreign) = (Vec::new(), Vec::new());
    for (path, instance_id) in known {
        let result = path.join("result.json");
        let own = path.symlink_metadata().is_ok_and(|about| about.is_dir())
            && path.canonicalize().is_ok_and(|real| real == path)
            && env.allow_path(&path, Access::Write).is_ok()
            && owner(&result).0 == Some(instance_id);
        if !own {
            foreign.push(path);
            continue;
        }
        let changed = result.metadata().and_then(|about| about.modified()).unwrap_or_else(|_| SystemTime::now());
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        ended.push(Ended { bytes: bytes_of(&path), path, instance_id, age });
    }
    (ended, foreign)
}

fn choose(mut ended: Vec<Ended>, limits: DiskLimits) -> Vec<(Ended, &'static str)> {
    ended.sort_by_key(|dir| dir.age);
    let longest = limits.runs_retention_days.map(|days| DAY * days);
    let mut total: u64 = ended.iter().map(|dir| dir.bytes).sum();
    let mut chosen = Vec::new();
    while let Some(oldest) = ended.pop() {
        let why = if longest.is_some_and(|longest| oldest.age > longest) {
            "older than disk.runs_retention_days"
        } else if limits.runs_max_bytes.is_some_and(|most| total > most) && oldest.age >= KEPT_AT_LEAST {
            "beyond disk.runs_max_bytes"
        } else {
            break;
        };
        total -= oldest.bytes;
        chosen.push((oldest, why));
    }
    chosen
}

fn remove((dir, why): (Ended, &'static str)) -> Option<Removed> {
    // Measuring takes its time: a new run may have set it aside and be at work under its name.
    if owner(&dir.path.join("result.json")).0 != Some(dir.instance_id) {
        return None;
    }
    match std::fs::remove_dir_all(&dir.path) {
        Ok(()) => Some(Removed { path: dir.path, bytes: dir.bytes, why }),
        Err(error) => {
            tracing::warn!(path = %dir.path.display(), %error, "the directory of an old run could not be removed");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn ended(name: &str, hours: u64, bytes: u64) -> Ended {
        Ended { path: name.into(), instance_id: 0, age: Duration::from_secs(hours * 3600), bytes }
    }

    fn chosen(limits: DiskLimits) -> Vec<String> {
        let all = vec![ended("new", 0, 50), ended("old", 100, 30), ended("older", 200, 40), ended("hours", 5, 20)];
        choose(all, limits).into_iter().map(|(dir, _)| dir.path.display().to_string()).collect()
    }

    #[test]
    fn the_oldest_go_first_until_the_rest_is_young_and_small_enough() {
        let none = DiskLimits::default();
        assert_eq!(chosen(none), [""; 0]);
        assert_eq!(chosen(DiskLimits { runs_retention_days: Some(7), ..none }), ["older"]);
        assert_eq!(chosen(DiskLimits { runs_retention_days: Some(4), ..none }), ["older", "old"]);
        assert_eq!(chosen(DiskLimits { runs_max_bytes: Some(100), ..none }), ["older"]);
        assert_eq!(chosen(DiskLimits { runs_max_bytes: Some(70), ..none }), ["older", "old"]);
        assert_eq!(
            chosen(DiskLimits { runs_max_bytes: Some(1), ..none }),
            ["older", "old", "hours"],
            "a fresh one stays"
        );
    }

    #[test]
    fn what_a_new_run_has_taken_over_since_the_look_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = run_dir(dir.path(), "run", 2, 20);
        let seen = |instance_id| Ended { path: path.clone(), instance_id, age: DAY, bytes: 1 };
        assert_eq!(remove((seen(1), "old")), None);
        assert!(path.exists());
        assert!(remove((seen(2), "old")).is_some() && !path.exists());
    }

    /// A directory as a run leaves it; its last word is so old.
    fn run_dir(base: &Path, name: &str, instance: i64, days: u64) -> PathBuf {
        let dir = base.join(name);
        std::fs::create_dir_all(&dir).expect("made");
        std::fs::write(dir.join("result.json"), format!(r#"{{"instanceId":"{instance}"}}"#)).expect("written");
        std::fs::write(dir.join("svc.log"), vec![1; 10_000]).expect("written");
        let file = std::fs::File::options().write(true).open(dir.join("result.json")).expect("there");
        file.set_modified(SystemTime::now() - DAY * u32::try_from(days).expect("few")).expect("set");
        dir
    }

    #[tokio::test]
    async fn only_what_this_agent_made_and_still_owns_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().canonicalize().expect("there");
        let mut env = testing::environment(&base);
        env.disk.runs_retention_days = Some(10);
        let env = Arc::new(env);
        let store = Store::open_in_memory(crate::MIGRATIONS).expect("a store");
        let runs = Runs::new(store.clone());
        let old = run_dir(&base, "old", 1, 20);
        let fresh = run_dir(&base, "fresh", 2, 2);
        let unknown = run_dir(&base, "unknown", 3, 20);
        let taken_over = run_dir(&base, "taken-over", 99, 20);
        let linked_to = run_dir(&base, "elsewhere", 5, 20);
        let link = base.join("link");
        std::os::unix::fs::symlink(&linked_to, &link).expect("linked");
        let at_work = run_dir(&base, "at-work", 6, 20);
        for (path, instance) in [(&old, 1), (&fresh, 2), (&taken_over, 4), (&link, 5), (&at_work, 6)] {
            runs.dir_made(path, instance).await;
        }
        runs.save(6, &super::super::state::RunRecord::new(1, 0), 0).await.expect("stored");
        let moved = base.join("old.attempt-1");
        std::fs::rename(&old, &moved).expect("moved");
        runs.dir_moved(&old, &moved).await;

        let removed = remove_old_runs(&env, &store).await.expect("looked");
        assert_eq!(removed.iter().map(|one| &one.path).collect::<Vec<_>>(), [&moved]);
        assert!(removed[0].bytes >= 10_000, "{removed:?}");
        assert!(!moved.exists());
        assert!([&fresh, &unknown, &taken_over, &linked_to, &link, &at_work].iter().all(|path| path.exists()));
        let known: Vec<PathBuf> = runs.dirs().await.expect("read").into_iter().map(|(path, _)| path).collect();
        assert_eq!(known, [at_work, fresh], "what is somebody else's is forgotten");
        assert_eq!(remove_old_runs(&env, &store).await, Ok(Vec::new()));
    }

    #[test]
    fn a_disk_with_less_room_than_the_floor_takes_no_run_and_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut env = testing::environment(dir.path());
        assert_eq!(room(&env, &dir.path().join("logs/dev")), Ok(()));
        env.disk.floor_bytes = 1 << 60;
        let why = room(&env, &dir.path().join("logs/dev")).expect_err("nobody has so much");
        assert!(why.contains("disk.floor_bytes") && why.contains(" free"), "{why}");
    }
}
