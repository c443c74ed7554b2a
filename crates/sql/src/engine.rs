//! Carrying out SQL, whatever the database.

use std::{future::Future, time::Duration};

use crate::{Address, Engine, SqlError, mysql, postgres, sqlite};

/// How long a cancelled statement may take to end at the server before its connection is cut.
pub(crate) const CANCEL: Duration = Duration::from_secs(5);

/// What SQL gives. Every statement that gives rows begins with its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A result begins: the names of its columns.
    Columns(Vec<String>),
    /// A row of it as text; `None` is NULL.
    Row(Vec<Option<String>>),
    /// A statement without rows has changed so many.
    Changed(u64),
}

/// Runs SQL text, one statement or several, in one transaction: all of it is committed, or nothing is. (MySQL commits by
/// itself around statements that change tables.) `limit` is that of the whole, `stop` ends it early; both cancel the
/// statement at the server. Rows come as they arrive and are not kept.
///
/// # Errors
/// [`SqlError`].
pub async fn execute(
    address: &Address,
    sql: &str,
    limit: Duration,
    stop: impl Future<Output = ()> + Send,
    each: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SqlError> {
    let end = async {
        tokio::select! {
            () = stop => SqlError::Stopped,
            () = tokio::time::sleep(limit) => SqlError::TimedOut(limit),
        }
    };
    tokio::pin!(end);
    match address.engine() {
        Engine::Sqlite => sqlite::execute(address, sql, end, each).await,
        Engine::MySql => mysql::execute(address, sql, end, each).await,
        Engine::Postgres => postgres::execute(address, sql, end, each).await,
    }
}
