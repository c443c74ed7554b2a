//! What is stored of a run, so that a restarted agent goes on with it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use testrig_host::{BoundaryId, ExitStatus};
use testrig_store::{Migration, Store, StoreError, rusqlite};

use super::{ending::Ending, evidence::Evidence, health::History};

/// The tables of RunLLMTest.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        module: "run_llm_test",
        version: 1,
        // `record` is [`RunRecord`] as JSON; the columns are what is searched.
        sql: "CREATE TABLE llm_runs (
        instance_id INTEGER PRIMARY KEY,
        stage TEXT NOT NULL,
        log_dir TEXT,
        updated_ms INTEGER NOT NULL,
        record TEXT NOT NULL
    );
    CREATE INDEX llm_runs_log_dir ON llm_runs (log_dir);",
    },
    Migration {
        module: "run_llm_test",
        version: 2,
        // Made with the store, because it tells apart whose records name a container.
        sql: "CREATE TABLE llm_agent (id TEXT NOT NULL);
    INSERT INTO llm_agent (id) VALUES (lower(hex(randomblob(12))));",
    },
    Migration {
        module: "run_llm_test",
        version: 3,
        // Outlives the run's record: what is in no row here was not made by this agent, and is never removed.
        sql: "CREATE TABLE llm_run_dirs (path TEXT PRIMARY KEY, instance_id INTEGER NOT NULL) WITHOUT ROWID;",
    },
];

/// How long the record of a finished run is kept: a worker that was killed between the end of the run and the storing of
/// its outcome asks for it again.
const KEEP_DONE_MS: i64 = 7 * 24 * 3600 * 1000;

/// The stages of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    Plan,
    Lease,
    Pull,
    Create,
    Start,
    Health,
    WarmUp,
    Load,
    Teardown,
    Result,
    /// The outcome is known; only the worker has not stored it yet.
    Done,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Lease => "lease",
            Self::Pull => "pull",
            Self::Create => "create",
            Self::Start => "start",
            Self::Health => "health",
            Self::WarmUp => "warm-up",
            Self::Load => "load",
            Self::Teardown => "teardown",
            Self::Result => "result",
            Self::Done => "done",
        }
    }
}

/// One stage as it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StageRecord {
    pub(super) name: String,
    pub(super) started_at_ms: i64,
    /// Absent while it lasts, and where a kill of the agent cut it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) duration_ms: Option<u64>,
    /// `ok`, `failed`, `stopped`, `cut` (by a kill of the agent).
    pub(super) outcome: String,
    /// A load phase that was started again on the still loaded service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) restarted: bool,
}

impl StageRecord {
    /// A stage that went well.
    pub(super) fn done(stage: Stage, started_at_ms: i64, took: std::time::Duration) -> Self {
        let duration_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        Self { name: stage.name().to_owned(), started_at_ms, duration_ms, outcome: "ok".into(), restarted: false }
    }
}

/// Why a run did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FailureRecord {
    /// The stage that failed.
    pub(super) stage: Stage,
    /// Why.
    pub(super) reason: String,
    /// The service's last lines at that moment.
    pub(super) last_lines: Vec<String>,
    /// `failed`, `stopped` or `timed_out`.
    pub(super) kind: EndKind,
    /// Another try may help.
    pub(super) retryable: bool,
    /// What it was.
    #[serde(default)]
    pub(super) ending: Ending,
    /// What that is known by.
    #[serde(default)]
    pub(super) evidence: Evidence,
}

/// What kind of end a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EndKind {
    Failed,
    Stopped,
    TimedOut,
}

/// What the service is, as far as it exists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceRecord {
    /// `container`, `process` or `reuse`; empty before the plan.
    pub(super) kind: String,
    /// Set before anything is created.
    pub(super) boundary: Option<BoundaryId>,
    pub(super) container_id: Option<String>,
    pub(super) image_id: Option<String>,
    /// Container name, or the command.
    pub(super) name: Option<String>,
    pub(super) pid: Option<i64>,
    /// Where the service port is reachable from the host.
    pub(super) address: Option<String>,
    pub(super) host_port: Option<u16>,
    /// Set before anything of it is made: until then there is nothing to end.
    pub(super) create_asked: bool,
    /// Set just before the start is asked for.
    pub(super) start_asked: bool,
    /// The main process ended: how.
    pub(super) exit: Option<ExitStatus>,
    /// It ended before the run asked it to.
    pub(super) ended_early: bool,
}

/// A job behind a run. Without instance and problem it was about to be asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Started {
    pub(super) job: String,
    pub(super) instance_id: Option<String>,
    pub(super) problem: Option<String>,
}

