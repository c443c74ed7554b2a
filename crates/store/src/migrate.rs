//! Tables of each module, brought to the version this program knows.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, TransactionBehavior};

use crate::StoreError;

/// One step of one module's tables. The versions of a module count 1, 2, 3 and so on.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Whose tables; a word that never changes.
    pub module: &'static str,
    /// The version that this step leads to.
    pub version: u32,
    /// What to execute; several statements are fine.
    pub sql: &'static str,
}

const RECORD: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    module TEXT NOT NULL,
    version INTEGER NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    PRIMARY KEY (module, version)
) WITHOUT ROWID";

/// Applies what is missing, all in one transaction: after a crash either every step is there or none.
pub(crate) fn apply(conn: &mut Connection, path: &Path, migrations: &[Migration]) -> Result<(), StoreError> {
    let wanted = by_module(migrations)?;
    let sql = |e| StoreError::open(path, e);
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    tx.execute_batch(RECORD).map_err(sql)?;
    let present = present(&tx).map_err(sql)?;
    for (module, &found) in &present {
        let known = wanted.get(module.as_str()).map_or(0, |steps| steps.len() as u32);
        if found > known {
            return Err(StoreError::NewerSchema { path: path.to_owned(), module: module.clone(), found, known });
        }
    }
    for (module, steps) in &wanted {
        let have = present.get(*module).copied().unwrap_or(0);
        for step in steps.iter().filter(|step| step.version > have) {
            tx.execute_batch(step.sql)
                .and_then(|()| {
                    tx.execute(
                        "INSERT INTO schema_migrations (module, version) VALUES (?1, ?2)",
                        (step.module, step.version),
                    )
                })
                .map_err(|source| StoreError::Migration {
                    path: path.to_owned(),
                    module: (*module).to_owned(),
                    version: step.version,
                    source,
                })?;
        }
    }
    tx.commit().map_err(sql)
}

fn by_module(migrations: &[Migration]) -> Result<BTreeMap<&str, Vec<Migration>>, StoreError> {
    let mut modules: BTreeMap<&str, Vec<Migration>> = BTreeMap::new();
    for step in migrations {
        let steps = modules.entry(step.module).or_default();
        let expected = steps.len() as u32 + 1;
        if step.version != expected {
            return Err(StoreError::Numbering { module: step.module.to_owned(), found: step.version, expected });
        }
        steps.push(*step);
    }
    Ok(modules)
}

fn present(conn: &Connection) -> rusqlite::Result<BTreeMap<String, u32>> {
    let mut query = conn.prepare("SELECT module, max(version) FROM schema_migrations GROUP BY module")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
