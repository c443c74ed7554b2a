//! What is done with a service on the host: started, looked at, ended, by whatever holds it.

use std::{path::Path, time::Duration};

use powerjob_worker::TaskContext;
use testrig_host::{
    BoundaryId, ExitStatus, Signal,
    process::{ProcessError, ProcessHandle, ProcessRunner, ProcessSpec, ScriptSpec},
    tail::FileTail,
};

use super::{plan::Method, record::Record};
use crate::{Environment, params::mask};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(15);
/// Longest run of `docker compose` (which may pull) and of `systemctl`.
const TOOL_LIMIT: Duration = Duration::from_secs(1800);
/// Between two looks at a growing file.
const LOOK: Duration = Duration::from_millis(100);
/// What is kept of what a program said.
pub(super) const KEEP: usize = 64 * 1024;

/// What is there of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Something of it runs; what, in words, and its first process where that is known.
    Running(String, Option<i32>),
    /// It was there and has ended.
    Ended(String),
}

/// How a program that was to end did end.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub(super) exit: ExitStatus,
    pub(super) output: String,
}

/// Programs of one task.
pub(super) struct Host<'a> {
    pub(super) env: &'a Environment,
    pub(super) ctx: &'a TaskContext,
    runner: ProcessRunner,
}

impl<'a> Host<'a> {
    pub(super) fn new(env: &'a Environment, ctx: &'a TaskContext) -> Result<Self, String> {
        let dir = env.state_dir.join("services");
        let runner = ProcessRunner::new(&dir, env.shim_command()).map_err(|error| said(&error))?;
        Ok(Self { env, ctx, runner })
    }

    /// Starts the service's own process, or the script that starts it.
    pub(super) async fn spawn(&self, record: &Record, words: &[String]) -> Result<ProcessHandle, String> {
        let (program, args) = words.split_first().ok_or("there is no program to start")?;
        let mut spec = ProcessSpec::new(record.boundary.clone(), program, &record.log_file);
        spec.args = args.to_vec();
        spec.env = self.environment(record);
        let handle = self.runner.spawn(spec).await.map_err(|error| match error {
            ProcessError::NotStarted { detail, .. } => {
                format!("failed to start `{}`: {detail}", mask::command(words).join(" "))
            }
            other => said(&other),
        })?;
        self.ctx.log.info(format!("boundary of the service: {}", handle.boundary_kind()));
        Ok(handle)
    }

    /// The processes of a service that was started before.
    pub(super) async fn adopt(&self, record: &Record) -> Result<Option<ProcessHandle>, String> {
        self.runner.adopt(&record.boundary).await.map_err(|error| said(&error))
    }

    /// What is there of a service.
    pub(super) async fn look(&self, record: &Record) -> Result<Found, String> {
        match &record.method {
            Method::Script(_) | Method::Command(_) => {
                let Some(handle) = self.adopt(record).await? else {
                    return Ok(Found::Ended("nothing of it is left".into()));
                };
                let members = handle.members().await.map_err(|error| said(&error))?;
                let exit = handle.exit().map_err(|error| said(&error))?;
                Ok(match (members.as_slice(), exit) {
                    ([], Some(exit)) => Found::Ended(format!("it ended with {exit}")),
                    ([], None) => Found::Ended("nothing of it is left".into()),
                    (pids, _) => {
                        let main = handle.pid().filter(|pid| pids.contains(pid)).or(pids.first().copied());
                        Found::Running(format!("{} processes", pids.len()), main)
                    }
                })
            }
            Method::Compose { .. } => {
                let ran = self.compose(record, &["ps", "--quiet"]).await?;
                let containers = ran.output.lines().filter(|line| !line.trim().is_empty()).count();
                Ok(match (ran.exit.success(), containers) {
                    (true, 1..) => Found::Running(format!("{containers} containers"), None),
                    (true, 0) => Found::Ended("the project has no container that runs".into()),
                    (false, _) => return Err(failed("docker compose ps", &ran)),
                })
            }
            Method::Unit(unit) => {
                let ran = self.tool(record, &["systemctl", "is-active", unit]).await?;
                let state = ran.output.trim().to_owned();
                Ok(if ran.exit.success() { Found::Running(state, None) } else { Found::Ended(state) })
            }
        }
    }

    /// Ends a service and everything of it.
    pub(super) async fn end(&self, record: &Record) -> Result<(), String> {
        match &record.method {
            Method::Script(_) | Method::Command(_) => {
                let Some(handle) = self.adopt(record).await? else { return Ok(()) };
                handle.stop(Signal::TERM, GRACE).await.map_err(|error| said(&error))?;
                handle.forget().await.map_err(|error| said(&error))
            }
            Method::Compose { .. } => {
                let ran = self.compose(record, &["down"]).await?;
                if ran.exit.success() { Ok(()) } else { Err(failed("docker compose down", &ran)) }
            }
            Method::Unit(unit) => {
                let ran = self.tool(record, &["systemctl", "stop", unit]).await?;
                if ran.exit.success() { Ok(()) } else { Err(failed("systemctl stop", &ran)) }
            }
        }
    }

