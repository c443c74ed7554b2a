//! A few connections that only read.

use std::path::{Path, PathBuf};

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};

use crate::{StoreError, store::BUSY};

/// More readers than this wait for one another.
const MOST: usize = 4;

pub(crate) struct Readers {
    path: PathBuf,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    lent: usize,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), pool: Mutex::default(), returned: Condvar::new() }
    }

    /// Runs `f` inside of one read transaction, so that several statements see the same state.
    pub(crate) fn read<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut lent = Lent { conn: self.take(), readers: self };
        let conn = match &mut lent.conn {
            Some(conn) => conn,
            none => none.insert(self.connect()?),
        };
        let tx = conn.transaction().map_err(|e| StoreError::operation(&self.path, e))?;
        let result = f(&tx).map_err(|e| StoreError::operation(&self.path, e));
        drop(tx);
        result
    }

    fn take(&self) -> Option<Connection> {
        let mut pool = self.pool.lock();
        self.returned.wait_while(&mut pool, |pool| pool.lent == MOST);
        pool.lent += 1;
        pool.idle.pop()
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.path, flags).map_err(|e| StoreError::open(&self.path, e))?;
        conn.busy_timeout(BUSY)
            .and_then(|()| conn.pragma_update(None, "query_only", true))
            .map_err(|e| StoreError::open(&self.path, e))?;
        Ok(conn)
    }
}

/// Gives the place back even if the reading closure panics.
struct Lent<'a> {
    conn: Option<Connection>,
    readers: &'a Readers,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool.lock();
        pool.lent -= 1;
        pool.idle.extend(self.conn.take());
        self.readers.returned.notify_one();
    }
}
