//! Where local runs keep their store and journals: each a directory of its own, so that several run at once, of which only
//! the newest stay.

use std::path::{Path, PathBuf};

use testrig_store::StateDirLock;

/// As many runs are kept, the new one included.
pub(super) const KEPT: usize = 5;

/// A directory for a new run inside of `local`, after the old ones were removed. It is made by whoever opens it.
pub(super) fn make(local: &Path) -> PathBuf {
    remove_old(local);
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    local.join(format!("{now}-{}", std::process::id()))
}

/// Removes all but the newest runs; one that is still under way stays, and so does what is no run.
fn remove_old(local: &Path) {
    let Ok(entries) = std::fs::read_dir(local) else { return };
    let mut runs: Vec<_> = entries
        .filter_map(|entry| {
            let dir = entry.ok()?.path();
            let begun = std::fs::metadata(dir.join(LOCK)).and_then(|meta| meta.modified()).ok()?;
            Some((begun, dir))
        })
        .collect();
    runs.sort();
    let old = runs.len().saturating_sub(KEPT - 1);
    for (_, dir) in runs.into_iter().take(old) {
        let Ok(lock) = StateDirLock::acquire(&dir) else { continue };
        if let Err(e) = std::fs::remove_dir_all(&dir) {
            eprintln!("an old run in {} could not be removed: {e}", dir.display());
        }
        drop(lock);
    }
}

/// What each of them has.
const LOCK: &str = "agent.lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_runs_stay_and_one_under_way_does_however_old_it_is() {
        let local = tempfile::tempdir().expect("a directory");
        let running = StateDirLock::acquire(&local.path().join("1-running")).expect("locked");
        for n in 2..10 {
            drop(StateDirLock::acquire(&local.path().join(format!("{n}-ended"))).expect("locked"));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        std::fs::create_dir(local.path().join("somebody's")).expect("made");
        let new = make(local.path());
        assert!(!new.exists() && new.parent() == Some(local.path()));
        let mut left: Vec<_> = std::fs::read_dir(local.path())
            .expect("readable")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        left.sort();
        assert_eq!(left, ["1-running", "6-ended", "7-ended", "8-ended", "9-ended", "somebody's"]);
        drop(running);
    }
}