/// Everything that is stored of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunRecord {
    pub(super) attempt: u32,
    pub(super) stage: Stage,
    pub(super) started_at_ms: i64,
    pub(super) platform_task_id: String,
    /// Start day, `yyyyMMdd` in the agent's zone then.
    pub(super) date: String,
    pub(super) log_dir: Option<PathBuf>,
    pub(super) service: ServiceRecord,
    pub(super) stages: Vec<StageRecord>,
    pub(super) warnings: Vec<String>,
    /// Load phases that a kill cut: their records lie in `metrics-{scenario}.cut-N.log`.
    pub(super) cuts: u32,
    /// Restarts of the agent that this run went through.
    pub(super) restarts: u32,
    pub(super) load_started_ms: Option<i64>,
    pub(super) load_ended_ms: Option<i64>,
    /// The summary of the load, once it is done.
    pub(super) metrics: Option<Value>,
    /// What the load was really asked to do.
    pub(super) load: Option<Value>,
    pub(super) accelerators: Vec<Value>,
    /// The engine's id of a test command in the container, stored before it runs.
    #[serde(default)]
    pub(super) test_exec: Option<String>,
    /// The downstream jobs that were asked for, in their order.
    #[serde(default)]
    pub(super) downstream: Vec<Started>,
    pub(super) failure: Option<FailureRecord>,
    pub(super) outcome: Option<OutcomeRecord>,
    /// The kernel's boot in which the run began.
    #[serde(default)]
    pub(super) boot_id: String,
    /// What the health checks said.
    #[serde(default)]
    pub(super) probes: History,
    /// How the start of the service went.
    #[serde(default)]
    pub(super) startup: Startup,
}

/// Moments of a start, epoch ms and milliseconds from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Startup {
    /// When it was started.
    pub(super) started_at_ms: Option<i64>,
    /// Until its health check had passed.
    pub(super) ready_ms: Option<u64>,
    /// Until its first token came, from the health check or the load.
    pub(super) first_token_ms: Option<u64>,
}

/// The final word, kept until the worker has stored it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OutcomeRecord {
    pub(super) success: bool,
    pub(super) message: String,
    pub(super) retryable: bool,
    pub(super) context: BTreeMap<String, String>,
}

impl RunRecord {
    /// How the run ended; a run without a failure that is still open has none yet.
    pub(super) fn ending(&self) -> Ending {
        self.failure.as_ref().map_or(Ending::Completed, |failure| failure.ending)
    }

    /// The service has passed its health check.
    pub(super) fn was_ready(&self) -> bool {
        self.stages.iter().any(|stage| stage.name == Stage::Health.name() && stage.outcome == "ok")
    }

    pub(super) fn new(attempt: u32, now_ms: i64) -> Self {
        Self {
            attempt,
            stage: Stage::Plan,
            started_at_ms: now_ms,
            platform_task_id: String::new(),
            date: String::new(),
            log_dir: None,
            service: ServiceRecord::default(),
            stages: Vec::new(),
            warnings: Vec::new(),
            cuts: 0,
            restarts: 0,
            load_started_ms: None,
            load_ended_ms: None,
            metrics: None,
            load: None,
            accelerators: Vec::new(),
            test_exec: None,
            downstream: Vec::new(),
            failure: None,
            outcome: None,
            probes: History::default(),
            startup: Startup::default(),
            boot_id: testrig_host::system::boot_id().unwrap_or_default(),
        }
    }
}

/// The runs in the store.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    store: Store,
}

impl Runs {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// What containers of this agent carry as [`testrig_host::LABEL_AGENT`].
    pub(super) async fn agent_id(&self) -> Result<String, StoreError> {
        self.store.read(|conn| conn.query_row("SELECT id FROM llm_agent", [], |row| row.get(0))).await
    }

    /// Notes that a run's directory was made. One that is not noted is kept for ever, which harms no run.
    pub(super) async fn dir_made(&self, path: &Path, instance_id: i64) {
        let path = path.display().to_string();
        let noted = self.store.write(move |conn| {
            conn.execute("INSERT OR REPLACE INTO llm_run_dirs (path, instance_id) VALUES (?1, ?2)", (path, instance_id))
                .map(|_| ())
        });
        if let Err(error) = noted.await {
            tracing::warn!(instance_id, %error, "the directory of the run could not be noted and will not be removed");
        }
    }

