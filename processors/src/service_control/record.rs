//! What is stored of a service, so that it is found again by later jobs and by a restarted agent.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use testrig_host::BoundaryId;
use testrig_store::{
    Migration, Store, StoreError,
    rusqlite::{self, OptionalExtension},
};

use super::plan::{Checks, Method};

/// The tables of service control.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    module: "service_control",
    version: 1,
    sql: "CREATE TABLE services (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;",
}];

/// A service that was started, or is being started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) model: String,
    /// Empty in records of versions that did not keep it, and where nobody said it.
    #[serde(default)]
    pub(super) path: String,
    pub(super) port: Option<u16>,
    pub(super) env: Option<String>,
    /// Of the job that started it.
    #[serde(default)]
    pub(super) trace: Option<String>,
    pub(super) method: Method,
    pub(super) checks: Checks,
    /// What holds its processes, or those of the script that started it.
    pub(super) boundary: BoundaryId,
    /// The service's log (of a script: what the script itself said).
    pub(super) log_file: PathBuf,
    pub(super) started_ms: i64,
    /// It has been up since its start.
    pub(super) up: bool,
}

impl Record {
    /// Whether a start with these values would give the same service.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (&self.method, self.port, &self.env) == (&other.method, other.port, &other.env)
            && (self.path.is_empty() || self.path == other.path)
    }
}

/// The services of this agent by name.
#[derive(Clone)]
pub(super) struct Records {
    store: Store,
}

impl Records {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Record>, StoreError> {
        let name = name.to_owned();
        let text: Option<String> = self
            .store
            .read(move |db| {
                db.query_row("SELECT record FROM services WHERE name = ?1", [name], |row| row.get(0)).optional()
            })
            .await?;
        // A record that cannot be read is of no use; the service is then unknown, and its port tells that it is there.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub(super) async fn put(&self, record: &Record) -> Result<(), StoreError> {
        let (name, text) = (record.model.clone(), serde_json::to_string(record).expect("a record is JSON"));
        self.store
            .write(move |db| {
                db.execute(
                    "INSERT OR REPLACE INTO services (name, record) VALUES (?1, ?2)",
                    rusqlite::params![name, text],
                )
            })
            .await
            .map(drop)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.store.write(move |db| db.execute("DELETE FROM services WHERE name = ?1", [name])).await.map(drop)
    }
}
