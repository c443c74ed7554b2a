//! The log append of a test platform (`testPlatformBaseUrl`): the lines of an instance, as the PowerJob server gets them, also
//! go to `POST {base}/api/log/append`, with the specification's body `{"instanceId", "timestamp", "lines"}`.
//!
//! It is a sink of the instance's journal like the server's, with a cursor of its own: no run waits for it. A batch that was not
//! taken is sent again, also by the next process of the agent, until it is taken or a day is over; so a batch whose answer
//! was lost comes twice, the second time with what was written meanwhile behind it. The `Idempotency-Key` names its first line and
//! the number of its lines.

mod sink;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext, TaskResults};
use testrig_joblog::{Cursors, Journal, Journals, Level, Pump, PumpOptions};
use testrig_store::{Migration, Store, StoreError};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::sink::AppendSink;
use crate::{
    Environment, input_of,
    params::{self, Input, Params, Table, mask},
};

/// The parameter.
const NAME: &str = "testPlatformBaseUrl";
/// As the specification has it: so many lines, or this much time, and a batch leaves.
const LINES: usize = 20;
const LINGER: Duration = Duration::from_secs(2);
/// How long a platform that takes nothing is tried.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// The tables of this module.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    module: "platform_log",
    version: 1,
    sql: "CREATE TABLE platform_logs (
              instance_id INTEGER NOT NULL,
              base TEXT NOT NULL,
              since_ms INTEGER NOT NULL,
              PRIMARY KEY (instance_id, base)
          ) WITHOUT ROWID",
}];

/// Reads parameters as [`params::read`] does, and refuses a platform that this agent may not talk to.
pub(crate) fn read(env: &Environment, table: &'static Table, input: &Input<'_>) -> Params {
    let mut params = params::read(table, input);
    let base = params.str(NAME).map(str::to_owned);
    if let Some(Err(denied)) = base.map(|base| env.allow_url(&base)) {
        params.deny(NAME, &denied);
    }
    params
}

/// The logs that are on their way to a platform.
pub struct PlatformLogs {
    http: reqwest::Client,
    store: Store,
    cursors: Cursors,
    open: Mutex<HashMap<Key, Arc<Pump>>>,
    keepers: TaskTracker,
    stop: CancellationToken,
}

/// Instance and platform.
type Key = (i64, String);

impl PlatformLogs {
    /// Logs that are remembered in this store, which must have been opened with the tables of this crate and of the journals.
    pub fn new(store: Store, http: reqwest::Client) -> Self {
        let cursors = Cursors::new(store.clone());
        let (open, keepers, stop) = (Mutex::default(), TaskTracker::new(), CancellationToken::new());
        Self { http, store, cursors, open, keepers, stop }
    }

    /// Goes on with what an earlier process of the agent had not brought to its platform.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn resume(self: &Arc<Self>, journals: &Journals) -> Result<(), StoreError> {
        for (instance_id, base, since_ms) in self.known().await? {
            match journals.existing(instance_id) {
                Ok(Some(journal)) => self.spawn(journal, base, since_ms),
                // Gone with its time: nothing is left to be sent.
                Ok(None) => self.forget((instance_id, base)).await,
                Err(error) => {
                    tracing::warn!(instance_id, %error, "the log of an instance cannot be read for its platform");
                }
            }
        }
        Ok(())
    }

    /// Brings what waits to the platforms that take it, for at most this long, and ends. The rest is for the next process.
    pub async fn finish(&self, limit: Duration) {
        let pumps: Vec<Arc<Pump>> = self.open.lock().values().cloned().collect();
        let drained = pumps.iter().map(|pump| pump.drained(Some(limit)));
        futures_util::future::join_all(drained).await;
        self.stop.cancel();
        self.keepers.close();
        self.keepers.wait().await;
    }

    /// From now on the journal goes to this platform.
    async fn begin(self: &Arc<Self>, journal: Arc<Journal>, base: String) {
        let since_ms = jiff::Timestamp::now().as_millisecond();
        let (instance_id, platform) = (journal.instance_id(), base.clone());
        let noted = self.store.write(move |db| {
            db.execute(
                "INSERT OR IGNORE INTO platform_logs (instance_id, base, since_ms) VALUES (?1, ?2, ?3)",
                (instance_id, platform, since_ms),
            )
            .map(drop)
        });
        if let Err(error) = noted.await {
            tracing::warn!(instance_id, %error, "after a restart of the agent the platform's log may lack lines");
        }
        self.spawn(journal, base, since_ms);
    }

    fn spawn(self: &Arc<Self>, journal: Arc<Journal>, base: String, since_ms: i64) {
        let key = (journal.instance_id(), base);
        let mut open = self.open.lock();
        if open.contains_key(&key) || self.stop.is_cancelled() {
            return;
        }
        let sink = Arc::new(AppendSink::new(self.http.clone(), &key.1));
        let options = PumpOptions { min_lines: LINES, linger: LINGER, ..PumpOptions::default() };
        let pump = Arc::new(Pump::spawn(Arc::clone(&journal), sink, self.cursors.clone(), options));
        open.insert(key.clone(), Arc::clone(&pump));
        let gone = u64::try_from(jiff::Timestamp::now().as_millisecond() - since_ms).unwrap_or(0);
        let until = Instant::now() + PATIENCE.saturating_sub(Duration::from_millis(gone));
        let logs = Arc::clone(self);
        self.keepers.spawn(async move {
            let done = loop {
                let seen = tokio::select! {
                    seen = watch(&pump, &journal, &key.1, until) => Some(seen),
                    () = logs.stop.cancelled() => None,
                };
                let mut open = logs.open.lock();
                // Begun again in this moment: a further attempt of the instance, which found this pump.
                if seen != Some(Seen::Everything) || journal.is_closed() {
                    open.remove(&key);
                    break seen.is_some();
                }
            };
            pump.stop().await;
            if done {
                logs.forget(key).await;
            }
        });
    }

    async fn known(&self) -> Result<Vec<(i64, String, i64)>, StoreError> {
        self.store
            .read(|db| {
                let mut query = db.prepare("SELECT instance_id, base, since_ms FROM platform_logs")?;
                let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                rows.collect()
            })
            .await
    }

    async fn forget(&self, (instance_id, base): Key) {
        let removed = self.store.write(move |db| {
            db.execute("DELETE FROM platform_logs WHERE instance_id = ?1 AND base = ?2", (instance_id, base)).map(drop)
        });
        if let Err(error) = removed.await {
            // Nothing is sent twice for that: the cursor stands at the end.
            tracing::debug!(instance_id, %error, "a platform's log stays noted");
        }
    }
}

