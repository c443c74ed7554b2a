//! SQLite, in a thread of its own.

use std::{future::Future, pin::Pin, time::Duration};

use rusqlite::{
    Batch, Connection, InterruptHandle, fallible_iterator::FallibleIterator, limits::Limit, types::ValueRef,
};
use tokio::sync::{mpsc, oneshot};

use crate::{Address, Event, SqlError, address::Place, engine::CANCEL};

/// How long it waits for another program that holds the file.
const BUSY: Duration = Duration::from_secs(10);
/// Rows that may wait for their reader; the thread waits when it is full.
const QUEUE: usize = 256;

pub(crate) async fn execute(
    address: &Address,
    sql: &str,
    mut end: Pin<&mut (impl Future<Output = SqlError> + Send)>,
    each: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SqlError> {
    let (place, sql, shown) = (address.place.clone(), sql.to_owned(), address.to_string());
    let (events, mut arriving) = mpsc::channel(QUEUE);
    let (give_handle, handle) = oneshot::channel();
    let work = tokio::task::spawn_blocking(move || {
        let connect = |detail: String| SqlError::Connect { address: shown.clone(), detail };
        let conn = open(&place).map_err(connect)?;
        // Nobody listens when the caller is gone already.
        let _ = give_handle.send(conn.get_interrupt_handle());
        transaction(&conn, &sql, &events)
    });
    tokio::pin!(work);
    let mut interrupt: Option<InterruptHandle> = None;
    let mut handle = Some(handle);
    loop {
        let waiting = async {
            match handle.as_mut() {
                Some(handle) => handle.await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            given = waiting => { handle = None; interrupt = given; }
            Some(event) = arriving.recv() => each(event),
            done = &mut work => {
                let done = done.unwrap_or_else(|error| Err(SqlError::Refused(format!("the driver failed: {error}"))));
                while let Ok(event) = arriving.try_recv() {
                    each(event);
                }
                return done;
            }
            why = &mut end => {
                if let Some(interrupt) = &interrupt {
                    interrupt.interrupt();
                }
                drop(arriving);
                // What it says now is only that it was interrupted.
                let _ = tokio::time::timeout(CANCEL, &mut work).await;
                return Err(why);
            }
        }
    }
}

fn open(place: &Place) -> Result<Connection, String> {
    let conn = match place {
        Place::File(path) => Connection::open(path),
        _ => Connection::open_in_memory(),
    };
    let conn = conn.map_err(|error| error.to_string())?;
    conn.busy_timeout(BUSY).map_err(|error| error.to_string())?;
    // ATTACH would open files that nobody has allowed.
    conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0).map_err(|error| error.to_string())?;
    Ok(conn)
}

fn transaction(conn: &Connection, sql: &str, events: &mpsc::Sender<Event>) -> Result<(), SqlError> {
    let refused = |error: rusqlite::Error| SqlError::refused(&error);
    conn.execute_batch("BEGIN").map_err(refused)?;
    let done = statements(conn, sql, events);
    let rest = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let closed = match conn.is_autocommit() {
        // The text has ended the transaction itself.
        true => Ok(()),
        false => conn.execute_batch(rest).map_err(refused),
    };
    done.and(closed)
}

fn statements(conn: &Connection, sql: &str, events: &mpsc::Sender<Event>) -> Result<(), SqlError> {
    let refused = |error: rusqlite::Error| SqlError::refused(&error);
    let gone = |_| SqlError::Stopped;
    let mut batch = Batch::new(conn, sql);
    while let Some(mut statement) = batch.next().map_err(refused)? {
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        if columns.is_empty() {
            let changed = statement.execute([]).map_err(refused)?;
            events.blocking_send(Event::Changed(changed as u64)).map_err(gone)?;
            continue;
        }
        let width = columns.len();
        events.blocking_send(Event::Columns(columns)).map_err(gone)?;
        let mut rows = statement.query([]).map_err(refused)?;
        while let Some(row) = rows.next().map_err(refused)? {
            let cells = (0..width).map(|i| row.get_ref(i).map(text)).collect::<Result<_, _>>().map_err(refused)?;
            events.blocking_send(Event::Row(cells)).map_err(gone)?;
        }
    }
    Ok(())
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}
