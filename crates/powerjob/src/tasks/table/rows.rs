//! The statements.

use rusqlite::{Connection, OptionalExtension, Params, Result, params};

use crate::tasks::api::{SubTask, TaskResult, TaskStatus};

/// Statements kept prepared: all of them.
const STATEMENTS: usize = 64;
/// Runs with no more tasks than this are deleted at once instead of in the background.
const SMALL: i64 = 100;

/// The rows of one instance, inside of a transaction that the caller began.
pub(crate) struct Table<'a> {
    db: &'a Connection,
    lane: &'a str,
    instance: i64,
}

/// A task to store.
pub(crate) struct NewTask<'a> {
    /// Task id.
    pub(crate) id: &'a str,
    /// Task name.
    pub(crate) name: &'a str,
    /// Encoded body.
    pub(crate) content: Option<&'a [u8]>,
    /// Where it must run, if that is fixed.
    pub(crate) address: Option<&'a str>,
}

/// A stored task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its number: tasks are dispatched and listed in this order.
    pub(crate) n: i64,
    /// Task id.
    pub(crate) id: String,
    /// Task name.
    pub(crate) name: String,
    /// Encoded body.
    pub(crate) content: Option<Vec<u8>>,
    /// Where it is, was or must be.
    pub(crate) address: Option<String>,
    /// 3 stands for 3 and 4.
    pub(crate) status: TaskStatus,
    /// Result text of an ended one.
    pub(crate) result: Option<String>,
    /// Failed executions.
    pub(crate) failed: i32,
    /// Times that it was sent and not acknowledged.
    pub(crate) unanswered: i32,
}

const ROW: &str = "n, id, name, content, address, status, result, failed, unanswered";

fn row(row: &rusqlite::Row<'_>) -> Result<Row> {
    let status: i32 = row.get(5)?;
    Ok(Row {
        n: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        content: row.get(3)?,
        address: row.get(4)?,
        status: TaskStatus::of(status).ok_or(rusqlite::Error::IntegralValueOutOfRange(5, status.into()))?,
        result: row.get(6)?,
        failed: row.get(7)?,
        unanswered: row.get(8)?,
    })
}

impl<'a> Table<'a> {
    /// The rows of this instance.
    pub(crate) fn new(db: &'a Connection, lane: &'a str, instance: i64) -> Self {
        // The file is this module's alone, and its statements are more than SQLite's wrapper keeps by itself.
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        Self { db, lane, instance }
    }

    /// The tracker's state.
    pub(crate) fn tracker(&self) -> Result<Option<String>> {
        self.db
            .prepare_cached("SELECT state FROM tracker WHERE lane = ?1 AND instance = ?2")?
            .query_row(params![self.lane, self.instance], |row| row.get(0))
            .optional()
    }

    /// Replaces the tracker's state; `ended` is when the instance ended, epoch ms.
    pub(crate) fn put_tracker(&self, state: &str, ended: Option<i64>) -> Result<()> {
        self.execute(
            "INSERT INTO tracker (lane, instance, state, ended) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (lane, instance) DO UPDATE SET state = excluded.state, ended = excluded.ended",
            params![self.lane, self.instance, state, ended],
        )
    }

    /// Forgets the instance: its state at once, its tasks in the background.
    pub(crate) fn forget(&self) -> Result<()> {
        self.execute("DELETE FROM tracker WHERE lane = ?1 AND instance = ?2", params![self.lane, self.instance])?;
        self.execute("UPDATE run SET dead = 1 WHERE lane = ?1 AND instance = ?2", params![self.lane, self.instance])
    }