/// How the way to a platform ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// The instance has ended, and its platform has every line.
    Everything,
    /// It was tried for long enough.
    TooLate,
}

/// Lasts until one of them. Says once in the log that there is an outage: a line for each one would be lines to send, too.
async fn watch(pump: &Pump, journal: &Journal, base: &str, until: Instant) -> Seen {
    let (mut sent, mut written) = (pump.state(), journal.subscribe());
    let mut told = false;
    loop {
        let (next, failing) = {
            let state = sent.borrow_and_update();
            (state.next, state.failing.clone())
        };
        let (len, closed) = {
            let state = written.borrow_and_update();
            (state.len, state.closed.is_some())
        };
        if closed && next >= len {
            return Seen::Everything;
        }
        if let Some(why) = failing.filter(|_| !told && !closed) {
            told = true;
            let base = mask::url(base);
            let text =
                format!("the log does not reach the test platform {base} for the moment, it goes on trying: {why}");
            journal.append(Level::Warn, "agent", &text);
        }
        tokio::select! {
            // Both are there as long as this is.
            _ = sent.changed() => {}
            _ = written.changed() => {}
            () = tokio::time::sleep_until(until) => {
                let instance_id = journal.instance_id();
                tracing::warn!(instance_id, left = len - next, "lines of a log did not reach their test platform in a day");
                return Seen::TooLate;
            }
        }
    }
}

/// A processor whose instances' logs go to the platform that their parameters, or the configuration, name.
pub(crate) struct Told {
    pub(crate) inner: Arc<dyn Processor>,
    pub(crate) table: &'static Table,
    pub(crate) env: Arc<Environment>,
    pub(crate) logs: Arc<PlatformLogs>,
}

impl Told {
    /// Where the log goes; nowhere if what the parameters say is wrong, which the processor tells by itself.
    fn platform(&self, ctx: &TaskContext) -> Option<String> {
        let params = read(&self.env, self.table, &input_of(ctx));
        if params.problem_with(NAME) {
            return None;
        }
        params.str(NAME).map(str::to_owned).or_else(|| self.env.platform_base_url.clone())
    }

    async fn begin(&self, ctx: &TaskContext) {
        if let Some(base) = self.platform(ctx) {
            self.logs.begin(Arc::clone(ctx.log.journal()), base).await;
        }
    }
}

#[async_trait]
impl Processor for Told {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        self.begin(&ctx).await;
        self.inner.process(ctx).await
    }

    async fn pre_process(&self, ctx: TaskContext) -> ProcessResult {
        self.inner.pre_process(ctx).await
    }

    async fn post_process(&self, ctx: TaskContext, results: TaskResults) -> ProcessResult {
        self.inner.post_process(ctx, results).await
    }

    async fn reduce(&self, ctx: TaskContext, results: TaskResults) -> ProcessResult {
        self.inner.reduce(ctx, results).await
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.inner.restart_policy()
    }
}
