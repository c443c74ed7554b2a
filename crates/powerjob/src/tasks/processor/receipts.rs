//! Tasks of other workers' trackers in the store.

use rusqlite::{Connection, params};
use testrig_store::{Migration, Store, StoreError};

use super::{Receipt, Write};

/// The table of this role.
pub(crate) const RECEIPTS: Migration = Migration {
    module: "receipts",
    version: 1,
    sql: "CREATE TABLE task_receipt (
              lane TEXT NOT NULL, instance_id INTEGER NOT NULL, tracker TEXT NOT NULL, task_id TEXT NOT NULL,
              record TEXT NOT NULL, PRIMARY KEY (lane, instance_id, tracker, task_id)) WITHOUT ROWID;",
};

/// The rows of one lane.
#[derive(Clone, Debug)]
pub(super) struct Receipts {
    store: Store,
    lane: String,
}

impl Receipts {
    pub(super) fn new(store: Store, lane: String) -> Self {
        Self { store, lane }
    }

    /// Makes the writes durable, all of them or none.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let lane = self.lane.clone();
        self.store.write(move |db| writes.iter().try_for_each(|write| apply(db, &lane, write))).await
    }

    /// Everything that is stored. A row that another version wrote is left out and named in the worker's log: its tracker
    /// takes the task back by itself.
    pub(super) async fn load(&self) -> Result<Vec<Receipt>, StoreError> {
        let lane = self.lane.clone();
        let rows = self.store.read(move |db| {
            let mut rows = db.prepare("SELECT task_id, record FROM task_receipt WHERE lane = ?1")?;
            rows.query_map([&lane], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        let read = |(task_id, record): (String, String)| {
            serde_json::from_str(&record)
                .map_err(|error| tracing::error!(task_id, %error, "failed to read the stored receipt of a task"))
                .ok()
        };
        Ok(rows.await?.into_iter().filter_map(read).collect())
    }
}

fn apply(db: &Connection, lane: &str, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::Put(receipt) => {
            let record =
                serde_json::to_string(receipt).map_err(|why| rusqlite::Error::ToSqlConversionFailure(Box::new(why)))?;
            let start = &receipt.start;
            db.prepare_cached("INSERT OR REPLACE INTO task_receipt VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
                lane,
                start.instance.instance_id,
                start.task_tracker_address,
                start.task_id,
                record
            ])?;
        }
        Write::Remove { tracker, instance_id, task_id } => {
            db.prepare_cached(
                "DELETE FROM task_receipt WHERE lane = ?1 AND instance_id = ?2 AND tracker = ?3 AND task_id = ?4",
            )?
            .execute(params![lane, instance_id, tracker, task_id])?;
        }
        Write::RemoveAll { tracker, instance_id } => {
            db.prepare_cached("DELETE FROM task_receipt WHERE lane = ?1 AND instance_id = ?2 AND tracker = ?3")?
                .execute(params![lane, instance_id, tracker])?;
        }
    }
    Ok(())
}
