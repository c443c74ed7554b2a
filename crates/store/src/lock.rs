//! One agent a state directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// The lock's file inside of the state directory.
const NAME: &str = "agent.lock";

/// Why the state directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error(
        "the state directory {dir:?} is in use by {holder}; stop that agent first, or give this one a directory of its \
         own with `--state-dir` or `state.dir`"
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Process id and start of the holder, in words.
        holder: String,
    },
    /// The directory or the lock's file cannot be made.
    #[error(
        "failed to make {path:?}; give the agent a state directory that it may write, with `--state-dir` or `state.dir`"
    )]
    Unwritable {
        /// What could not be made.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file system has no locks.
    #[error("failed to lock {path:?}; the state directory must lie on a file system with locks, best a local one")]
    Unlockable {
        /// The lock's file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Holds a state directory for this process until it is dropped or the process ends, however it ends. The file is
/// closed on exec, so that a child that outlives the agent does not hold the lock.
#[derive(Debug)]
pub struct StateDirLock {
    _file: File,
    path: PathBuf,
}

impl StateDirLock {
    /// Takes the directory, which is made if it is not there.
    ///
    /// # Errors
    /// Names the process that holds it and since when, or says what cannot be written.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Unwritable { path, source }
        };
        std::fs::create_dir_all(dir).map_err(unwritable(dir))?;
        let path = dir.join(NAME);
        // Not truncated here: the text belongs to the holder, who may be another process.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unwritable(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(LockError::Unlockable { path, source }),
        }
        let text = format!("{} {}\n", std::process::id(), jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"));
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(unwritable(&path))?;
        Ok(Self { _file: file, path })
    }

    /// The lock's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// "process 123 since 2026-01-01T00:00:00Z".
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // A holder that has just taken the lock may not have written its name yet.
    let read = file.take(200).read_to_string(&mut text);
    match (read, text.trim().split_once(' ')) {
        (Ok(_), Some((pid, since))) => format!("process {pid} since {since}"),
        _ => "another process (which has not written its id yet)".to_owned(),
    }
}