    /// Runs that are not dead: key, number of the firing, state.
    pub(crate) fn runs(&self) -> Result<Vec<(i64, i64, String)>> {
        self.db
            .prepare_cached(
                "SELECT key, sub, state FROM run WHERE lane = ?1 AND instance = ?2 AND dead = 0 ORDER BY key",
            )?
            .query_map(params![self.lane, self.instance], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect()
    }

    /// A new run; returns its key.
    pub(crate) fn add_run(&self, sub: i64, state: &str) -> Result<i64> {
        self.execute(
            "INSERT INTO run (lane, instance, sub, state) VALUES (?1, ?2, ?3, ?4)",
            params![self.lane, self.instance, sub, state],
        )?;
        Ok(self.db.last_insert_rowid())
    }

    /// Replaces a run's state.
    pub(crate) fn put_run(&self, key: i64, state: &str) -> Result<()> {
        self.execute("UPDATE run SET state = ?2 WHERE key = ?1", params![key, state])
    }

    /// The run has ended and its tasks are needed no more. True if the deletion of its rows is left to the background.
    pub(crate) fn end_run(&self, key: i64, tasks: i64) -> Result<bool> {
        if tasks > SMALL {
            self.execute("UPDATE run SET dead = 1 WHERE key = ?1", [key])?;
            return Ok(true);
        }
        self.execute("DELETE FROM task WHERE run = ?1", [key])?;
        self.execute("DELETE FROM run WHERE key = ?1", [key])?;
        Ok(false)
    }

    /// Stores a waiting task; false if the run has one of this id already.
    pub(crate) fn add(&self, run: i64, task: &NewTask<'_>, now: i64) -> Result<bool> {
        let added = self
            .db
            .prepare_cached(
                "INSERT INTO task (run, id, name, content, address, status, created, modified)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6) ON CONFLICT (run, id) DO NOTHING",
            )?
            .execute(params![run, task.id, task.name, task.content, task.address, now])?;
        Ok(added > 0)
    }

    /// Whether every one of these tasks is there.
    pub(crate) fn has_all(&self, run: i64, tasks: &[SubTask]) -> Result<bool> {
        let mut find = self.db.prepare_cached("SELECT 1 FROM task WHERE run = ?1 AND id = ?2")?;
        for task in tasks {
            if !find.exists(params![run, task.task_id])? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The task of this id.
    pub(crate) fn find(&self, run: i64, id: &str) -> Result<Option<Row>> {
        self.db
            .prepare_cached(&format!("SELECT {ROW} FROM task WHERE run = ?1 AND id = ?2"))?
            .query_row(params![run, id], row)
            .optional()
    }

    /// The first waiting tasks that may run anywhere.
    pub(crate) fn waiting(&self, run: i64, limit: usize) -> Result<Vec<Row>> {
        let sql =
            format!("SELECT {ROW} FROM task WHERE run = ?1 AND status = 1 AND address IS NULL ORDER BY n LIMIT ?2");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.db.prepare_cached(&sql)?.query_map(params![run, limit], row)?.collect()
    }

    /// Waiting tasks whose place is fixed.
    pub(crate) fn waiting_fixed(&self, run: i64) -> Result<Vec<Row>> {
        let sql = format!("SELECT {ROW} FROM task WHERE run = ?1 AND status = 1 AND address IS NOT NULL ORDER BY n");
        self.db.prepare_cached(&sql)?.query_map([run], row)?.collect()
    }

    /// Tasks that are at a worker.
    pub(crate) fn in_flight(&self, run: i64) -> Result<Vec<Row>> {
        let sql = format!("SELECT {ROW} FROM task WHERE run = ?1 AND status IN (2, 3, 4) ORDER BY n");
        self.db.prepare_cached(&sql)?.query_map([run], row)?.collect()
    }

    /// Numbers of tasks by status and by whether their place is fixed.
    pub(crate) fn counts(&self, run: i64) -> Result<Vec<(TaskStatus, bool, i64)>> {
        let mut query = self.db.prepare_cached(
            "SELECT status, address IS NOT NULL AS fixed, count(*) FROM task WHERE run = ?1 GROUP BY status, fixed",
        )?;
        let counted = query.query_map([run], |row| Ok((row.get::<_, i32>(0)?, row.get(1)?, row.get(2)?)))?;
        counted
            .map(|row| {
                let (status, fixed, count) = row?;
                let known = TaskStatus::of(status).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, status.into()))?;
                Ok((known, fixed, count))
            })
            .collect()
    }

    /// The task is about to be sent there.
    pub(crate) fn dispatched(&self, n: i64, address: &str, now: i64) -> Result<()> {
        self.execute("UPDATE task SET status = 2, address = ?2, modified = ?3 WHERE n = ?1", params![n, address, now])
    }

    /// The worker has it.
    pub(crate) fn received(&self, n: i64, now: i64) -> Result<()> {
        self.execute("UPDATE task SET status = 3, modified = ?2 WHERE n = ?1", params![n, now])
    }

    /// The task waits again.
    pub(crate) fn back(&self, n: i64, address: Option<&str>, failed: i32, unanswered: i32, now: i64) -> Result<()> {
        self.execute(
            "UPDATE task SET status = 1, address = ?2, failed = ?3, unanswered = ?4, modified = ?5 WHERE n = ?1",
            params![n, address, failed, unanswered, now],
        )
    }

    /// The task has ended.
    pub(crate) fn ended(&self, n: i64, success: bool, result: &str, reported: i64, now: i64) -> Result<()> {
        let status = if success { TaskStatus::Succeeded } else { TaskStatus::Failed } as i32;
        self.execute(
            "UPDATE task SET status = ?2, result = ?3, reported = ?4, modified = ?5 WHERE n = ?1",
            params![n, status, result, reported, now],
        )
    }

    fn execute(&self, sql: &str, params: impl Params) -> Result<()> {
        self.db.prepare_cached(sql)?.execute(params).map(drop)
    }
}

/// Up to `limit` ended tasks of a run, after the one of this id, or from its root task on, which is always the first.
pub(crate) fn results(
    db: &Connection,
    run: i64,
    root: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<TaskResult>> {
    let from: i64 = db
        .prepare_cached("SELECT n FROM task WHERE run = ?1 AND id = ?2")?
        .query_row(params![run, after.unwrap_or(root)], |row| row.get(0))?;
    let from = if after.is_none() { from - 1 } else { from };
    // The unary plus keeps the rows in the order of their number instead of in that of the index of ids.
    db.prepare_cached(
        "SELECT id, status, result FROM task WHERE n > ?2 AND +run = ?1 AND status IN (5, 6) ORDER BY n LIMIT ?3",
    )?
    .query_map(params![run, from, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let (task_id, status, result): (String, i32, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(TaskResult { task_id, success: status == TaskStatus::Succeeded as i32, result: result.unwrap_or_default() })
    })?
    .collect()
}
