//! The stages up to a healthy service.

use std::{sync::Arc, time::Duration};

use testrig_host::process::{ProcessSpec, ScriptSpec};
use testrig_loadgen::Scenario;
use tokio::time::Instant;

use super::{
    super::{
        attached::Attached,
        ending::{Ending, How, classify},
        evidence::{Evidence, Oom, lost_cards},
        health::{Checker, HealthState, TokenRequest},
        interrupt::Cut,
        plan::HealthKind,
        service::{Fault, Found},
        state::{EndKind, FailureRecord, Stage, StageRecord, Startup},
    },
    Run, begin, now_ms,
};

const PULL_LIMIT: Duration = Duration::from_secs(4 * 3600);
const CREATE_LIMIT: Duration = Duration::from_secs(180);
const SCRIPT_LIMIT: Duration = Duration::from_secs(3600);
const START_LIMIT: Duration = Duration::from_secs(180);
const FIND_LIMIT: Duration = Duration::from_secs(180);
/// Lines of the service that a failure keeps.
const LAST_LINES: usize = 50;
/// And at most so many bytes of them.
const LAST_BYTES: usize = 64 * 1024;
/// The longest line of a service in the journal.
const MAX_LINE: usize = 32 * 1024;

/// What a run has of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Have {
    Nothing,
    Running,
}

impl Run {
    /// Enters a stage: in the store first, then in the log.
    pub(super) async fn enter(&mut self, stage: Stage) -> Result<(), FailureRecord> {
        self.record.stage = stage;
        self.record.stages.push(StageRecord {
            name: stage.name().to_owned(),
            started_at_ms: now_ms(),
            duration_ms: None,
            outcome: "open".into(),
            restarted: false,
        });
        self.stage_began = Instant::now();
        self.save().await?;
        self.ctx.log.info(format!("stage {}: begins", stage.name()));
        super::hold::in_stage(stage).await;
        Ok(())
    }

    /// Notes how the stage ended, with its duration.
    pub(super) fn close_stage(&mut self, outcome: &str) {
        let took = self.stage_began.elapsed();
        if let Some(open) = self.record.stages.last_mut().filter(|stage| stage.outcome == "open") {
            open.duration_ms = Some(millis(took));
            open.outcome = outcome.to_owned();
            let words = if outcome == "ok" { "done in" } else { "ended after" };
            let text = format!(
                "stage {}: {words} {:.3} s{}",
                open.name,
                took.as_secs_f64(),
                if outcome == "ok" { String::new() } else { format!(" ({outcome})") }
            );
            self.ctx.log.info(text);
        }
    }

