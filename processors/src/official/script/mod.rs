//! Shell, Python and PowerShell scripts as host processes.
//!
//! A script lives in a boundary of its own and outlives the agent; a restarted agent reads on where it stopped. When the
//! script ends by itself, what it left in the background goes on. A stop and the time limit kill everything.
//!
//! `<state>/official_script_processor/` holds `boundaries/` and, for each run, a directory with the script file and its two
//! output files. The directory is removed at the end, before the boundary is forgotten: a boundary without a directory
//! has ended, a directory without a boundary was never started.

mod file;
mod interpreter;
mod output;
mod result;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext};
use testrig_host::{
    BoundaryId, ExitStatus, Signal,
    process::{ProcessError, ProcessHandle, ProcessRunner, ProcessSpec},
};

pub(super) use interpreter::Kind;

use self::{output::Output, result::Outcome};
use super::params;
use crate::{Environment, params::mask};

/// The folder in the state directory.
pub(super) const FOLDER: &str = "official_script_processor";
/// How long a script may take to end after SIGTERM before everything of it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How often its output is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Marks the directory of a run whose script left processes in the background.
const LEFT: &str = "left";

/// A script processor.
pub(super) struct Script {
    kind: Kind,
    env: Arc<Environment>,
}

/// Where one run's files and processes are.
struct Place {
    runner: ProcessRunner,
    boundary: BoundaryId,
    dir: PathBuf,
}

impl Script {
    pub(super) fn new(kind: Kind, env: Arc<Environment>) -> Self {
        Self { kind, env }
    }

    fn place(&self, ctx: &TaskContext) -> Result<Place, ProcessError> {
        let base = self.env.state_dir.join(FOLDER);
        let runner = ProcessRunner::new(base.join("boundaries"), self.env.shim_command())?;
        let boundary = boundary(ctx);
        let dir = base.join(boundary.as_str());
        Ok(Place { runner, boundary, dir })
    }

    /// The running script: started now, or found again after a restart of the agent.
    async fn begin(&self, ctx: &TaskContext, place: &Place) -> Result<ProcessHandle, ProcessResult> {
        let failed = |error: &ProcessError| ProcessResult::failed(format!("[SYSTEM] {error}"));
        let found = place.runner.adopt(&place.boundary).await.map_err(|error| failed(&error))?;
        match found {
            Some(handle) if ctx.resumed => {
                ctx.log.info("[SYSTEM] the agent was restarted; the script is taken up where it is");
                return Ok(handle);
            }
            // Of a dispatch with the same number that was forgotten on the way.
            Some(left) => {
                left.stop(Signal::KILL, Duration::ZERO).await.map_err(|error| failed(&error))?;
                left.forget().await.map_err(|error| failed(&error))?;
            }
            None if ctx.resumed && !place.dir.is_dir() => {
                return Err(ProcessResult::rejected(
                    "[SYSTEM] the agent was killed just before the script was started or just after it had ended; which of \
                     the two is not known, so it is not run again",
                ));
            }
            None => {}
        }
        let Some(text) = params::of(ctx) else {
            let text = "[SYSTEM] ScriptParams is null, please check jobParam configuration.";
            ctx.log.warn(text);
            return Err(ProcessResult::rejected(text));
        };
        let rejected = |text: String| {
            ctx.log.error(&text);
            ProcessResult::rejected(text)
        };
        let program = self.kind.find(&self.env).map_err(rejected)?;
        let name = self.kind.file_name(ctx.instance_id);
        let file = file::put(&self.env, ctx, &place.dir, &name, text).await?;
        ctx.log.info(format!("[SYSTEM] starting {} {}", program.display(), file.display()));
        let mut spec = ProcessSpec::new(place.boundary.clone(), program, place.dir.join(output::STDOUT));
        spec.stderr = Some(place.dir.join(output::STDERR));
        spec.args = self.kind.arguments(&file);
        place.runner.spawn(spec).await.map_err(|error| failed(&error))
    }

