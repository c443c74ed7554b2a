//! The stage `plan`: parameters, log directory, and what an earlier process of the agent left.

use std::sync::Arc;

use powerjob_worker::TaskContext;
use testrig_host::{BoundaryId, LABEL_AGENT, LABEL_INSTANCE, Signal, docker::Docker, process::ProcessRunner};
use tokio::{sync::watch, time::Instant};

use super::{
    super::{
        dir::{RunDir, day_of},
        disk,
        ending::Ending,
        interrupt::Interrupts,
        plan::{self, Plan, Target, TrackMode},
        service::{ContainerService, ProcessService, ReusedService, Say, Service, chain},
        state::{OutcomeRecord, RunRecord, Stage, StageRecord},
        table::TABLE,
    },
    Run, Shared, launch, left_of, now_ms, refuse, refused,
};
use crate::{
    Environment, input_of,
    params::{Params, Problems, mask},
    platform_log,
};
use powerjob_worker::ProcessResult;

/// What a call of the processor begins with.
pub(super) enum Begun {
    /// The run had ended; only the worker had not stored its outcome.
    Finished(Box<(OutcomeRecord, TaskContext)>),
    /// A run to be brought to its end, from this stage on.
    Run(Box<Run>, Stage),
}

pub(super) async fn begin(shared: Arc<Shared>, ctx: TaskContext) -> Result<Begun, Box<ProcessResult>> {
    let stored = match shared.runs.load(ctx.instance_id).await {
        Ok(stored) => stored,
        Err(error) => {
            let text = format!("stage plan failed: the state of the run cannot be read: {}", chain(&error));
            return Err(refuse(&ctx, &text, of_host(&error), true));
        }
    };
    let cut = stored.clone().filter(|record| ctx.resumed && record.attempt == ctx.attempt);
    if let Some(outcome) = cut.as_ref().and_then(|record| record.outcome.clone()) {
        return Ok(Begun::Finished(Box::new((outcome, ctx))));
    }
    let (began_ms, began) = (now_ms(), Instant::now());
    if cut.as_ref().is_none_or(|record| record.stage == Stage::Plan) {
        ctx.log.info("stage plan: begins");
        super::hold::in_stage(Stage::Plan).await;
    }
    let agent = match shared.runs.agent_id().await {
        Ok(agent) => agent,
        Err(error) => {
            let text = format!("stage plan failed: the agent's id cannot be read: {}", chain(&error));
            return Err(refuse(&ctx, &text, of_host(&error), true));
        }
    };
    if let Some(left) = stored.as_ref().filter(|record| cut.is_none() && record.stage != Stage::Done) {
        sweep(&shared.env, &ctx, left, &agent).await;
    }
    let mut params = platform_log::read(&shared.env, &TABLE, &input_of(&ctx));
    let plan = match plan(&shared.env, &ctx, cut.as_ref(), &mut params).await {
        Ok(plan) => plan,
        Err(problems) => {
            let ending = if problems.only_denials() { Ending::Refused } else { Ending::BadParameters };
            match &cut {
                // It has a directory of its own.
                Some(left) => sweep(&shared.env, &ctx, left, &agent).await,
                None => refused::leave_result(&shared.env, &shared.runs, &ctx, &params, (&problems, ending)).await,
            }
            return Err(refuse(&ctx, &format!("stage plan failed: {problems}"), ending, false));
        }
    };
    let (plan, warnings) = plan;
    let mut record = cut.clone().unwrap_or_else(|| fresh(&ctx, &plan));
    let from = record.stage;
    let dir = RunDir::of(&plan, ctx.instance_id, &record.date);
    if cut.is_none() {
        record.warnings = warnings;
        match shared.runs.other_user_of(&dir.path, ctx.instance_id).await {
            Ok(None) => {}
            Ok(Some(other)) => {
                let text = format!(
                    "stage plan failed: the log directory `{}` is in use by instance {other}, which is at work; give another logDirSuffix",
                    dir.path.display()
                );
                return Err(refuse(&ctx, &text, Ending::Refused, true));
            }
            Err(error) => {
                let text = format!("stage plan failed: {}", chain(&error));
                return Err(refuse(&ctx, &text, of_host(&error), true));
            }
        }
        if let Err(message) = disk::room(&shared.env, &dir.path) {
            return Err(refuse(&ctx, &format!("stage plan failed: {message}"), Ending::DiskFull, true));
        }
        record.log_dir = Some(dir.path.clone());
    } else {
        record.restarts += 1;
        for stage in record.stages.iter_mut().filter(|stage| stage.duration_ms.is_none()) {
            stage.outcome = "cut".into();
        }
        ctx.log.warn(format!("the agent was restarted while this run was in stage {}; going on with it", from.name()));
    }
    let service = match service(&shared, &ctx, &plan, &dir, &mut record, agent) {
        Ok(service) => service,
        Err(message) => {
            return Err(refuse(&ctx, &format!("stage plan failed: {message}"), Ending::NotStarted, true));
        }
    };
    // Before the directory: what is there from now on belongs to a run that is known.
    if let Err(error) = shared.runs.save(ctx.instance_id, &record, now_ms()).await {
        let text = format!("stage plan failed: failed to store the state of the run: {}", chain(&error));
        return Err(refuse(&ctx, &text, of_host(&error), true));
    }
    let _ = shared.runs.sweep(now_ms()).await;
    if from == Stage::Plan {
        match dir.create(ctx.instance_id, ctx.attempt) {
            Ok(None) => {}
            Ok(Some(aside)) => {
                let warning = format!(
                    "the log directory `{}` was there already and was set aside as `{}`",
                    dir.path.display(),
                    aside.file_name().unwrap_or_default().display()
                );
                ctx.log.warn(&warning);
                record.warnings.push(warning);
                shared.runs.dir_moved(&dir.path, &aside).await;
            }
            Err(error) => {
                record.stage = Stage::Done;
                let _ = shared.runs.save(ctx.instance_id, &record, now_ms()).await;
                return Err(refuse(&ctx, &format!("stage plan failed: {error}"), of_host(&error), true));
            }
        }
        shared.runs.dir_made(&dir.path, ctx.instance_id).await;
        ctx.log.info(format!("log directory {}", dir.path.display()));
        record.stages.push(StageRecord::done(Stage::Plan, began_ms, began.elapsed()));
        ctx.log.info(format!("stage plan: done in {:.3} s", began.elapsed().as_secs_f64()));
    }
    let (exited, exited_seen) = watch::channel(None);
    let (unhealthy, unhealthy_seen) = watch::channel(None);
    let (over_quota, over_quota_seen) = watch::channel(None);
    let max_run = plan.monitor.max_run;
    let interrupts = Interrupts {
        stop: ctx.stop.clone(),
        deadline: max_run.map(|limit| Instant::now() + left_of(limit, record.started_at_ms)),
        max_run: max_run.unwrap_or_default(),
        exited: exited_seen,
        unhealthy: unhealthy_seen,
        over_quota: over_quota_seen,
    };
    let say: Say = {
        let log = ctx.log.clone();
        Arc::new(move |line| log.info(line))
    };
    let run = Run {
        shared,
        plan,
        dir,
        service,
        say,
        interrupts,
        exited,
        unhealthy,
        over_quota,
        attached: None,
        probes: Arc::new(parking_lot::Mutex::new(record.probes.clone())),
        service_started: None,
        inside: None,
        stage_began: Instant::now(),
        record,
        ctx,
    };
    Ok(Begun::Run(Box::new(run), from))
}

