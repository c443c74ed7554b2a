//! One run from its parameters to its outcome.

mod begin;
mod commanded;
mod downstream;
mod facts;
mod hold;
mod launch;
mod lease;
mod load;
mod refused;
mod reported;
mod scripted;
mod stages;
mod teardown;
mod watching;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use powerjob_worker::{ProcessResult, TaskContext};
use testrig_host::{ExitStatus, process::Inside};
use tokio::{sync::watch, time::Instant};

use super::{
    attached::Attached,
    context,
    dir::RunDir,
    ending::Ending,
    evidence::Evidence,
    guard::HostLoad,
    health::SharedHistory,
    interrupt::Interrupts,
    plan::Plan,
    result,
    service::{Say, Service, chain},
    state::{EndKind, FailureRecord, OutcomeRecord, RunRecord, Runs, Stage},
};
use crate::Environment;

pub(super) use begin::{docker, engine, runner};

/// What all runs share.
pub(super) struct Shared {
    pub(super) env: Arc<Environment>,
    pub(super) runs: Runs,
    pub(super) host_load: Arc<HostLoad>,
}

/// A run at work.
struct Run {
    shared: Arc<Shared>,
    ctx: TaskContext,
    plan: Plan,
    dir: RunDir,
    record: RunRecord,
    service: Arc<dyn Service>,
    say: Say,
    interrupts: Interrupts,
    exited: watch::Sender<Option<ExitStatus>>,
    unhealthy: watch::Sender<Option<String>>,
    over_quota: watch::Sender<Option<String>>,
    attached: Option<Attached>,
    /// What the health checks said.
    probes: SharedHistory,
    /// When the service was started, on this process's clock.
    service_started: Option<Instant>,
    /// The service process in the container, where that is tracked, too.
    inside: Option<Arc<Mutex<Inside>>>,
    /// Begin of the stage that lasts.
    stage_began: Instant,
}

/// Runs one task, or takes up one that a restart of the agent cut.
pub(super) async fn process(shared: Arc<Shared>, ctx: TaskContext) -> ProcessResult {
    match begin::begin(shared, ctx).await {
        Ok(begin::Begun::Finished(finished)) => give(&finished.1, finished.0),
        Ok(begin::Begun::Run(run, from)) => run.to_its_end(from).await,
        Err(refused) => *refused,
    }
}

/// The outcome for the worker, with its entries for the workflow.
fn give(ctx: &TaskContext, outcome: OutcomeRecord) -> ProcessResult {
    for (key, value) in outcome.context {
        ctx.workflow.append(key, value);
    }
    match (outcome.success, outcome.retryable) {
        (true, _) => ProcessResult::success(outcome.message),
        (false, true) => ProcessResult::failed(outcome.message),
        (false, false) => ProcessResult::rejected(outcome.message),
    }
}

impl Run {
    async fn to_its_end(mut self: Box<Self>, from: Stage) -> ProcessResult {
        let resumed = from >= Stage::Teardown;
        if !resumed {
            let failure = self.work(from).await.err();
            self.record.failure = failure;
        } else if let Err(failure) = self.take_over_for_teardown().await {
            self.record.failure.get_or_insert(failure);
        }
        self.teardown(resumed).await;
        self.result().await
    }

    /// Everything between the plan and the teardown.
    async fn work(&mut self, from: Stage) -> Result<(), FailureRecord> {
        // A second kill may fall into the health check before the load goes on.
        let loaded_before = matches!(from, Stage::WarmUp | Stage::Load) || self.record.load_started_ms.is_some();
        if self.take_over(from).await? == stages::Have::Nothing {
            self.lease().await?;
            self.pull().await?;
            self.create().await?;
            self.start().await?;
        }
        self.health().await?;
        self.test(loaded_before).await
    }

    /// Writes result.json, stores the outcome, gives it to the worker.
    async fn result(mut self: Box<Self>) -> ProcessResult {
        if let Err(error) = self.enter(Stage::Result).await {
            self.ctx.log.warn(&error.reason);
        }
        self.close_stage("ok");
        if let Some(failure) = &self.record.failure {
            // The service's last lines are in the log already.
            self.ctx.log.error(format!(
                "{}\n{}",
                result::what_failed(failure),
                result::ending_line(failure, &self.probes.lock())
            ));
        }
        self.record.probes = self.probes.lock().clone();
        self.push_result().await;
        let written = self.dir.write_result(&result::json(&self.ctx, &self.plan, &self.dir, &self.record));
        let mut outcome = result::outcome(&self.ctx, &self.plan, &self.dir, &self.record);
        if let Err(error) = written {
            self.ctx.log.error(format!("stage result failed: {error}"));
            if outcome.success {
                // A success that nobody can read is none: the raw result is what the run is for.
                outcome.success = false;
                outcome.retryable = true;
                outcome.context.insert("runStatus".into(), "FAILED".into());
                let ending = Ending::of_error(&error).unwrap_or(Ending::Unknown);
                outcome.message =
                    format!("stage result failed: {error}\nending: {}\n{}", ending.name(), outcome.message);
            } else {
                outcome.message = format!("{}\nstage result failed, too: {error}", outcome.message);
            }
            self.dir.overwrite_result(&result::short(&self.ctx, &self.record, &outcome.message));
        }
        let problems = self.start_downstream(outcome.success, &outcome.context).await;
        if !self.record.downstream.is_empty() {
            for problem in problems {
                outcome.message = format!("{}\n{problem}", outcome.message);
            }
            // Where the whole result has no room it stays as short as it is.
            let _ = self.dir.write_result(&result::json(&self.ctx, &self.plan, &self.dir, &self.record));
        }
        if outcome.success {
            self.ctx.log.info(format!("run ended: {}", outcome.message));
        } else {
            self.ctx.log.info("run ended: not successful, see above");
        }
        self.record.stage = Stage::Done;
        self.record.outcome = Some(outcome.clone());
        if let Err(error) = self.shared.runs.save(self.ctx.instance_id, &self.record, now_ms()).await {
            // Only a kill within the next moments could make use of it.
            self.ctx.log.warn(format!("failed to store the outcome of the run: {}", chain(&error)));
        }
        give(&self.ctx, outcome)
    }

    async fn save(&mut self) -> Result<(), FailureRecord> {
        self.record.probes = self.probes.lock().clone();
        let saved = self.shared.runs.save(self.ctx.instance_id, &self.record, now_ms()).await;
        saved.map_err(|error| FailureRecord {
            stage: self.record.stage,
            reason: format!("failed to store the state of the run: {}", chain(&error)),
            last_lines: Vec::new(),
            kind: EndKind::Failed,
            retryable: true,
            ending: Ending::of_error(&error).unwrap_or(Ending::Unknown),
            evidence: Evidence::default(),
        })
    }

    fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.ctx.log.warn(&text);
        self.record.warnings.push(text);
    }
}

/// Gives up before there is a run: nothing was started.
fn refuse(ctx: &TaskContext, message: &str, ending: Ending, retryable: bool) -> Box<ProcessResult> {
    let message = format!("{message}\nending: {}", ending.name());
    ctx.log.error(&message);
    let context = context::of_refused(ctx);
    Box::new(give(ctx, OutcomeRecord { success: false, message, retryable, context }))
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What is left of a limit that began at `began_ms`.
fn left_of(limit: Duration, began_ms: i64) -> Duration {
    let gone = u64::try_from(now_ms() - began_ms).unwrap_or(0);
    limit.saturating_sub(Duration::from_millis(gone))
}
