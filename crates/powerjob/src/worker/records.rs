//! What a worker keeps in the store: open instances, the newest closed ones, the owner and its own address.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use testrig_store::{Migration, Store, StoreError};

use super::WorkerError;
use crate::core::{CLOSED_KEPT, ClosedInstance, InstanceRecord, Recovered, Write};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[INSTANCES, crate::tasks::RECEIPTS];

const INSTANCES: Migration = Migration {
    module: "powerjob",
    version: 1,
    sql: "CREATE TABLE powerjob_instance (
              lane TEXT NOT NULL, instance_id INTEGER NOT NULL, record TEXT NOT NULL, request TEXT,
              PRIMARY KEY (lane, instance_id)) WITHOUT ROWID;
          CREATE TABLE powerjob_closed (
              seq INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, instance_id INTEGER NOT NULL,
              last_report_time INTEGER NOT NULL, attempt INTEGER NOT NULL, status TEXT NOT NULL,
              log_open INTEGER NOT NULL DEFAULT 1, UNIQUE (lane, instance_id));
          CREATE TABLE powerjob_meta (
              lane TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (lane, key)) WITHOUT ROWID;",
};

const OWNER: &str = "owner";
const ADDRESS: &str = "address";
/// Closed instances are thinned out once in so many.
const THIN_EVERY: i64 = 256;

/// Something that must be durable.
#[derive(Clone, Debug)]
pub(crate) enum Durable {
    /// A write of the core, with the request text as it came where it is the first of an instance.
    Core { write: Write, request: Option<String> },
    /// The log of a closed instance has been closed as well.
    LogClosed(i64),
}

/// What the store holds for a lane.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) recovered: Recovered,
    /// The address that the worker had when it last ran.
    pub(crate) address: Option<String>,
    /// Instances that were closed and whose logs perhaps were not, with the status to close them with.
    pub(crate) open_logs: Vec<(i64, String)>,
    /// The dispatches of open instances with tasks, as they came.
    pub(crate) requests: HashMap<i64, String>,
}

/// The rows of one lane.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    store: Store,
    lane: String,
}

impl Records {
    pub(crate) fn new(store: Store, lane: String) -> Self {
        Self { store, lane }
    }

    /// Makes the writes durable, all of them or none.
    pub(crate) async fn commit(&self, writes: Vec<Durable>) -> Result<(), StoreError> {
        let lane = self.lane.clone();
        self.store.write(move |db| writes.iter().try_for_each(|durable| apply(db, &lane, durable))).await
    }

    pub(crate) async fn set_address(&self, address: &str) -> Result<(), StoreError> {
        let (lane, address) = (self.lane.clone(), address.to_owned());
        self.store.write(move |db| set_meta(db, &lane, ADDRESS, &address)).await
    }

