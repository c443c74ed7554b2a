//! Service control: starts, stops, restarts and looks at a long-lived inference service.
//!
//! The service outlives the job and the agent: its processes stay in a boundary of their own, whose name is stored before
//! the start, and the next job of the same `modelName` finds it there. Three names lead here: `ServiceControl`, and the two
//! of the platform's specification, whose results have the specification's words.

mod host;
mod plan;
mod record;
mod start;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext};
use testrig_store::Store;

pub(crate) use record::MIGRATIONS;
pub(crate) use table::TABLE;

use self::{
    host::{Found, Host, said},
    plan::{Action, Flavour, Plan},
    record::Records,
};
use crate::{
    Environment, input_of,
    params::{Input, Params, Problems, Table},
};

/// Name of the specification's processor that gives the script's output as its result.
pub const PYTHON_LAUNCHER: &str = "llmPythonProcessor#pythonLauncher";
/// Name of the one that gives the exit code only.
pub const PYTHON_LAUNCHER_STREAMING: &str = "llmPythonProcessor#pythonLauncherWithStreamingLog";

/// One job at a time for each service.
type Locks = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

/// The processor under one of its names.
pub struct ServiceControl {
    env: Arc<Environment>,
    records: Records,
    locks: Locks,
    flavour: Flavour,
}

/// The parameters of the processor of this name; `None` = it is not one of these.
pub(crate) fn table_of(name: &str) -> Option<&'static Table> {
    match flavour(name)? {
        Flavour::Control => Some(&TABLE),
        Flavour::Launcher | Flavour::Streaming => Some(&table::LAUNCHER),
    }
}

/// The parameters as a job under this name would read them; nothing is done.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check(name: &str, input: &Input<'_>, env: &Environment) -> Result<Params, Problems> {
    plan::plan(input, env, flavour(name).unwrap_or(Flavour::Control)).map(|(_, params)| params)
}

fn flavour(name: &str) -> Option<Flavour> {
    [
        (TABLE.processor, Flavour::Control),
        (PYTHON_LAUNCHER, Flavour::Launcher),
        (PYTHON_LAUNCHER_STREAMING, Flavour::Streaming),
    ]
    .into_iter()
    .find_map(|(known, flavour)| (known == name).then_some(flavour))
}

/// All of them, by name.
pub(crate) fn processors(env: &Arc<Environment>, store: &Store) -> Vec<(&'static str, Arc<dyn Processor>)> {
    let locks = Locks::default();
    let of = |flavour| -> Arc<dyn Processor> {
        Arc::new(ServiceControl {
            env: Arc::clone(env),
            records: Records::new(store.clone()),
            locks: Arc::clone(&locks),
            flavour,
        })
    };
    vec![
        (TABLE.processor, of(Flavour::Control)),
        (PYTHON_LAUNCHER, of(Flavour::Launcher)),
        (PYTHON_LAUNCHER_STREAMING, of(Flavour::Streaming)),
    ]
}

/// One job at work.
struct Work<'a> {
    ctx: &'a TaskContext,
    host: Host<'a>,
    records: &'a Records,
    plan: &'a Plan,
    flavour: Flavour,
}

#[async_trait]
impl Processor for ServiceControl {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let (plan, params) = match plan::plan(&input_of(&ctx), &self.env, self.flavour) {
            Ok(planned) => planned,
            Err(problems) => return problems.reject(&ctx),
        };
        params.warnings().iter().for_each(|warning| ctx.log.warn(warning));
        ctx.log.info(format!("parameters: {}", params.masked()));
        let lock = Arc::clone(self.locks.lock().entry(plan.model.clone()).or_default());
        let _turn = match lock.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                ctx.log.info(format!("another job works on service `{}`; waiting for it", plan.model));
                tokio::select! {
                    turn = lock.lock() => turn,
                    reason = ctx.stop.raised() => {
                        return ProcessResult::rejected(format!("the job was ended ({reason:?}) while it waited for another one"));
                    }
                }
            }
        };
        let host = match Host::new(&self.env, &ctx) {
            Ok(host) => host,
            Err(why) => return ProcessResult::failed(why),
        };
        let work = Work { ctx: &ctx, host, records: &self.records, plan: &plan, flavour: self.flavour };
        // Boxed: one large future.
        Box::pin(work.run()).await
    }

    /// A start that was cut finds what it had started; the other actions can be done twice.
    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

impl Work<'_> {
    async fn run(&self) -> ProcessResult {
        match (self.plan.action, self.plan.method.clone()) {
            (Action::Start | Action::Restart, Some(method)) => self.start(method).await,
            (Action::Stop, _) => match self.stop_known().await {
                Ok(true) => ProcessResult::success(format!("{} was ended; nothing of it is left", self.name())),
                Ok(false) => {
                    ProcessResult::success(format!("{} was not there: this agent has not started it", self.name()))
                }
                Err(why) => ProcessResult::failed(format!("{} could not be ended: {why}", self.name())),
            },
            _ => self.status().await,
        }
    }

    /// Succeeds only if the service runs and answers, so that a job can be an alarm.
    async fn status(&self) -> ProcessResult {
        let record = match self.records.get(&self.plan.model).await {
            Ok(Some(record)) => record,
            Ok(None) => {
                return ProcessResult::failed(format!("{} is not there: this agent has not started it", self.name()));
            }
            Err(error) => return ProcessResult::failed(said(&error)),
        };
        let found = match self.host.look(&record).await {
            Ok(found) => found,
            Err(why) => return ProcessResult::failed(format!("{} cannot be looked at: {why}", self.name())),
        };
        let since =
            jiff::Timestamp::from_millisecond(record.started_ms).map_or_else(|_| String::new(), |at| at.to_string());
        let what = format!("{}, started {since}", start::describe(&record, &found));
        if let Found::Ended(_) = found {
            return ProcessResult::failed(format!("{} does not run: {what}", self.name()));
        }
        let (healthy, detail) = self.probe(&record).await;
        let text =
            format!("{} {}: {what}; {detail}", self.name(), if healthy { "is up" } else { "runs but is not healthy" });
        if healthy { ProcessResult::success(text) } else { ProcessResult::failed(text) }
    }

    /// Ends the service of this name, if there is one.
    async fn stop_known(&self) -> Result<bool, String> {
        let known = self.records.get(&self.plan.model).await.map_err(|error| said(&error))?;
        let Some(record) = known else { return Ok(false) };
        self.host.end(&record).await?;
        self.records.remove(&record.model).await.map_err(|error| said(&error))?;
        Ok(true)
    }

    fn name(&self) -> String {
        format!("service `{}`", self.plan.model)
    }
}
