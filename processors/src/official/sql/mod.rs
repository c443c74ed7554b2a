//! `DynamicDatasourceSqlProcessor` and `SpringDatasourceSqlProcessor`: SQL in one transaction.
//!
//! The names that Spring's processor knows are those of `[databases.*]`; instead of validators that a Java application
//! registers there are the patterns of `[official] sql_deny`, which hold for both.

mod source;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use powerjob_worker::{JobLogger, ProcessResult, Processor, RestartPolicy, TaskContext};
use testrig_sql::{Event, SqlError};

pub(super) use source::Source;

use super::{fields::Fields, params};
use crate::{Environment, related};

/// Seconds for the SQL.
const TIMEOUT: i64 = 60;

/// See the module.
pub(super) struct Sql {
    source: Source,
    env: Arc<Environment>,
}

impl Sql {
    pub(super) fn new(source: Source, env: Arc<Environment>) -> Self {
        Self { source, env }
    }

    fn plan(&self, ctx: &TaskContext) -> Result<Plan, String> {
        let name = self.source.name();
        let wrong = |error: String| format!("the parameters of {name}: {error}");
        let fields = Fields::read(params::of(ctx)).map_err(wrong)?;
        let fields = fields.ok_or_else(|| wrong("there are none; `sql` is needed".to_owned()))?;
        let sql = fields.text("sql").filter(|sql| !sql.trim().is_empty());
        let sql = sql.ok_or_else(|| wrong("`sql` is missing or empty".to_owned()))?;
        let address = self.source.address(&fields, &self.env)?;
        let timeout = fields.int("timeout").map_err(wrong)?.unwrap_or(TIMEOUT);
        if !(0..=86_400).contains(&timeout) {
            return Err(wrong(format!("`timeout` is {timeout}; accepted: 0 (no limit) to 86400 seconds")));
        }
        self.env.official.sql_deny.iter().try_for_each(|deny| deny.check(&sql))?;
        let limit = if timeout == 0 { u64::from(u32::MAX) } else { timeout.unsigned_abs() };
        let show = fields.flag("showResult").map_err(wrong)?.unwrap_or(false);
        Ok(Plan { sql, address, limit: Duration::from_secs(limit), show })
    }
}

struct Plan {
    sql: String,
    address: testrig_sql::Address,
    limit: Duration,
    show: bool,
}

#[async_trait]
impl Processor for Sql {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        params::tell(&ctx, params::of(&ctx));
        let plan = match self.plan(&ctx) {
            Ok(plan) => plan,
            Err(error) => {
                ctx.log.error(&error);
                return ProcessResult::rejected(error);
            }
        };
        let left_out = plan.address.left_out();
        if !left_out.is_empty() {
            let names = left_out.join(", ");
            ctx.log.warn(format!(
                "connection properties that mean nothing to this agent's drivers and are left out: {names}"
            ));
        }
        ctx.log.info(format!("executing on {}", plan.address));
        let begun = Instant::now();
        let mut table = Table { log: ctx.log.clone(), show: plan.show, result: None, rows: 0 };
        let stop = async {
            ctx.stop.raised().await;
        };
        let done =
            testrig_sql::execute(&plan.address, &plan.sql, plan.limit, stop, &mut |event| table.event(event)).await;
        match done {
            Ok(()) => {
                let ms = begun.elapsed().as_millis();
                ProcessResult::success(format!("execute successfully, used time: {ms} millisecond"))
            }
            Err(SqlError::Stopped) => {
                let reason = ctx.stop.reason().unwrap_or(powerjob_worker::StopReason::Stopped);
                related::ended(reason, "executing the SQL, which was rolled back")
            }
            Err(error) => {
                let text = match &error {
                    SqlError::Refused(why) => format!("the SQL failed and was rolled back: {why}"),
                    other => other.to_string(),
                };
                ctx.log.error(&text);
                ProcessResult::failed(text)
            }
        }
    }

    /// Whether the SQL was committed is not known after a cut.
    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Fail
    }
}

/// `showResult`: results as lines of the log, cells joined by `|`, NULL as `-`.
struct Table {
    log: JobLogger,
    show: bool,
    result: Option<usize>,
    rows: usize,
}

impl Table {
    fn event(&mut self, event: Event) {
        if !self.show {
            return;
        }
        if !matches!(event, Event::Row(_)) {
            self.result = Some(self.result.map_or(0, |result| result + 1));
            self.rows = 0;
        }
        let result = self.result.unwrap_or_default();
        match event {
            Event::Columns(names) => self.log.info(format!("[Result-{result}] [Columns] {}", names.join("|"))),
            Event::Changed(count) => self.log.info(format!("[Result-{result}] update count: {count}")),
            Event::Row(cells) => {
                let cells: Vec<&str> = cells.iter().map(|cell| cell.as_deref().unwrap_or("-")).collect();
                self.log.info(format!("[Result-{result}] [Row-{}] {}", self.rows, cells.join("|")));
                self.rows += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
