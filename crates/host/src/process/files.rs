//! The files of a boundary's directory, which agent and shim share (see the module's table).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroups;
use super::proc::Ident;

/// Paths below a boundary's directory.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
}

/// `start.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Starting {
    pub(crate) shim: Ident,
    /// The kernel's boot: after another boot no pid of this file means anything.
    pub(crate) boot_id: String,
    pub(crate) started_at_ms: i64,
    pub(crate) cgroups: Cgroups,
}

/// `pid.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MainProcess {
    pub(crate) process: Ident,
}

/// `failed.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) detail: String,
}

/// How the name of a directory begins that is being removed: no boundary's name begins with a dot.
const GONE: &str = ".gone-";

fn unless_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

impl Files {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.dir.join("spec.json")
    }

    pub(crate) fn start(&self) -> PathBuf {
        self.dir.join("start.json")
    }

    pub(crate) fn pid(&self) -> PathBuf {
        self.dir.join("pid.json")
    }

    pub(crate) fn failed(&self) -> PathBuf {
        self.dir.join("failed.json")
    }

    pub(crate) fn exit(&self) -> PathBuf {
        self.dir.join("exit.json")
    }

    /// Takes the lock if nobody has it. It is held until the value is dropped; programs do not inherit it.
    pub(crate) fn try_lock(&self) -> io::Result<Option<Flock<File>>> {
        let file = File::options().create(true).truncate(false).write(true).open(self.dir.join("lock"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Removes the directory, which is gone at one stroke for everybody else: a shim that comes in the midst of the removal
    /// must neither find a `spec.json` that is about to go nor put its `lock` into what is being emptied. The caller holds
    /// the lock or knows that no shim lives.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut hidden = OsString::from(GONE);
        hidden.push(self.dir.file_name().unwrap_or_default());
        let gone = self.dir.with_file_name(hidden);
        // Of an agent that was killed during the removal of an earlier boundary of this name.
        unless_missing(fs::remove_dir_all(&gone))?;
        unless_missing(fs::rename(&self.dir, &gone))?;
        unless_missing(fs::remove_dir_all(&gone))
    }

    /// Removes what agents that were killed during [`Files::remove`] left below `state_dir`.
    pub(crate) fn sweep(state_dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(state_dir)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(GONE.as_bytes()) {
                unless_missing(fs::remove_dir_all(entry.path()))?;
            }
        }
        Ok(())
    }

    /// Whether a lock that was just taken is that of the directory as it is now, not of one that was removed meanwhile.
    pub(crate) fn is_current(&self, lock: &Flock<File>) -> bool {
        let mine = nix::sys::stat::fstat(lock.as_fd());
        let there = nix::sys::stat::stat(&self.dir.join("lock"));
        matches!((mine, there), (Ok(a), Ok(b)) if a.st_ino == b.st_ino && a.st_dev == b.st_dev)
    }
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("json.new");
    fs::write(&new, serde_json::to_vec(value)?)?;
    fs::rename(&new, path)
}

/// Reads a file that may not be there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_removed_is_gone_at_once_and_what_a_killed_removal_left_is_swept() {
        let base = tempfile::tempdir().expect("temporary directory");
        let files = Files::new(base.path().join("b"));
        for _ in 0..200 {
            fs::create_dir(&files.dir).expect("directory");
            fs::write(files.spec(), "{}").expect("writable");
            // A late shim: it opens the lock again and again, and with a lock that is current it finds no spec.
            let late = {
                let files = files.clone();
                std::thread::spawn(move || {
                    while let Ok(lock) = files.try_lock() {
                        if let Some(lock) = lock {
                            let permitted = files.spec().exists();
                            assert!(permitted || !files.is_current(&lock), "the spec went before the lock");
                        }
                    }
                })
            };
            let lock = loop {
                if let Some(lock) = files.try_lock().expect("lock") {
                    break lock;
                }
            };
            files.remove().expect("removed");
            drop(lock);
            late.join().expect("no permission was seen in a directory that was going");
        }
        fs::create_dir_all(base.path().join(".gone-x/y")).expect("directory");
        fs::create_dir(base.path().join("x")).expect("directory");
        Files::sweep(base.path()).expect("swept");
        assert!(!base.path().join(".gone-x").exists() && base.path().join("x").exists());
    }

    #[test]
    fn a_lock_is_had_by_one_at_a_time_and_is_known_to_be_stale_when_its_directory_was_made_anew() {
        let base = tempfile::tempdir().expect("temporary directory");
        let files = Files::new(base.path().join("b"));
        fs::create_dir(&files.dir).expect("directory");
        let lock = files.try_lock().expect("lock").expect("free");
        assert!(files.try_lock().expect("lock").is_none());
        assert!(files.is_current(&lock));
        fs::remove_dir_all(&files.dir).expect("removed");
        fs::create_dir(&files.dir).expect("directory");
        assert!(!files.is_current(&lock));
        let _new = files.try_lock().expect("lock").expect("free again");
        assert!(!files.is_current(&lock));
    }
}