    pub(crate) async fn load(&self) -> Result<Loaded, WorkerError> {
        let lane = self.lane.clone();
        let (texts, closed, open_logs, owner, address) = self
            .store
            .read(move |db| {
                let mut rows =
                    db.prepare("SELECT instance_id, record, request FROM powerjob_instance WHERE lane = ?1")?;
                let texts = rows
                    .query_map([&lane], |row| {
                        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()?;
                Ok((
                    texts,
                    closed(db, &lane)?,
                    open_logs(db, &lane)?,
                    meta(db, &lane, OWNER)?,
                    meta(db, &lane, ADDRESS)?,
                ))
            })
            .await?;
        let unreadable = |what: String, why: serde_json::Error| WorkerError::Record { what, why: why.to_string() };
        let mut records = Vec::with_capacity(texts.len());
        let mut requests = HashMap::new();
        for (id, text, request) in texts {
            let record: InstanceRecord =
                serde_json::from_str(&text).map_err(|why| unreadable(format!("instance {id}"), why))?;
            if let Some(request) = request.filter(|_| record.dispatch.is_heavy()) {
                requests.insert(id, request);
            }
            records.push(record);
        }
        records.sort_by_key(|record| record.seq);
        let owner = owner.map(|text| serde_json::from_str(&text)).transpose();
        let owner = owner.map_err(|why| unreadable("the server in use".to_owned(), why))?;
        Ok(Loaded { recovered: Recovered { records, closed, owner }, address, open_logs, requests })
    }
}

fn closed(db: &Connection, lane: &str) -> rusqlite::Result<Vec<ClosedInstance>> {
    let mut rows = db.prepare(
        "SELECT instance_id, last_report_time, attempt, status FROM powerjob_closed WHERE lane = ?1
         ORDER BY seq DESC LIMIT ?2",
    )?;
    let newest_first = rows.query_map(params![lane, kept()], |row| {
        Ok(ClosedInstance {
            instance_id: row.get(0)?,
            last_report_time: row.get(1)?,
            attempt: row.get(2)?,
            status: row.get(3)?,
        })
    })?;
    let mut closed = newest_first.collect::<rusqlite::Result<Vec<_>>>()?;
    closed.reverse();
    Ok(closed)
}

fn open_logs(db: &Connection, lane: &str) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut rows = db.prepare("SELECT instance_id, status FROM powerjob_closed WHERE lane = ?1 AND log_open = 1")?;
    rows.query_map([lane], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn apply(db: &Connection, lane: &str, durable: &Durable) -> rusqlite::Result<()> {
    let (write, request) = match durable {
        Durable::Core { write, request } => (write, request),
        Durable::LogClosed(instance_id) => {
            return db
                .prepare_cached("UPDATE powerjob_closed SET log_open = 0 WHERE lane = ?1 AND instance_id = ?2")?
                .execute(params![lane, instance_id])
                .map(drop);
        }
    };
    match write {
        Write::Put(record) => {
            db.prepare_cached(
                "INSERT INTO powerjob_instance (lane, instance_id, record, request) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (lane, instance_id) DO UPDATE
                 SET record = excluded.record, request = coalesce(excluded.request, request)",
            )?
            .execute(params![lane, record.dispatch.instance_id, json(record)?, request])?;
        }
        Write::Close(closed) => {
            let ClosedInstance { instance_id, last_report_time, attempt, status } = closed;
            db.prepare_cached("DELETE FROM powerjob_instance WHERE lane = ?1 AND instance_id = ?2")?
                .execute(params![lane, instance_id])?;
            db.prepare_cached(
                "INSERT OR REPLACE INTO powerjob_closed (lane, instance_id, last_report_time, attempt, status)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![lane, instance_id, last_report_time, attempt, status])?;
            if db.last_insert_rowid() % THIN_EVERY == 0 {
                db.prepare_cached(
                    "DELETE FROM powerjob_closed WHERE lane = ?1 AND seq <= (
                         SELECT seq FROM powerjob_closed WHERE lane = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
                )?
                .execute(params![lane, kept()])?;
            }
        }
        Write::Owner(owner) => set_meta(db, lane, OWNER, &json(owner)?)?,
    }
    Ok(())
}

fn kept() -> i64 {
    i64::try_from(CLOSED_KEPT).unwrap_or(i64::MAX)
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|why| rusqlite::Error::ToSqlConversionFailure(Box::new(why)))
}

fn set_meta(db: &Connection, lane: &str, key: &str, value: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO powerjob_meta (lane, key, value) VALUES (?1, ?2, ?3)")?
        .execute(params![lane, key, value])?;
    Ok(())
}

fn meta(db: &Connection, lane: &str, key: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT value FROM powerjob_meta WHERE lane = ?1 AND key = ?2")?
        .query_row(params![lane, key], |row| row.get(0))
        .optional()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{core::Stage, wire::ServerScheduleJobReq};

    fn record(instance_id: i64, seq: u64) -> InstanceRecord {
        let text = format!(r#"{{"jobId":1,"instanceId":{instance_id},"jobParams":"{{\"a\":\"ä\"}}"}}"#);
        let dispatch = Arc::new(ServerScheduleJobReq::parse(text.as_bytes()).expect("valid").into_dispatch());
        InstanceRecord {
            dispatch,
            stage: Stage::Running,
            attempt: 1,
            retries_used: 0,
            received_at: 1,
            started_at: Some(2),
            last_report_time: 3,
            seq,
            boundary_open: true,
            run_ms: 4,
            written_at: 5,
            next: None,
        }
    }

    fn put(record: &InstanceRecord) -> Durable {
        Durable::Core { write: Write::Put(Box::new(record.clone())), request: Some("{}".to_owned()) }
    }

    fn close(instance_id: i64) -> Durable {
        let closed = ClosedInstance { instance_id, last_report_time: 9, attempt: 1, status: "FAILED".to_owned() };
        Durable::Core { write: Write::Close(closed), request: None }
    }

    #[tokio::test]
    async fn what_was_written_is_found_again_by_its_lane_only() {
        let store = Store::open_in_memory(MIGRATIONS).expect("a store");
        let (main, other) = (Records::new(store.clone(), "main".to_owned()), Records::new(store, "other".to_owned()));
        let (first, second) = (record(1_004_402_621_408_084_033, 0), record(7, 1));
        main.commit(vec![put(&second), put(&first), put(&record(8, 2))]).await.expect("stored");
        main.commit(vec![close(8)]).await.expect("stored");
        main.set_address("10.0.0.5:27777").await.expect("stored");
        let loaded = main.load().await.expect("readable");
        assert_eq!(loaded.recovered.records, [first, second]);
        assert_eq!((loaded.recovered.closed.len(), loaded.address.as_deref()), (1, Some("10.0.0.5:27777")));
        assert_eq!(loaded.open_logs, [(8, "FAILED".to_owned())]);
        main.commit(vec![Durable::LogClosed(8)]).await.expect("stored");
        assert!(main.load().await.expect("readable").open_logs.is_empty());
        let none = other.load().await.expect("readable");
        assert!(none.recovered.records.is_empty() && none.recovered.closed.is_empty() && none.address.is_none());
    }

    #[tokio::test]
    async fn only_the_newest_closed_instances_are_kept() {
        let records = Records::new(Store::open_in_memory(MIGRATIONS).expect("a store"), "main".to_owned());
        let many = i64::try_from(CLOSED_KEPT).expect("small") + 3 * THIN_EVERY;
        records.commit((0..many).map(close).collect()).await.expect("stored");
        let count =
            records.store.read(|db| db.query_row("SELECT count(*) FROM powerjob_closed", [], |r| r.get::<_, i64>(0)));
        let count = count.await.expect("readable");
        assert!((kept()..kept() + THIN_EVERY).contains(&count), "{count}");
        let loaded = records.load().await.expect("readable").recovered.closed;
        assert_eq!((loaded.len(), loaded.last().map(|c| c.instance_id)), (CLOSED_KEPT, Some(many - 1)));
    }

    #[tokio::test]
    async fn a_record_of_another_version_is_an_error_that_names_the_instance() {
        let records = Records::new(Store::open_in_memory(MIGRATIONS).expect("a store"), "main".to_owned());
        let spoil = "INSERT INTO powerjob_instance VALUES ('main', 42, '{\"stage\":\"Flying\"}', NULL)";
        records.store.write(move |db| db.execute_batch(spoil)).await.expect("stored");
        let why = records.load().await.expect_err("unreadable").to_string();
        assert!(why.contains("instance 42") && why.contains("another version"), "{why}");
    }
}
