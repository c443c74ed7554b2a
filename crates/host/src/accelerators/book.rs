//! The ledger on disk: one SQLite file for all agents and local runs of a host.
//!
//! A decision and its writing down are one transaction, so that two processes can never give away the same card. The card is
//! the key of the table, which makes that impossible once more.

use std::path::Path;

use testrig_store::{Migration, Store, StoreError, rusqlite};

use super::{
    ledger::{Change, Entry, Holder, Ledger},
    request::LeaseError,
};
use crate::process::proc::Ident;

/// The tables of a book.
const MIGRATIONS: &[Migration] = &[Migration {
    module: "accelerators",
    version: 1,
    sql: "CREATE TABLE accelerator_leases (
        card TEXT NOT NULL PRIMARY KEY,
        agent TEXT NOT NULL,
        boundary TEXT NOT NULL,
        is_returning INTEGER NOT NULL,
        entry TEXT NOT NULL
    ) WITHOUT ROWID;",
}];

/// The leases of a host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Book {
    store: Store,
    agent: String,
    by: (i32, u64),
}

impl Book {
    /// Opens or makes the file. `agent` tells this agent's leases from those of others: its state directory.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, agent: impl Into<String>) -> Result<Self, StoreError> {
        Ok(Self { store: Store::open(path, MIGRATIONS)?, agent: agent.into(), by: own_process() })
    }

    /// The same file, as another process of the agent would see it.
    #[cfg(test)]
    pub(super) fn as_process(&self, by: (i32, u64)) -> Self {
        Self { by, ..self.clone() }
    }

    /// The holder that a boundary of this agent is.
    pub fn holder(&self, boundary: &crate::BoundaryId) -> Holder {
        Holder { agent: self.agent.clone(), boundary: boundary.clone() }
    }

    /// This agent.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// This process: pid and start time.
    pub fn by(&self) -> (i32, u64) {
        self.by
    }

    /// All leases.
    ///
    /// # Errors
    /// [`LeaseError::Book`].
    pub async fn ledger(&self) -> Result<Ledger, LeaseError> {
        self.store.read(load).await.map_err(|error| fail(&error))
    }

    /// Decides on the newest ledger and writes down what was decided, in one transaction.
    ///
    /// # Errors
    /// [`LeaseError::Book`]: nothing was written.
    pub async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&Ledger) -> (Vec<Change>, T) + Send + 'static,
    ) -> Result<T, LeaseError> {
        let done = self.store.write(move |conn| {
            let ledger = load(conn)?;
            let (changes, value) = decide(&ledger);
            for change in &changes {
                write(conn, change)?;
            }
            Ok(value)
        });
        done.await.map_err(|error| fail(&error))
    }
}

fn fail(error: &StoreError) -> LeaseError {
    LeaseError::Book(error.to_string())
}

fn load(conn: &rusqlite::Connection) -> rusqlite::Result<Ledger> {
    let mut query = conn.prepare("SELECT entry, is_returning FROM accelerator_leases")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    let mut entries: Vec<Entry> = Vec::new();
    for row in rows {
        let (text, returning) = row?;
        let mut entry: Entry = serde_json::from_str(&text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
        })?;
        entry.returning = returning;
        entries.push(entry);
    }
    Ok(Ledger::of(entries))
}

fn write(conn: &rusqlite::Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        // Not "OR REPLACE": a second lease of a card is an error, whoever decided it.
        Change::Put(entry) => conn.execute(
            "INSERT INTO accelerator_leases (card, agent, boundary, is_returning, entry) VALUES (?1, ?2, ?3, 0, ?4)",
            (
                &entry.card.uuid,
                &entry.holder.agent,
                entry.holder.boundary.as_str(),
                serde_json::to_string(entry).expect("an entry is always JSON"),
            ),
        )?,
        Change::Returning(card) => {
            conn.execute("UPDATE accelerator_leases SET is_returning = 1 WHERE card = ?1", [card])?
        }
        Change::Free(card) => conn.execute("DELETE FROM accelerator_leases WHERE card = ?1", [card])?,
    };
    Ok(())
}

fn own_process() -> (i32, u64) {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    Ident::of(pid).map_or((pid, 0), |ident| (ident.pid, ident.start))
}

/// Whether the process that wrote an entry still lives.
pub(super) fn lives(by: (i32, u64)) -> bool {
    Ident { pid: by.0, start: by.1 }.alive()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BoundaryId,
        accelerators::card::{Accelerator, Vendor},
    };

    fn card(index: u32) -> Accelerator {
        Accelerator::new(index, format!("GPU-{index}"), Vendor::Nvidia, "NVIDIA H200", 1 << 37)
    }

    #[tokio::test]
    async fn a_lease_is_there_again_after_a_restart_and_a_second_one_of_the_card_is_refused_by_the_table() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("leases.db");
        {
            let book = Book::open(&file, "agent-a").expect("opened");
            let holder = book.holder(&BoundaryId::new(7, 1));
            let by = book.by();
            book.change(move |ledger| (ledger.grant(&holder, "run 7", by, 5, &[card(0), card(1)]), ()))
                .await
                .expect("kept");
        }
        let book = Book::open(&file, "agent-b").expect("opened");
        let ledger = book.ledger().await.expect("read");
        assert_eq!(ledger.entries().count(), 2);
        let entry = ledger.entry("GPU-1").expect("leased");
        assert_eq!((entry.words.as_str(), entry.since_ms, entry.returning), ("run 7", 5, false));
        assert!(lives(entry.by));
        let other = book.holder(&BoundaryId::new(8, 1));
        assert_ne!(entry.holder.agent, other.agent);
        let second =
            book.change(move |ledger| (ledger.grant(&other, "run 8", (1, 1), 6, &[card(2), card(1)]), ())).await;
        assert!(matches!(second, Err(LeaseError::Book(_))), "{second:?}");
        assert_eq!(book.ledger().await.expect("read"), ledger, "nothing of it was kept");
        let holder = entry.holder.clone();
        book.change(move |ledger| (ledger.give_back(&holder), ())).await.expect("kept");
        assert!(book.ledger().await.expect("read").entries().all(|entry| entry.returning));
        book.change(|ledger| (ledger.settle(&Default::default(), &ledger.returning()), ())).await.expect("kept");
        assert_eq!(book.ledger().await.expect("read"), Ledger::default());
    }
}