    async fn run(&self, ctx: &TaskContext) -> ProcessResult {
        let place = match self.place(ctx) {
            Ok(place) => place,
            Err(error) => return ProcessResult::failed(format!("[SYSTEM] {error}")),
        };
        sweep(&place).await;
        if !ctx.resumed {
            let text = params::of(ctx);
            params::tell(ctx, text);
        }
        let handle = match self.begin(ctx, &place).await {
            Ok(handle) => handle,
            Err(result) => {
                let _ = std::fs::remove_dir_all(&place.dir);
                return result;
            }
        };
        match self.follow(ctx, &place, &handle).await {
            Ok(result) => result,
            Err(error) => {
                ctx.log.error(format!("[SYSTEM] {error}"));
                ProcessResult::failed(format!("[SYSTEM] {error}"))
            }
        }
    }

    /// Reads the output until the script has ended or must end, then clears up.
    async fn follow(
        &self,
        ctx: &TaskContext,
        place: &Place,
        handle: &ProcessHandle,
    ) -> Result<ProcessResult, ProcessError> {
        let mut output = Output::new(&place.dir, ctx, self.env.official.charset);
        let ended = loop {
            tokio::select! {
                // The end first: a script that has ended by itself was not cut.
                biased;
                exit = handle.wait() => break Ok(exit?),
                reason = ctx.stop.raised() => break Err(reason),
                () = tokio::time::sleep(LOOK) => output.read(),
            }
        };
        let end = match ended {
            Ok(exit) => Outcome::Ended(exit),
            Err(reason) => {
                ctx.log.warn(format!("[SYSTEM] {}: the script and all that it started are ended", result::why(reason)));
                let report = handle.stop(Signal::TERM, GRACE).await?;
                Outcome::Cut(reason, report.exit)
            }
        };
        output.finish();
        let result = end.result(&output.texts());
        clear_up(ctx, place, handle, &end).await?;
        Ok(result)
    }
}

#[async_trait]
impl Processor for Script {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        self.run(&ctx).await
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Resume
    }
}

/// Removes the run's files and forgets its boundary; what a script left in the background keeps both until it has ended.
async fn clear_up(ctx: &TaskContext, place: &Place, handle: &ProcessHandle, end: &Outcome) -> Result<(), ProcessError> {
    let left = handle.members().await?;
    if !left.is_empty() && matches!(end, Outcome::Ended(ExitStatus { error: None, .. })) {
        let pids: Vec<String> = left.iter().map(i32::to_string).collect();
        ctx.log.info(format!(
            "[SYSTEM] the script has left {} process(es) in the background, which go on: {}; what they print from now on is \
             not read",
            pids.len(),
            pids.join(", ")
        ));
        if let Err(error) = std::fs::write(place.dir.join(LEFT), "") {
            ctx.log.warn(format!("[SYSTEM] the files of this run stay in {}: {error}", place.dir.display()));
        }
        return Ok(());
    }
    if !left.is_empty() {
        handle.stop(Signal::KILL, Duration::ZERO).await?;
    }
    if let Err(error) = std::fs::remove_dir_all(&place.dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        ctx.log.warn(format!("[SYSTEM] the files of this run stay in {}: {error}", place.dir.display()));
    }
    handle.forget().await
}

/// Clears up behind earlier scripts whose background processes have ended by now.
async fn sweep(place: &Place) {
    let Some(base) = place.dir.parent() else { return };
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let Some(boundary) = entry.file_name().to_str().and_then(|name| name.parse::<BoundaryId>().ok()) else {
            continue;
        };
        if boundary == place.boundary || !entry.path().join(LEFT).exists() {
            continue;
        }
        let gone = match place.runner.adopt(&boundary).await {
            Ok(Some(left)) => {
                left.members().await.is_ok_and(|members| members.is_empty()) && left.forget().await.is_ok()
            }
            Ok(None) => true,
            Err(_) => false,
        };
        if gone && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(dir = %entry.path().display(), %error, "files of a script that has ended stay");
        }
    }
}

/// The name of a run; tasks of one instance (BROADCAST, firings of FIXED_RATE) have their own.
fn boundary(ctx: &TaskContext) -> BoundaryId {
    let whole = BoundaryId::new(ctx.instance_id, ctx.attempt);
    match task_of(ctx) {
        None => whole,
        Some(task) => whole.part(&task).unwrap_or(whole),
    }
}

/// The task's id as part of a name; none where the task is the whole instance.
fn task_of(ctx: &TaskContext) -> Option<String> {
    let id = &ctx.task.id;
    (!id.contains('#')).then(|| id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect())
}

/// A script's address for the log.
fn shown(url: &str) -> String {
    mask::url(url)
}
