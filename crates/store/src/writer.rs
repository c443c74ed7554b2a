//! The thread that owns the writing connection.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc::{Receiver, RecvError},
};

use rusqlite::Connection;

use crate::{StoreError, kill_point};

/// As many operations share one commit at most; the rest waits for the next one.
const GROUP: usize = 512;
const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";

/// An operation in the writer's queue.
pub(crate) trait Work: Send {
    /// Does the operation and keeps its result; false if it failed and must be undone.
    fn run(&mut self, conn: &Connection, path: &Path) -> bool;
    /// Replaces a good result: the transaction that held it is gone.
    fn lose(&mut self, error: StoreError);
    /// Tells the caller.
    fn answer(self: Box<Self>);
}

/// An operation with its result and the way back to its caller.
pub(crate) struct Op<T, F, R> {
    run: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: R,
}

impl<T, F, R> Op<T, F, R> {
    pub(crate) fn new(run: F, reply: R) -> Self {
        Self { run: Some(run), result: None, reply }
    }
}

impl<T, F, R> Work for Op<T, F, R>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    R: FnOnce(Result<T, StoreError>) + Send,
{
    fn run(&mut self, conn: &Connection, path: &Path) -> bool {
        let run = self.run.take().expect("an operation runs once");
        let result = match catch_unwind(AssertUnwindSafe(|| run(conn))) {
            Ok(result) => result.map_err(|e| StoreError::operation(path, e)),
            Err(panic) => Err(StoreError::Panicked { path: path.to_owned(), message: panic_text(panic.as_ref()) }),
        };
        let good = result.is_ok();
        self.result = Some(result);
        good
    }

    fn lose(&mut self, error: StoreError) {
        if !matches!(self.result, Some(Err(_))) {
            self.result = Some(Err(error));
        }
    }

    fn answer(self: Box<Self>) {
        let result = self.result.expect("an operation is answered after it ran or was lost");
        (self.reply)(result);
    }
}

/// Works until every sender is gone.
pub(crate) fn work(conn: &Connection, path: &Path, queue: &Receiver<Box<dyn Work>>) {
    loop {
        let first = match queue.recv() {
            Ok(first) => first,
            Err(RecvError) => return,
        };
        let mut group = vec![first];
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        kill_point();
        commit_group(conn, path, &mut group);
        kill_point();
        for op in group {
            op.answer();
        }
    }
}

fn commit_group(conn: &Connection, path: &Path, group: &mut [Box<dyn Work>]) {
    if let [alone] = group {
        return commit_alone(conn, path, alone);
    }
    // Operations from `start` on are inside of the open transaction.
    let mut start = 0;
    let mut open = false;
    for i in 0..group.len() {
        if !open {
            start = i;
            if let Err(e) = execute(conn, BEGIN) {
                lose(&mut group[i..], path, &e);
                return;
            }
            open = true;
        }
        if let Err(e) = step(conn, path, group[i].as_mut()) {
            lose(&mut group[start..=i], path, &e);
            roll_back(conn);
            open = false;
        }
    }
    kill_point();
    if open && let Err(e) = execute(conn, COMMIT) {
        roll_back(conn);
        lose(&mut group[start..], path, &e);
    }
}

/// A transaction for one operation, which needs no savepoint: what undoes the one undoes the other.
fn commit_alone(conn: &Connection, path: &Path, op: &mut Box<dyn Work>) {
    let one = std::slice::from_mut(op);
    if let Err(e) = execute(conn, BEGIN) {
        return lose(one, path, &e);
    }
    let good = one[0].run(conn, path);
    if conn.is_autocommit() {
        return lose(one, path, &ended_inside());
    }
    if !good {
        // If this fails the next BEGIN does, too, and says so.
        return roll_back(conn);
    }
    kill_point();
    if let Err(e) = execute(conn, COMMIT) {
        roll_back(conn);
        lose(one, path, &e);
    }
}

/// One operation inside of its savepoint. An error means that the whole transaction is lost: SQLite ends it by itself
/// when space or memory runs out in the middle of a statement.
fn step(conn: &Connection, path: &Path, op: &mut dyn Work) -> rusqlite::Result<()> {
    execute(conn, "SAVEPOINT op")?;
    let good = op.run(conn, path);
    if conn.is_autocommit() {
        return Err(ended_inside());
    }
    if !good {
        execute(conn, "ROLLBACK TO op")?;
    }
    execute(conn, "RELEASE op")
}

/// A statement around operations: asked for so often that it is compiled once.
fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}

fn roll_back(conn: &Connection) {
    if !conn.is_autocommit() {
        let _gone_either_way = execute(conn, "ROLLBACK");
    }
}

fn ended_inside() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK),
        Some("the transaction ended inside of an operation".to_owned()),
    )
}

fn lose(group: &mut [Box<dyn Work>], path: &Path, error: &rusqlite::Error) {
    tracing::warn!(store = %path.display(), operations = group.len(), %error, "a transaction was lost");
    for op in group {
        op.lose(StoreError::commit(path, error));
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}