/// What a failure of the host's own before the start is.
fn of_host(error: &(dyn std::error::Error + 'static)) -> Ending {
    Ending::of_error(error).unwrap_or(Ending::NotStarted)
}

fn fresh(ctx: &TaskContext, plan: &Plan) -> RunRecord {
    let now = now_ms();
    let mut record = RunRecord::new(ctx.attempt, now);
    record.platform_task_id = plan.who.platform_task_id.clone();
    record.date = day_of(now);
    record.service.boundary = Some(BoundaryId::new(ctx.instance_id, ctx.attempt));
    record
}

/// Reads the parameters and says what they came to.
async fn plan(
    env: &Environment,
    ctx: &TaskContext,
    cut: Option<&RunRecord>,
    params: &mut Params,
) -> Result<(Plan, Vec<String>), Problems> {
    let known = cut.map(|record| record.service.kind.as_str()).and_then(|kind| match kind {
        "container" => Some(TrackMode::Container),
        "process" => Some(TrackMode::Process),
        "reuse" => Some(TrackMode::Reuse),
        _ => None,
    });
    let mode = match known.or_else(|| plan::track_mode(params)) {
        Some(mode) => mode,
        None => engine_or_process(env, ctx).await,
    };
    let built = Plan::build(params, env, mode, ctx.instance_id.unsigned_abs());
    let warnings = params.warnings();
    if cut.is_none() {
        warnings.iter().for_each(|warning| ctx.log.warn(warning));
        ctx.log.info(format!("parameters: {}", params.masked()));
    }
    built.map(|plan| (plan, warnings))
}

/// Without an engine a service that has a command is a host process.
async fn engine_or_process(env: &Environment, ctx: &TaskContext) -> TrackMode {
    match engine(env).await {
        Ok(()) => TrackMode::Container,
        Err(why) => {
            ctx.log.info(format!(
                "monitor.trackMode is PROCESS: service.command is given and there is no container engine ({why})"
            ));
            TrackMode::Process
        }
    }
}

/// Whether there is a container engine; else why not.
pub(in crate::run_llm_test) async fn engine(env: &Environment) -> Result<(), String> {
    docker(env)?.ping().await.map(drop).map_err(|error| error.to_string())
}

pub(in crate::run_llm_test) fn docker(env: &Environment) -> Result<Docker, String> {
    let endpoint = env
        .docker_endpoint
        .clone()
        .or_else(|| std::env::var("DOCKER_HOST").ok().filter(|endpoint| !endpoint.is_empty()))
        .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    Docker::connect(&endpoint).map_err(|error| error.to_string())
}

pub(in crate::run_llm_test) fn runner(env: &Environment) -> Result<ProcessRunner, String> {
    ProcessRunner::new(env.state_dir.join("boundaries"), env.shim_command()).map_err(|error| chain(&error))
}

fn service(
    shared: &Shared,
    ctx: &TaskContext,
    plan: &Plan,
    dir: &RunDir,
    record: &mut RunRecord,
    agent: String,
) -> Result<Arc<dyn Service>, String> {
    let boundary = record.service.boundary.clone().unwrap_or_else(|| BoundaryId::new(ctx.instance_id, ctx.attempt));
    let (mut launch, warning) = launch::of(ctx, plan, dir, boundary);
    launch.labels.push((LABEL_AGENT.to_owned(), agent));
    if let Some(warning) = warning
        && !record.warnings.contains(&warning)
    {
        ctx.log.warn(&warning);
        record.warnings.push(warning);
    }
    let service: Arc<dyn Service> = match &plan.target {
        Target::Container(container) => {
            let docker = docker(&shared.env)?;
            let (plan, runs) = (container.as_ref().clone(), shared.runs.clone());
            Arc::new(ContainerService::new(docker, plan, launch, runs, shared.env.pulls.clone()))
        }
        Target::Process(process) => Arc::new(ProcessService::new(runner(&shared.env)?, process, launch)),
        Target::Reuse(url) => Arc::new(ReusedService::new(url.clone())),
    };
    record.service.kind = service.kind().to_owned();
    record.service.name = service.details().name;
    Ok(service)
}

/// Empties what a run left that is not gone on with: an earlier attempt, or parameters that are no longer accepted.
async fn sweep(env: &Environment, ctx: &TaskContext, left: &RunRecord, agent: &str) {
    let Some(boundary) = &left.service.boundary else { return };
    let service = match left.service.kind.as_str() {
        "process" => sweep_process(env, boundary).await,
        "container" => sweep_containers(env, ctx.instance_id, agent).await,
        _ => Ok(0),
    };
    let parts = sweep_parts(env, boundary).await;
    match service.and_then(|ended| Ok(ended + parts?)) {
        Ok(ended) => {
            if ended > 0 {
                ctx.log.warn(format!(
                    "what an earlier attempt (boundary {boundary}, stage {}) had left running was ended",
                    left.stage.name()
                ));
            }
            // This attempt may want the same cards.
            if let Err(error) = env.accelerators.release(boundary).await {
                ctx.log.warn(format!("the accelerators of an earlier attempt could not be given back: {error}"));
            }
        }
        Err(error) => ctx.log.error(format!(
            "what an earlier attempt left (boundary {boundary}) could not be ended: {}",
            mask::text(&error)
        )),
    }
}

/// Ends the scripts and health check commands that a cut stage left running beside the service.
pub(super) async fn sweep_parts(env: &Environment, boundary: &BoundaryId) -> Result<usize, String> {
    let mut ended = 0;
    for part in ["setup", "health", super::scripted::PART] {
        if let Ok(part) = boundary.part(part) {
            ended += sweep_process(env, &part).await?;
        }
    }
    Ok(ended)
}

async fn sweep_process(env: &Environment, boundary: &BoundaryId) -> Result<usize, String> {
    let text = |error| chain(&error);
    let Some(handle) = runner(env)?.adopt(boundary).await.map_err(text)? else { return Ok(0) };
    handle.stop(Signal::TERM, std::time::Duration::from_secs(5)).await.map_err(text)?;
    handle.forget().await.map_err(text)?;
    Ok(1)
}

async fn sweep_containers(env: &Environment, instance_id: i64, agent: &str) -> Result<usize, String> {
    let docker = docker(env)?;
    let text = |error: testrig_host::docker::DockerError| error.to_string();
    let mut left = docker.find_by_label(LABEL_INSTANCE, Some(&instance_id.to_string())).await.map_err(text)?;
    left.retain(|info| info.label(LABEL_AGENT) == Some(agent));
    for container in &left {
        docker.remove(&container.id).await.map_err(text)?;
    }
    Ok(left.len())
}
