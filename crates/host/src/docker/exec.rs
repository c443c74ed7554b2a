//! Running a command in a running container, with a time limit.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;
use nix::libc::SIGKILL;
use tokio::io::AsyncWriteExt;

use super::client::{Docker, QUICK};
use super::container::short;
use super::error::DockerError;
use crate::process::proc::{self, Ident};

/// How long the engine may take to know the exit code after the output ended.
const CODE_LIMIT: Duration = Duration::from_secs(5);

/// What became of a command in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Exit code; absent when the time limit was reached first.
    pub code: Option<i64>,
    /// The last bytes of its output, both streams, as text.
    pub output: String,
    /// The limit was reached.
    pub timed_out: bool,
    /// It could not be ended at its limit and goes on until it ends by itself or with the container. The engine has no call
    /// for that: only an agent on the engine's own host that may signal the container's processes can do it.
    pub left_running: bool,
}

/// What a command in a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    /// Made ready and never started.
    Ready,
    /// At work.
    Running,
    /// Ended with this exit code.
    Ended(i64),
}

impl Docker {
    /// Runs `command` in the container, keeping the last `keep` bytes of its output.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if the container does not run.
    pub async fn exec(
        &self,
        id: &str,
        command: &[String],
        limit: Duration,
        keep: usize,
    ) -> Result<ExecOutcome, DockerError> {
        let doing = format!("run `{}` in container `{}`", command.join(" "), short(id));
        let exec = self.make_exec(&doing, id, command, &[]).await?;
        let mut output = Vec::new();
        let run = self.attached(&doing, &exec, keep, &mut output);
        let outcome = tokio::time::timeout(limit, run).await;
        let output = String::from_utf8_lossy(&output).into_owned();
        match outcome {
            Ok(code) => Ok(ExecOutcome { code: Some(code?), output, timed_out: false, left_running: false }),
            Err(_) => {
                let left_running = !self.end_exec(&doing, id, &exec).await;
                Ok(ExecOutcome { code: None, output, timed_out: true, left_running })
            }
        }
    }

    async fn make_exec(
        &self,
        doing: &str,
        id: &str,
        command: &[String],
        env: &[(String, String)],
    ) -> Result<String, DockerError> {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            env: Some(env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            ..CreateExecOptions::default()
        };
        Ok(self.call(doing, QUICK, async |d| d.create_exec(id, options).await).await?.id)
    }

    /// Makes a command ready in a running container, without running it: the caller stores the id first, to find the command
    /// again after a kill.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if the container does not run.
    pub async fn prepare_exec(
        &self,
        id: &str,
        command: &[String],
        env: &[(String, String)],
    ) -> Result<String, DockerError> {
        self.make_exec(&format!("make a command ready in container `{}`", short(id)), id, command, env).await
    }

    /// Runs what was made ready; its output goes into `output`. Returns when the output ends, which the command usually
    /// does at the same time: [`Docker::exec_state`] knows. Dropping this does not end the command.
    ///
    /// # Errors
    /// It cannot be started, the connection to the engine was lost, or the output cannot be written.
    pub async fn run_exec(&self, exec: &str, output: &mut tokio::fs::File) -> Result<(), DockerError> {
        let doing = "run a command in a container";
        let client = self.client(doing)?;
        let started = client.start_exec(exec, None::<StartExecOptions>).await.map_err(|e| self.fail(doing, e))?;
        let StartExecResults::Attached { output: mut stream, input: _input } = started else { return Ok(()) };
        while let Some(part) = stream.next().await {
            let part = part.map_err(|e| self.fail(doing, e))?;
            let written = async {
                output.write_all(part.as_ref()).await?;
                output.flush().await
            };
            written.await.map_err(|error| DockerError::NotDone {
                doing: doing.to_owned(),
                message: format!("its output cannot be written: {error}"),
            })?;
        }
        Ok(())
    }

