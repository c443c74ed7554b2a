//! The handle that everybody holds.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Sender, channel, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use crate::{
    Migration, StoreError, migrate,
    readers::Readers,
    writer::{self, Op, Work},
};

/// How long a connection waits for another process that holds the file (a backup, a person with `sqlite3`).
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// Compiled statements that the writer keeps: those of all crates that write often.
const STATEMENTS: usize = 48;

/// The agent's SQLite file: one writer thread with group commit, readers beside it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// No bound of its own: every entry belongs to a caller who waits for its answer.
    queue: Option<Sender<Box<dyn Work>>>,
    writer: Option<JoinHandle<()>>,
    /// None in memory, where the only connection is the writer's.
    readers: Option<Readers>,
}

impl Store {
    /// Opens or makes the file, brings its tables to the newest version and starts the writer.
    ///
    /// # Errors
    /// Says what is wrong with the file or its directory and what to do; a file of a newer program is refused.
    pub fn open(path: &Path, migrations: &[Migration]) -> Result<Self, StoreError> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, flags).map_err(|e| StoreError::open(path, e))?;
        prepare(&conn, path)?;
        migrate::apply(&mut conn, path, migrations)?;
        Self::start(conn, path, Some(Readers::new(path)))
    }

    /// A store without a file, for tests. Reads run on the writer's connection.
    ///
    /// # Errors
    /// A migration that fails.
    pub fn open_in_memory(migrations: &[Migration]) -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        let mut conn = Connection::open_in_memory().map_err(|e| StoreError::open(path, e))?;
        conn.pragma_update(None, "foreign_keys", true).map_err(|e| StoreError::open(path, e))?;
        migrate::apply(&mut conn, path, migrations)?;
        Self::start(conn, path, None)
    }

    fn start(conn: Connection, path: &Path, readers: Option<Readers>) -> Result<Self, StoreError> {
        let (queue, work) = channel();
        let own = path.to_owned();
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::work(&conn, &own, &work))
            .map_err(|source| StoreError::Thread { path: path.to_owned(), source })?;
        let inner = Inner { path: path.to_owned(), queue: Some(queue), writer: Some(writer), readers };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Runs `f` on the writer's thread and returns after its commit. The closure is already inside of a transaction:
    /// it must not begin or end one, and an error (or a panic) of it undoes only what it did itself. A caller that
    /// stops waiting does not stop the operation.
    ///
    /// # Errors
    /// The closure's own error, or that the commit failed: then the operation was undone and may be repeated.
    pub async fn write<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue(Op::new(f, move |result| {
            // The caller may have stopped waiting.
            let _ = reply.send(result);
        }))?;
        answer.await.map_err(|_| self.closed())?
    }

    /// As [`Store::write`], for callers outside of async code.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = sync_channel(1);
        self.queue(Op::new(f, move |result| {
            let _ = reply.send(result);
        }))?;
        answer.recv().map_err(|_| self.closed())?
    }

    /// Runs `f` on a reading connection, away from the async threads. It sees every write that has returned.
    ///
    /// # Errors
    /// The closure's own error, or that the file cannot be read.
    pub async fn read<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        if self.inner.readers.is_none() {
            return self.write(f).await;
        }
        let store = self.clone();
        match tokio::task::spawn_blocking(move || store.read_blocking(f)).await {
            Ok(result) => result,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(self.closed()),
        }
    }

    /// As [`Store::read`], for callers outside of async code.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_blocking<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        match &self.inner.readers {
            Some(readers) => readers.read(f),
            None => self.write_blocking(f),
        }
    }

    fn queue(&self, op: impl Work + 'static) -> Result<(), StoreError> {
        let queue = self.inner.queue.as_ref().expect("the queue is there until the last handle is dropped");
        queue.send(Box::new(op)).map_err(|_| self.closed())
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed { path: self.inner.path.clone() }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        let writer = self.writer.take().expect("the writer is joined once");
        // The last handle may live in a closure that the writer itself drops.
        if writer.thread().id() != std::thread::current().id() {
            let _already_reported = writer.join();
        }
    }
}

fn prepare(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |e| StoreError::open(path, e);
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.busy_timeout(BUSY).map_err(sql)?;
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sql)?;
    if found != "ok" {
        return Err(StoreError::Corrupt { path: path.to_owned(), found });
    }
    if conn.is_readonly("main").map_err(sql)? {
        return Err(StoreError::ReadOnly { path: path.to_owned() });
    }
    // A file system without shared memory answers with another mode, which keeps the same promise more slowly.
    let mode: String = conn.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).map_err(sql)?;
    if !mode.eq_ignore_ascii_case("wal") {
        tracing::warn!(store = %path.display(), mode, "the state store cannot use WAL here and is slower");
    }
    conn.pragma_update(None, "synchronous", "NORMAL").map_err(sql)?;
    conn.pragma_update(None, "foreign_keys", true).map_err(sql)?;
    conn.pragma_update(None, "journal_size_limit", 64 << 20).map_err(sql)
}