    /// One stage: entered, its body under its limit and all interrupts, left.
    pub(super) async fn stage<T>(
        &mut self,
        stage: Stage,
        limit: Duration,
        body: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, FailureRecord> {
        self.enter(stage).await?;
        let result = match self.interrupts.now().await {
            Some(cut) => Err(cut),
            None => self.interrupts.guard(limit, body).await,
        };
        match result {
            Ok(value) => {
                self.close_stage("ok");
                Ok(value)
            }
            Err(cut) => Err(self.failure(stage, cut).await),
        }
    }

    /// What cut a stage, as it is told and stored.
    pub(super) async fn failure(&mut self, stage: Stage, cut: Cut) -> FailureRecord {
        let (kind, outcome) = match &cut {
            Cut::Stopped | Cut::Cancelled => (EndKind::Stopped, "stopped"),
            Cut::TimedOut(_) => (EndKind::TimedOut, "timed out"),
            _ => (EndKind::Failed, "failed"),
        };
        let evidence = self.evidence(stage, &cut).await;
        let ending = self.ending(stage, &cut, &evidence);
        let retryable = match &cut {
            Cut::Fault(fault) => fault.retryable,
            _ => true,
        };
        let reason = match cut {
            Cut::Fault(fault) => fault.text,
            Cut::Limit(limit) => format!("not done within the {} s that this stage may take", limit.as_secs()),
            Cut::Stopped => "the instance was stopped".to_owned(),
            Cut::Cancelled => "the operator ended the agent and its runs".to_owned(),
            Cut::TimedOut(why) => why,
            Cut::Exited(exit) => {
                self.record.service.exit = Some(exit.clone());
                self.record.service.ended_early = true;
                format!("the service ended by itself: {exit}")
            }
            Cut::Unhealthy(why) | Cut::OverQuota(why) => why,
        };
        self.close_stage(outcome);
        // Its last words are worth a moment.
        if let Some(attached) = &mut self.attached
            && self.record.service.ended_early
        {
            attached.settle(Duration::from_secs(5)).await;
        }
        FailureRecord { stage, reason, last_lines: self.last_lines(), kind, retryable, ending, evidence }
    }

    /// Looks up what can have led to a cut. Who stops a run has said why, and does not wait for a driver.
    async fn evidence(&self, stage: Stage, cut: &Cut) -> Evidence {
        if matches!(cut, Cut::Stopped | Cut::Cancelled) || stage < Stage::Create {
            return Evidence::default();
        }
        let evidence = Evidence::gather(
            &self.service,
            &self.record.accelerators,
            &self.shared.env.accelerators,
            &self.dir.path,
            &self.record.boot_id,
        )
        .await;
        match cut {
            Cut::Exited(exit) => evidence.with_exit(exit),
            _ => evidence,
        }
    }

    fn ending(&self, stage: Stage, cut: &Cut, evidence: &Evidence) -> Ending {
        let how = match cut {
            Cut::Stopped | Cut::Cancelled => How::Cancelled,
            // The limit of this stage only stands behind the number of its checks.
            Cut::Limit(_) if stage == Stage::Health => How::Failed(stage, Some(Ending::NeverReady)),
            Cut::Limit(_) | Cut::TimedOut(_) => How::TimeLimit,
            Cut::Exited(exit) => How::Exited(exit),
            Cut::Unhealthy(_) => How::HealthLost,
            Cut::OverQuota(_) => How::Failed(stage, Some(Ending::DiskFull)),
            Cut::Fault(fault) => How::Failed(stage, fault.ending),
        };
        classify(how, &evidence.found(self.record.was_ready()))
    }

    /// What stands against calling a run a success although its load is done: a service that is no longer there, or that was
    /// not whole while it was measured.
    pub(super) async fn harm(&self) -> Option<Cut> {
        let service = Arc::clone(&self.service);
        match tokio::time::timeout(FIND_LIMIT, service.find()).await {
            Ok(Ok(Found::Running)) => {}
            Ok(Ok(Found::Ended(exit))) => return Some(Cut::Exited(exit)),
            Ok(Ok(Found::Nothing | Found::Made)) => {
                let fault = Fault::new(format!("{} is not there any more", self.service.words()));
                return Some(Cut::Fault(fault.ends(Ending::Unknown)));
            }
            // That nobody answers is no verdict on the service; teardown says it if it lasts.
            Ok(Err(_)) | Err(_) => {}
        }
        if let Some(oom) = service.oom().await.filter(Oom::happened) {
            let kills = oom.kills.map(|kills| format!(" ({kills})")).unwrap_or_default();
            return Some(Cut::Fault(
                Fault::new(format!(
                    "the kernel killed processes of the service{kills} for want of memory while it was tested, so the figures are \
                     not those of a whole service; give it more memory (resources.memory)"
                ))
                .ends(Ending::OomChild),
            ));
        }
        let lost = lost_cards(&self.record.accelerators, &self.shared.env.accelerators).await;
        (!lost.is_empty()).then(|| {
            let text = format!("the load was done, but the run lost its accelerators: {}", lost.join(", "));
            Cut::Fault(Fault::new(text).ends(Ending::DeviceLost))
        })
    }

    fn last_lines(&self) -> Vec<String> {
        let text = testrig_host::tail::last_bytes(&self.dir.service_log, 0, LAST_BYTES);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect()
    }

    pub(super) async fn pull(&mut self) -> Result<(), FailureRecord> {
        let (service, say) = (Arc::clone(&self.service), Arc::clone(&self.say));
        self.stage(Stage::Pull, PULL_LIMIT, async move { service.pull(say).await }).await?;
        self.note_details();
        Ok(())
    }

    pub(super) async fn create(&mut self) -> Result<(), FailureRecord> {
        self.record.service.create_asked = true;
        let (service, say) = (Arc::clone(&self.service), Arc::clone(&self.say));
        let setup = self.script("setup", self.plan.setup_script.clone(), self.dir.setup_log.clone());
        let (script, runner) = (setup, begin::runner(&self.shared.env));
        let limit = CREATE_LIMIT + script.as_ref().map_or(Duration::ZERO, |script| script.limit);
        let body = async move {
            if let Some(script) = script {
                let words = script.process.words();
                let outcome = runner
                    .map_err(Fault::new)?
                    .run_script(script, std::future::pending())
                    .await
                    .map_err(|error| Fault::of(&error))?;
                if outcome.timed_out || !outcome.exit.success() {
                    let why = if outcome.timed_out { "not done in time".to_owned() } else { outcome.exit.to_string() };
                    return Err(Fault::new(format!(
                        "env.setupScript `{words}` failed: {why}; its last lines: {}",
                        outcome.output_tail.trim()
                    )));
                }
            }
            service.create(say).await
        };
        self.stage(Stage::Create, limit, body).await?;
        self.note_details();
        Ok(())
    }

    pub(super) async fn start(&mut self) -> Result<(), FailureRecord> {
        self.record.service.start_asked = true;
        let service = Arc::clone(&self.service);
        self.stage(Stage::Start, START_LIMIT, async move { service.start().await }).await?;
        self.record.startup = Startup { started_at_ms: Some(now_ms()), ..Startup::default() };
        self.note_details();
        self.attach();
        let held = self.service.held_by().map(|held| format!("; its boundary: {held}")).unwrap_or_default();
        self.ctx.log.info(format!("{} was started{held}", self.service.words()));
        Ok(())
    }

    /// A script on the host with the run's environment.
    pub(super) fn script(
        &self,
        part: &str,
        path: Option<std::path::PathBuf>,
        output: std::path::PathBuf,
    ) -> Option<ScriptSpec> {
        let path = path?;
        let boundary = self.record.service.boundary.as_ref()?.part(part).ok()?;
        let launch = super::launch::of(&self.ctx, &self.plan, &self.dir, boundary.clone()).0;
        let mut process = ProcessSpec::new(boundary, path, output);
        process.env = launch.env;
        process.env.extend(self.card_env());
        process.work_dir = Some(self.dir.path.clone());
        Some(ScriptSpec { process, limit: SCRIPT_LIMIT, grace: Duration::from_secs(5), keep: 2000 })
    }

    pub(super) async fn health(&mut self) -> Result<(), FailureRecord> {
        let load = &self.plan.load;
        let started = self.service_started.unwrap_or_else(Instant::now);
        let checker = Arc::new(Checker {
            plan: self.plan.health.clone(),
            service: Arc::clone(&self.service),
            http: self.shared.env.http.clone(),
            say: Arc::clone(&self.say),
            history: Arc::clone(&self.probes),
            token: TokenRequest {
                // A scenario of a script's own says nothing of the API.
                scenario: load.scenario.parse().unwrap_or(Scenario::ChatCompletion),
                model: load.model.clone(),
                api_key: load.api_key.clone(),
            },
            started,
        });
        let waiting = Arc::clone(&checker);
        let state = HealthState::new(self.plan.health.clone());
        let body = async move {
            let mut state = state;
            let ready = waiting.wait_ready(&mut state).await?;
            Ok((state, ready))
        };
        let (state, ready) = self.stage(Stage::Health, checker.limit(), body).await?;
        if self.plan.health.kind == HealthKind::None {
            self.ctx.log.info("no health check (healthCheck.type NONE): a started service counts as ready");
        } else {
            self.ctx.log.info(format!("the service is ready after {} health checks", ready.checks));
        }
        self.record.startup.ready_ms.get_or_insert(millis(started.elapsed()));
        self.note_first_token(ready.first_token);
        let unhealthy = self.unhealthy.clone();
        let inside = self.inside.clone();
        if let Some(attached) = &mut self.attached {
            if let Some(inside) = inside {
                attached.watch_inside(inside, unhealthy.clone());
            }
            attached.watch_health(checker, state, unhealthy);
        }
        Ok(())
    }

    /// The first one that is known of counts.
    pub(super) fn note_first_token(&mut self, after: Option<Duration>) {
        if let Some(after) = after {
            self.record.startup.first_token_ms.get_or_insert(millis(after));
        }
    }

    /// Takes over what an earlier process of the agent started. Before the start there is nothing to take over: what a cut
    /// `create` left is removed by the next one.
    pub(super) async fn take_over(&mut self, from: Stage) -> Result<Have, FailureRecord> {
        if from < Stage::Start {
            return Ok(Have::Nothing);
        }
        self.tell_cards();
        let service = Arc::clone(&self.service);
        let found = self.interrupts.guard(FIND_LIMIT, async move { service.find().await }).await;
        let found = match found {
            Ok(found) => found,
            Err(cut) => return Err(self.failure(from, cut).await),
        };
        self.note_details();
        match found {
            Found::Running => {
                self.ctx.log.info(format!("{} runs and was taken over", self.service.words()));
                self.attach();
                Ok(Have::Running)
            }
            // The start was stored but not done: it is done now.
            Found::Nothing | Found::Made if from == Stage::Start => Ok(Have::Nothing),
            Found::Ended(exit) => {
                self.ctx.log.warn(format!("{} ended while the agent was away: {exit}", self.service.words()));
                self.attach();
                let cut = Cut::Exited(exit);
                Err(self.failure(from, cut).await)
            }
            Found::Nothing | Found::Made => {
                let reason = format!(
                    "the agent was restarted in this stage and {} is not there any more: the service and what it had not written \
                     yet are lost, the records of the load up to then are kept",
                    self.service.words()
                );
                Err(self.failure(from, Cut::Fault(Fault::new(reason).ends(Ending::Unknown))).await)
            }
        }
    }

    /// As [`Run::take_over`], where only the end is left to be done.
    pub(super) async fn take_over_for_teardown(&mut self) -> Result<(), FailureRecord> {
        if !self.record.service.start_asked {
            return Ok(());
        }
        let service = Arc::clone(&self.service);
        match tokio::time::timeout(FIND_LIMIT, service.find()).await {
            Ok(Ok(Found::Running | Found::Ended(_))) => {
                self.note_details();
                self.attach();
                Ok(())
            }
            // Removed already, before the kill.
            Ok(Ok(Found::Nothing | Found::Made)) => Ok(()),
            // Teardown tries again and says what it finds.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    fn attach(&mut self) {
        // After a restart only the wall clock knows how long ago it was.
        let gone = self.record.startup.started_at_ms.and_then(|at| u64::try_from(now_ms() - at).ok()).unwrap_or(0);
        let now = Instant::now();
        self.service_started = Some(now.checked_sub(Duration::from_millis(gone)).unwrap_or(now));
        let journal = Arc::clone(self.ctx.log.journal());
        let mut attached = Attached::new(
            Arc::clone(&self.service),
            journal,
            self.dir.service_log.clone(),
            MAX_LINE,
            self.exited.clone(),
            Arc::clone(&self.say),
        );
        if let Some(every) = self.plan.monitor.sample_every {
            attached.sample(self.monitor(every));
        }
        if let Some(most) = self.shared.env.disk.run_max_bytes {
            attached.watch_room(self.dir.path.clone(), most, self.over_quota.clone());
        }
        self.attached = Some(attached);
    }

    pub(super) fn note_details(&mut self) {
        let details = self.service.details();
        let record = &mut self.record.service;
        record.name = details.name.or(record.name.take());
        record.container_id = details.container_id.or(record.container_id.take());
        record.image_id = details.image_id.or(record.image_id.take());
        record.pid = details.pid.or(record.pid);
        record.address = details.address.map(|address| address.to_string()).or(record.address.take());
        record.host_port = details.host_port.or(record.host_port);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
