//! Who has been told: remembered in the store, so that a run that is cut and runs again tells nobody twice.

use testrig_store::{Migration, Store, StoreError};

/// The tables of NotifyResult.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    module: "notify_result",
    version: 1,
    sql: "CREATE TABLE notify_sent (
        instance_id INTEGER NOT NULL,
        channel TEXT NOT NULL,
        sent_ms INTEGER NOT NULL,
        PRIMARY KEY (instance_id, channel)
    ) WITHOUT ROWID;",
}];

/// How long it is remembered: no instance is repeated after this.
const KEEP_MS: i64 = 30 * 24 * 3600 * 1000;

/// What was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    store: Store,
}

impl Sent {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The channels through which this instance has told people.
    pub(super) async fn channels(&self, instance_id: i64) -> Result<Vec<String>, StoreError> {
        self.store
            .read(move |conn| {
                let mut query =
                    conn.prepare("SELECT channel FROM notify_sent WHERE instance_id = ?1 ORDER BY sent_ms, channel")?;
                let rows = query.query_map([instance_id], |row| row.get(0))?;
                rows.collect()
            })
            .await
    }

    /// Remembers; returns once it is durable.
    pub(super) async fn put(&self, instance_id: i64, channel: &'static str, now_ms: i64) -> Result<(), StoreError> {
        self.store
            .write(move |conn| {
                conn.execute("DELETE FROM notify_sent WHERE sent_ms < ?1", [now_ms - KEEP_MS])?;
                conn.execute(
                    "INSERT OR REPLACE INTO notify_sent (instance_id, channel, sent_ms) VALUES (?1, ?2, ?3)",
                    (instance_id, channel, now_ms),
                )
                .map(|_| ())
            })
            .await
    }
}