    /// What became of a command that was made ready.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if the engine does not know it (any more), as after a restart of the engine.
    pub async fn exec_state(&self, exec: &str) -> Result<ExecState, DockerError> {
        let doing = "look at a command in a container";
        let state = self.call(doing, QUICK, async |d| d.inspect_exec(exec).await).await?;
        Ok(match (state.running, state.exit_code) {
            (Some(true), _) => ExecState::Running,
            (_, Some(code)) => ExecState::Ended(code),
            (_, None) if state.pid.is_some_and(|pid| pid > 0) => ExecState::Running,
            (_, None) => ExecState::Ready,
        })
    }

    /// Ends a command. False if something of it is left, which then ends with its container at the latest.
    pub async fn stop_exec(&self, id: &str, exec: &str) -> bool {
        self.end_exec("end a command in a container", id, exec).await
    }

    /// Kills what a command has become, so that checks that hang do not pile up in a container. True if nothing is left.
    async fn end_exec(&self, doing: &str, id: &str, exec: &str) -> bool {
        let deadline = tokio::time::Instant::now() + CODE_LIMIT;
        loop {
            let Ok(state) = self.call(doing, QUICK, async |d| d.inspect_exec(exec).await).await else {
                return false;
            };
            if state.running == Some(false) {
                return true;
            }
            let container = state.container_id.unwrap_or_else(|| id.to_owned());
            let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
            let killed = match pid {
                Some(pid) => tokio::task::spawn_blocking(move || kill_in_container(&container, pid)).await,
                None => return false,
            };
            if !killed.unwrap_or(false) || tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn attached(&self, doing: &str, exec: &str, keep: usize, output: &mut Vec<u8>) -> Result<i64, DockerError> {
        let client = self.client(doing)?;
        let started = client.start_exec(exec, None::<StartExecOptions>).await.map_err(|e| self.fail(doing, e))?;
        if let StartExecResults::Attached { output: mut stream, input: _input } = started {
            while let Some(part) = stream.next().await {
                keep_tail(output, part.map_err(|e| self.fail(doing, e))?.as_ref(), keep);
            }
        }
        // The stream may end a moment before the engine has the code.
        let deadline = tokio::time::Instant::now() + CODE_LIMIT;
        loop {
            let state = self.call(doing, QUICK, async |d| d.inspect_exec(exec).await).await?;
            match state.exit_code {
                Some(code) if state.running != Some(true) => return Ok(code),
                _ if tokio::time::Instant::now() >= deadline => {
                    return Err(DockerError::NotDone {
                        doing: doing.to_owned(),
                        message: "its output ended but the engine has no exit code".to_owned(),
                    });
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// Kills a process and its descendants, each only if its cgroup is that of the container: the pid is the engine's word, and
/// the engine may be on another host.
fn kill_in_container(container: &str, pid: i32) -> bool {
    let is_inside = |pid: i32| {
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroups.contains(container)
    };
    let (Some(top), Ok(all)) = (Ident::of(pid), proc::all()) else {
        return false;
    };
    if container.len() < 64 || !is_inside(pid) {
        return false;
    }
    let below = proc::descendants(&all, top);
    let targets = all.iter().map(|stat| stat.ident).filter(|ident| below.contains(&ident.pid)).chain([top]);
    // The top last: its children must still be its children when they are looked for.
    targets.fold(true, |done, ident| done & (!is_inside(ident.pid) || ident.signal(SIGKILL).is_ok()))
}

fn keep_tail(kept: &mut Vec<u8>, part: &[u8], limit: usize) {
    kept.extend_from_slice(part);
    if kept.len() > limit {
        kept.drain(..kept.len() - limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_kept_not_its_beginning() {
        let mut kept = Vec::new();
        for part in ["one ", "two ", "three"] {
            keep_tail(&mut kept, part.as_bytes(), 7);
        }
        assert_eq!(kept, b"o three");
    }
}
