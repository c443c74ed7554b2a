//! Tasks on disk: the file `tasks.db` of a worker that owns instances with tasks.
//!
//! It is a file of its own, with its own writer, so that a batch of a million rows never stands in the way of a dispatch; it is
//! opened when the first such instance arrives. Rows that nobody needs any more are deleted in the background, a few
//! thousand at a time: those of runs that have ended at once, what a failing file has left behind with the next round of
//! [`TaskStore::tidy`].

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
const MIGRATIONS: &[Migration] = &[
    Migration {
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
    },
    // For the rounds that look for what nobody needs.
    Migration {
        module: "tasks",
        version: 2,
        sql: "CREATE INDEX tracker_ended ON tracker (ended) WHERE ended IS NOT NULL;
          CREATE INDEX tracker_open ON tracker (lane, instance) WHERE ended IS NULL;
          CREATE INDEX run_open ON run (lane, instance) WHERE dead = 0;",
    },
];

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
            sweep::spawn(store.clone());
            Ok(store)
        };
        self.inner.open.get_or_try_init(open).await
    }

    /// Forgets instances of this lane that nobody has open any more though their rows do not say that they have ended (the file
    /// could not be written then), and ends of long ago; deletes the rows of both, in the background. A file that was not opened
    /// is left alone: nothing is added to it.
    ///
    /// `is_open` is asked within the transaction: whoever opens an instance writes to its rows afterwards.
    ///
    /// # Errors
    /// The file's; the next round tries again.
    pub(crate) async fn tidy(
        &self,
        lane: &str,
        is_open: Arc<dyn Fn(i64) -> bool + Send + Sync>,
    ) -> Result<(), StoreError> {
        let Some(store) = self.inner.open.get() else { return Ok(()) };
        let lane = lane.to_owned();
        let orphans = store.write(move |db| sweep::forget_orphans(db, &lane, &*is_open)).await?;
        if orphans > 0 {
            tracing::info!(orphans, "rows of instances that ended while tasks could not be written are deleted now");
        }
        sweep::spawn(store.clone());
        Ok(())
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
