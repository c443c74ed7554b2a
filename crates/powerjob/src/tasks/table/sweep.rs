//! Deleting what nobody needs any more, without holding up those who write.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Result};
use testrig_store::{Store, StoreError};

use super::END_KEPT_MS;

/// Rows of one transaction.
const CHUNK: i64 = 2_000;
/// The writer is left to others for as long between two of them.
const PAUSE: Duration = Duration::from_millis(5);

/// Deletes the rows of all dead runs. Several at once do no harm.
pub(super) fn spawn(store: Store) {
    tokio::spawn(async move {
        loop {
            match store.write(chunk).await {
                Ok(true) => tokio::time::sleep(PAUSE).await,
                Ok(false) => return,
                Err(error) => {
                    // They are found again when the file is opened the next time.
                    tracing::warn!(%error, "rows of ended tasks cannot be deleted now");
                    return;
                }
            }
        }
    });
}

/// Whether there may be more.
pub(super) fn chunk(db: &Connection) -> Result<bool> {
    let dead: Option<i64> = db
        .prepare_cached("SELECT key FROM run WHERE dead = 1 ORDER BY key LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(run) = dead else { return Ok(false) };
    let deleted = db
        .prepare_cached("DELETE FROM task WHERE n IN (SELECT n FROM task WHERE run = ?1 LIMIT ?2)")?
        .execute([run, CHUNK])?;
    if i64::try_from(deleted).unwrap_or(i64::MAX) < CHUNK {
        db.execute("DELETE FROM run WHERE key = ?1", [run])?;
    }
    Ok(true)
}

pub(super) async fn forget_old_ends(store: &Store) -> std::result::Result<(), StoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let oldest = i64::try_from(now).unwrap_or(i64::MAX) - END_KEPT_MS;
    store.write(move |db| db.execute("DELETE FROM tracker WHERE ended < ?1", [oldest])).await.map(drop)
}