    /// Notes that a directory was set aside, if it is one of ours.
    pub(super) async fn dir_moved(&self, from: &Path, to: &Path) {
        let (from, to) = (from.display().to_string(), to.display().to_string());
        let noted = self.store.write(move |conn| {
            conn.execute("UPDATE OR REPLACE llm_run_dirs SET path = ?2 WHERE path = ?1", (from, to)).map(|_| ())
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a directory that was set aside could not be noted and will not be removed");
        }
    }

    /// Forgets a directory.
    pub(super) async fn dir_gone(&self, path: &Path) -> Result<(), StoreError> {
        let path = path.display().to_string();
        self.store.write(move |conn| conn.execute("DELETE FROM llm_run_dirs WHERE path = ?1", [path]).map(|_| ())).await
    }

    /// All directories that are noted, with their instances, by path.
    pub(super) async fn dirs(&self) -> Result<Vec<(PathBuf, i64)>, StoreError> {
        self.store
            .read(|conn| {
                conn.prepare("SELECT path, instance_id FROM llm_run_dirs ORDER BY path")?
                    .query_map([], |row| Ok((PathBuf::from(row.get::<_, String>(0)?), row.get(1)?)))?
                    .collect()
            })
            .await
    }

    /// The record of an instance. A record that cannot be read is none: its boundary is found by its name.
    pub(super) async fn load(&self, instance_id: i64) -> Result<Option<RunRecord>, StoreError> {
        let text: Option<String> = self
            .store
            .read(move |conn| {
                use rusqlite::OptionalExtension;
                conn.query_row("SELECT record FROM llm_runs WHERE instance_id = ?1", [instance_id], |row| row.get(0))
                    .optional()
            })
            .await?;
        Ok(text.and_then(|text| match serde_json::from_str(&text) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(instance_id, %error, "the stored record of a run cannot be read and is not used");
                None
            }
        }))
    }

    /// All records that can be read.
    pub(super) async fn all(&self) -> Result<Vec<RunRecord>, StoreError> {
        let texts: Vec<String> = self
            .store
            .read(|conn| conn.prepare("SELECT record FROM llm_runs")?.query_map([], |row| row.get(0))?.collect())
            .await?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Stores the record; returns once it is durable.
    pub(super) async fn save(&self, instance_id: i64, record: &RunRecord, now_ms: i64) -> Result<(), StoreError> {
        let json = serde_json::to_string(record).expect("a record is always JSON");
        let dir = record.log_dir.as_ref().map(|dir| dir.display().to_string());
        let stage = record.stage.name();
        self.store
            .write(move |conn| {
                conn.execute(
                    "INSERT INTO llm_runs (instance_id, stage, log_dir, updated_ms, record) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (instance_id) DO UPDATE SET stage = ?2, log_dir = ?3, updated_ms = ?4, record = ?5",
                    (instance_id, stage, dir, now_ms, json),
                )
                .map(|_| ())
            })
            .await
    }

    /// The open run of another instance that writes into this directory.
    pub(super) async fn other_user_of(&self, dir: &Path, instance_id: i64) -> Result<Option<i64>, StoreError> {
        let dir = dir.display().to_string();
        self.store
            .read(move |conn| {
                use rusqlite::OptionalExtension;
                conn.query_row(
                    "SELECT instance_id FROM llm_runs WHERE log_dir = ?1 AND instance_id <> ?2 AND stage <> 'done'",
                    (dir, instance_id),
                    |row| row.get(0),
                )
                .optional()
            })
            .await
    }

    /// Whether the run of this instance is still open.
    pub(super) async fn is_open(&self, instance_id: i64) -> Result<bool, StoreError> {
        Ok(self.load(instance_id).await?.is_some_and(|record| record.stage != Stage::Done))
    }

    /// Forgets runs that ended long ago.
    pub(super) async fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        self.store
            .write(move |conn| {
                conn.execute("DELETE FROM llm_runs WHERE stage = 'done' AND updated_ms < ?1", [now_ms - KEEP_DONE_MS])
                    .map(|_| ())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_record_is_there_again_after_a_restart_with_everything_in_it() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("state.db");
        let mut record = RunRecord::new(1, 5);
        record.stage = Stage::Load;
        record.log_dir = Some("/logs/a".into());
        record.service.boundary = Some(BoundaryId::new(7, 1));
        record.failure = Some(FailureRecord {
            stage: Stage::Health,
            reason: "why".into(),
            last_lines: vec!["last".into()],
            kind: EndKind::TimedOut,
            retryable: true,
            ending: Ending::TimeLimit,
            evidence: Evidence::default(),
        });
        {
            let runs = Runs::new(Store::open(&file, MIGRATIONS).expect("store"));
            runs.save(7, &record, 10).await.expect("saved");
        }
        let runs = Runs::new(Store::open(&file, MIGRATIONS).expect("store"));
        assert_eq!(runs.load(7).await.expect("read"), Some(record.clone()));
        assert_eq!(runs.load(8).await.expect("read"), None);
        assert_eq!(runs.other_user_of("/logs/a".as_ref(), 8).await.expect("read"), Some(7));
        assert_eq!(runs.other_user_of("/logs/a".as_ref(), 7).await.expect("read"), None);
        record.stage = Stage::Done;
        runs.save(7, &record, 10).await.expect("saved");
        assert_eq!(runs.other_user_of("/logs/a".as_ref(), 8).await.expect("read"), None);
        runs.sweep(11 + KEEP_DONE_MS).await.expect("swept");
        assert_eq!(runs.load(7).await.expect("read"), None);
    }
}
