//! What can go wrong with the store, each with what to do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the store could not be opened or an operation on it failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory of the file is not there and cannot be made.
    #[error(
        "failed to create the directory {path:?} for the state store; give the agent a directory that it may write, with \
         `--state-dir` or `state.dir`"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be opened or made.
    #[error(
        "failed to open the state store {path:?}; check that its directory exists and that the agent's user may write in \
         it, or choose another with `--state-dir` or `state.dir`"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file or its directory may only be read.
    #[error(
        "the state store {path:?} can be read but not written; give the agent's user the right to write the file and its \
         directory, or choose another with `--state-dir` or `state.dir`"
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged or no SQLite file at all.
    #[error(
        "the state store {path:?} is damaged or not a SQLite file ({found}); move it and its `-wal` and `-shm` files \
         away, or restore them from a backup: without them the agent starts with no memory of open instances"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        found: String,
    },
    /// The file was written by a newer program.
    #[error(
        "the state store {path:?} has version {found} of the tables of `{module}` and this program knows up to {known}: \
         it was written by a newer testrig; start that one, or move the file away to begin without its instances"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Whose tables.
        module: String,
        /// The version in the file.
        found: u32,
        /// The newest version that this program has.
        known: u32,
    },
    /// The migrations that the program brings contradict each other.
    #[error(
        "the migrations of `{module}` are not numbered 1, 2, 3 and so on: version {found} stands where {expected} should"
    )]
    Numbering {
        /// Whose migrations.
        module: String,
        /// The version that was found.
        found: u32,
        /// The version that should be there.
        expected: u32,
    },
    /// A migration failed; nothing of it stays.
    #[error("failed to bring the tables of `{module}` in {path:?} to version {version}; nothing was changed")]
    Migration {
        /// The file.
        path: PathBuf,
        /// Whose migration.
        module: String,
        /// The version it leads to.
        version: u32,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// No space is left for the file.
    #[error(
        "failed to write the state store {path:?}: no space left (or a quota reached); free some space, what was \
         acknowledged before is safe"
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The writer's thread cannot be started.
    #[error(
        "failed to start the thread that writes {path:?}; the limit of processes of the agent's user may be reached"
    )]
    Thread {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The caller's operation failed; it was undone, the others of its transaction were not.
    #[error("failed to work on the state store {path:?}")]
    Operation {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The transaction that held the operation was lost as a whole.
    #[error("failed to commit to the state store {path:?} ({reason}); the operation was undone and may be repeated")]
    Commit {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The caller's operation panicked; it was undone.
    #[error("an operation on the state store {path:?} panicked and was undone: {message}")]
    Panicked {
        /// The file.
        path: PathBuf,
        /// The panic's text.
        message: String,
    },
    /// The writer has ended, which happens only while the process ends.
    #[error("the state store {path:?} is closed")]
    Closed {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    /// The error of an operation, told apart where the person in front of the machine must do something.
    pub(crate) fn operation(path: &Path, source: rusqlite::Error) -> Self {
        known(path, &source).unwrap_or_else(|| Self::Operation { path: path.to_owned(), source })
    }

    /// The error of opening.
    pub(crate) fn open(path: &Path, source: rusqlite::Error) -> Self {
        known(path, &source).unwrap_or_else(|| Self::Open { path: path.to_owned(), source })
    }

    /// The error that everybody in a lost transaction gets.
    pub(crate) fn commit(path: &Path, source: &rusqlite::Error) -> Self {
        known(path, source).unwrap_or_else(|| Self::Commit { path: path.to_owned(), reason: source.to_string() })
    }

    /// Whether the same call may succeed later without anything else than time or free space.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Commit { .. } => true,
            Self::Operation { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure)
            ),
            _ => false,
        }
    }
}

fn known(path: &Path, source: &rusqlite::Error) -> Option<StoreError> {
    let path = path.to_owned();
    match source.sqlite_error_code()? {
        ErrorCode::DiskFull => Some(StoreError::DiskFull { path }),
        ErrorCode::ReadOnly => Some(StoreError::ReadOnly { path }),
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => {
            Some(StoreError::Corrupt { path, found: source.to_string() })
        }
        _ => None,
    }
}
