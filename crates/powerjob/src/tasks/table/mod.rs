//! Tasks on disk: the file `tasks.db` of a worker that owns instances with tasks.
//!
//! It is a file of its own, with its own writer, so that a batch of a million rows never stands in the way of a dispatch; it is
//! opened when the first such instance arrives. Rows that nobody needs any more are deleted in the background, a few
//! thousand at a time.

mod query;
mod rows;
mod sweep;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use testrig_store::{Migration, Store, StoreError};
use tokio::sync::OnceCell;

pub(crate) use query::Query;
pub(crate) use rows::{NewTask, Row, Table, results};

/// How long the end of an instance is remembered, ms: the worker around the tracker has written it down long before.
pub(crate) const END_KEPT_MS: i64 = 24 * 3_600_000;

/// The tables. A run is the work of one instance, or of one firing of a frequent job; tasks belong to runs, so that a dead
/// run's rows can wait for their deletion beside a new run of the same instance.
const MIGRATIONS: &[Migration] = &[Migration {
    module: "tasks",
    version: 1,
    sql: "CREATE TABLE tracker (
              lane TEXT NOT NULL,
              instance INTEGER NOT NULL,
              state TEXT NOT NULL,
              ended INTEGER,
              PRIMARY KEY (lane, instance)
          ) WITHOUT ROWID;
          CREATE TABLE run (
              key INTEGER PRIMARY KEY AUTOINCREMENT,
              lane TEXT NOT NULL,
              instance INTEGER NOT NULL,
              sub INTEGER NOT NULL,
              state TEXT NOT NULL,
              dead INTEGER NOT NULL DEFAULT 0
          );
          CREATE INDEX run_of ON run (lane, instance);
          CREATE INDEX run_dead ON run (key) WHERE dead = 1;
          CREATE TABLE task (
              n INTEGER PRIMARY KEY,
              run INTEGER NOT NULL,
              id TEXT NOT NULL,
              name TEXT NOT NULL,
              content BLOB,
              address TEXT,
              status INTEGER NOT NULL,
              result TEXT,
              failed INTEGER NOT NULL DEFAULT 0,
              unanswered INTEGER NOT NULL DEFAULT 0,
              created INTEGER NOT NULL,
              modified INTEGER NOT NULL,
              reported INTEGER NOT NULL DEFAULT -1
          );
          CREATE UNIQUE INDEX task_id ON task (run, id);
          CREATE INDEX task_waiting ON task (run, n) WHERE status = 1;",
}];

/// Where the file is, or that there is none. Opened when first asked for; cheap to clone.
#[derive(Clone)]
pub(crate) struct TaskStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: Option<PathBuf>,
    open: OnceCell<Store>,
}

impl TaskStore {
    /// The file at this path, not opened yet.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { inner: Arc::new(Inner { path: Some(path), open: OnceCell::new() }) }
    }

    /// Without a file, for workers that keep nothing on disk: tasks end with the process.
    pub(crate) fn in_memory() -> Self {
        Self { inner: Arc::new(Inner { path: None, open: OnceCell::new() }) }
    }

    /// The store, opened if it is not.
    ///
    /// # Errors
    /// Says what is wrong with the file and what to do; the next call tries again.
    pub(crate) async fn open(&self) -> Result<&Store, StoreError> {
        let open = || async {
            let path = self.inner.path.clone();
            let opened = tokio::task::spawn_blocking(move || match path {
                Some(path) => Store::open(&path, MIGRATIONS),
                None => Store::open_in_memory(MIGRATIONS),
            });
            let store = match opened.await {
                Ok(store) => store?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            sweep::forget_old_ends(&store).await?;
            sweep::spawn(store.clone());
            Ok(store)
        };
        self.inner.open.get_or_try_init(open).await
    }

    /// Deletes the rows of dead runs in the background.
    pub(crate) fn sweep(&self) {
        if let Some(store) = self.inner.open.get() {
            sweep::spawn(store.clone());
        }
    }
}

/// A database in memory with the tables, for tests that need no store around it.
#[cfg(test)]
pub(crate) fn test_connection() -> rusqlite::Connection {
    let db = rusqlite::Connection::open_in_memory().expect("SQLite in memory");
    for step in MIGRATIONS {
        db.execute_batch(step.sql).expect("the tables");
    }
    db
}
