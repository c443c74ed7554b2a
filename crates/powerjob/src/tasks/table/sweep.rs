//! Deleting what nobody needs any more, without holding up those who write.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Result};
use testrig_store::Store;

use super::{END_KEPT_MS, Table};

/// Rows of one transaction.
const CHUNK: i64 = 2_000;
/// The writer is left to others for as long between two of them.
const PAUSE: Duration = Duration::from_millis(5);

/// Deletes the rows of all dead runs and ends of long ago. Several at once do no harm.
pub(super) fn spawn(store: Store) {
    tokio::spawn(async move {
        for piece in [chunk as fn(&Connection) -> Result<bool>, forget_old_ends] {
            loop {
                match store.write(piece).await {
                    Ok(true) => tokio::time::sleep(PAUSE).await,
                    Ok(false) => break,
                    Err(error) => {
                        // They are found again by the next round.
                        tracing::warn!(%error, "rows of ended tasks cannot be deleted now");
                        return;
                    }
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

/// Forgets some ends that are old; whether there may be more.
pub(super) fn forget_old_ends(db: &Connection) -> Result<bool> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let oldest = i64::try_from(now).unwrap_or(i64::MAX) - END_KEPT_MS;
    let forgotten = db.prepare_cached(OLD_ENDS)?.execute([oldest, CHUNK])?;
    Ok(i64::try_from(forgotten).unwrap_or(i64::MAX) >= CHUNK)
}

pub(super) const OLD_ENDS: &str = "DELETE FROM tracker WHERE (lane, instance) IN
     (SELECT lane, instance FROM tracker WHERE ended < ?1 AND ended IS NOT NULL LIMIT ?2)";

/// Instances with rows of a tracker that has not ended, or of a run that is not dead.
pub(super) const UNENDED: &str =
    "SELECT instance FROM tracker INDEXED BY tracker_open WHERE lane = ?1 AND ended IS NULL
     UNION SELECT instance FROM run WHERE lane = ?1 AND dead = 0";

/// Forgets instances that are at work by their rows and in truth are not; how many they were.
pub(super) fn forget_orphans(db: &Connection, lane: &str, is_open: &dyn Fn(i64) -> bool) -> Result<usize> {
    let found: Result<Vec<i64>> = db.prepare_cached(UNENDED)?.query_map([lane], |row| row.get(0))?.collect();
    let orphans: Vec<i64> = found?.into_iter().filter(|&instance| !is_open(instance)).collect();
    for &instance in &orphans {
        Table::new(db, lane, instance).forget()?;
    }
    Ok(orphans.len())
}
