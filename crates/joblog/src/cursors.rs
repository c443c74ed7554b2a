//! How far each sink is, durable.

use testrig_store::{Migration, Store, StoreError};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    module: "joblog",
    version: 1,
    sql: "CREATE TABLE joblog_cursor (
              instance_id INTEGER NOT NULL,
              sink TEXT NOT NULL,
              next INTEGER NOT NULL,
              PRIMARY KEY (instance_id, sink)
          ) WITHOUT ROWID",
}];

/// The index that each sink wants next, of each instance.
#[derive(Debug, Clone)]
pub struct Cursors {
    store: Store,
}

impl Cursors {
    /// Cursors in a store that was opened with [`MIGRATIONS`].
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The index of the next line for the sink; 0 if nothing was acknowledged yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn get(&self, instance_id: i64, sink: &str) -> Result<u64, StoreError> {
        let sink = sink.to_owned();
        self.store
            .read(move |conn| {
                let mut query =
                    conn.prepare_cached("SELECT next FROM joblog_cursor WHERE instance_id = ?1 AND sink = ?2")?;
                let mut rows = query.query((instance_id, sink))?;
                rows.next()?.map_or(Ok(0), |row| row.get::<_, i64>(0).map(|next| u64::try_from(next).unwrap_or(0)))
            })
            .await
    }

    /// Makes `next` durable.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn set(&self, instance_id: i64, sink: &str, next: u64) -> Result<(), StoreError> {
        self.set_if(instance_id, sink, next, || true).await
    }

    /// As [`Cursors::set`] if `wanted` still holds when the write's turn has come: writes have an order, and one that
    /// a rewind has overtaken must not undo it.
    pub(crate) async fn set_if(
        &self,
        instance_id: i64,
        sink: &str,
        next: u64,
        wanted: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(), StoreError> {
        let sink = sink.to_owned();
        let next = i64::try_from(next).unwrap_or(i64::MAX);
        self.store
            .write(move |conn| {
                if !wanted() {
                    return Ok(());
                }
                conn.prepare_cached(
                    "INSERT INTO joblog_cursor (instance_id, sink, next) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET next = excluded.next",
                )?
                .execute((instance_id, sink, next))
                .map(drop)
            })
            .await
    }

    /// Back to line 0: the sink has lost what it was given.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn rewind(&self, instance_id: i64, sink: &str) -> Result<(), StoreError> {
        self.set(instance_id, sink, 0).await
    }

    /// Forgets all cursors of an instance.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn remove(&self, instance_id: i64) -> Result<(), StoreError> {
        self.store
            .write(move |conn| {
                conn.execute("DELETE FROM joblog_cursor WHERE instance_id = ?1", [instance_id]).map(drop)
            })
            .await
    }
}