    /// Starts what compose or systemd hold.
    pub(super) async fn bring_up(&self, record: &Record) -> Result<(), String> {
        let (what, ran) = match &record.method {
            Method::Compose { .. } => ("docker compose up", self.compose(record, &["up", "--detach"]).await?),
            Method::Unit(unit) => ("systemctl start", self.tool(record, &["systemctl", "start", unit]).await?),
            Method::Script(_) | Method::Command(_) => return Ok(()),
        };
        if ran.exit.success() { Ok(()) } else { Err(failed(what, &ran)) }
    }

    async fn compose(&self, record: &Record, args: &[&str]) -> Result<Ran, String> {
        let Method::Compose { file, project } = &record.method else { return Err("it is no compose service".into()) };
        let file = file.display().to_string();
        let common = ["--file", &file, "--project-name", project];
        let program: &[&str] = if self.works(record, &["docker", "compose", "version"]).await {
            &["docker", "compose"]
        } else if self.works(record, &["docker-compose", "version"]).await {
            &["docker-compose"]
        } else {
            return Err("neither `docker compose` nor `docker-compose` is on this host; install one of them".into());
        };
        self.tool(record, &[program, &common, args].concat()).await
    }

    async fn works(&self, record: &Record, words: &[&str]) -> bool {
        self.tool(record, words).await.is_ok_and(|ran| ran.exit.success())
    }

    /// Runs a program of the system to its end.
    async fn tool(&self, record: &Record, words: &[&str]) -> Result<Ran, String> {
        let boundary = record.boundary.part("tool").map_err(|error| error.to_string())?;
        let output = self.env.state_dir.join("services").join(format!("{}.out", boundary.as_str()));
        let mut process = ProcessSpec::new(boundary, words[0], &output);
        process.args = words[1..].iter().map(|&word| word.to_owned()).collect();
        process.env.extend(self.env.docker_endpoint.iter().map(|host| ("DOCKER_HOST".to_owned(), host.clone())));
        let spec = ScriptSpec { process, limit: TOOL_LIMIT, grace: GRACE, keep: KEEP };
        let outcome = self
            .runner
            .run_script(spec, async {
                let _ = self.ctx.stop.raised().await;
            })
            .await;
        let _ = std::fs::remove_file(&output);
        let outcome = outcome.map_err(|error| said(&error))?;
        if outcome.cancelled {
            return Err(format!("`{}` was ended, because the job was", words.join(" ")));
        }
        if outcome.timed_out {
            return Err(format!("`{}` did not end within {} s", words.join(" "), TOOL_LIMIT.as_secs()));
        }
        Ok(Ran { exit: outcome.exit, output: outcome.output_tail })
    }

    /// A command of the CMD health check.
    pub(super) async fn probe(
        &self,
        record: &Record,
        command: &[String],
        limit: Duration,
    ) -> Result<testrig_host::health::Probe, String> {
        let boundary: BoundaryId = record.boundary.part("health").map_err(|error| error.to_string())?;
        let output = self.env.state_dir.join("services").join(format!("{}.out", boundary.as_str()));
        let mut process = ProcessSpec::new(boundary, &command[0], &output);
        process.args = command[1..].to_vec();
        process.env = self.environment(record);
        let spec = ScriptSpec { process, limit, grace: Duration::from_millis(500), keep: 2000 };
        let probe = testrig_host::health::host_command(&self.runner, spec).await;
        let _ = std::fs::remove_file(&output);
        probe.map_err(|error| said(&error))
    }

    fn environment(&self, record: &Record) -> Vec<(String, String)> {
        let mut env = vec![
            ("INSTANCE_ID".to_owned(), self.ctx.instance_id.to_string()),
            ("JOB_PARAMS".to_owned(), self.ctx.job_params.clone().unwrap_or_default()),
            ("INSTANCE_PARAMS".to_owned(), self.ctx.instance_params.clone().unwrap_or_default()),
            ("MODEL_NAME".to_owned(), record.model.clone()),
        ];
        let path = Some(record.path.clone()).filter(|path| !path.is_empty());
        env.extend(path.map(|path| ("MODEL_PATH".to_owned(), path)));
        env.extend(record.port.map(|port| ("SERVICE_PORT".to_owned(), port.to_string())));
        env.extend(record.trace.iter().map(|id| ("TRACE_ID".to_owned(), id.clone())));
        env.extend(record.env.iter().map(|name| ("ENV".to_owned(), name.clone())));
        env
    }
}

/// Copies a growing file into the instance's log while something happens, and the rest once that is over.
pub(super) async fn follow_while<T>(ctx: &TaskContext, file: &Path, what: impl Future<Output = T>) -> T {
    let mut tail = FileTail::new(file, 0);
    tokio::pin!(what);
    let result = loop {
        copy(ctx, tail.lines(1 << 20).unwrap_or_default());
        tokio::select! {
            biased;
            result = &mut what => break result,
            () = tokio::time::sleep(LOOK) => {}
        }
    };
    copy(ctx, tail.finish().unwrap_or_default());
    result
}

fn copy(ctx: &TaskContext, lines: Vec<testrig_host::tail::FileLine>) {
    for line in lines {
        ctx.log.log(testrig_joblog::Level::Info, "service", &String::from_utf8_lossy(&line.bytes));
    }
}

/// An error with its causes.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

fn failed(what: &str, ran: &Ran) -> String {
    let said = ran.output.trim();
    format!("`{what}` ended with {}{}{said}", ran.exit, if said.is_empty() { "" } else { ": " })
}
