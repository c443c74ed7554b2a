//! The stage `load` where a command in the service's container tests the service.
//!
//! The engine's id of the command is stored before it runs. After a kill of the agent the command goes on by itself; its
//! end is waited for, and only what it wrote in between is lost, because the engine gives an output to nobody twice.

use std::{sync::Arc, time::Duration};

use testrig_host::{
    ExitStatus,
    docker::{Docker, DockerError, ExecState},
};
use testrig_loadgen::Arrival;

use super::{
    super::{
        interrupt::Cut,
        plan::Target,
        service::{Fault, fill},
        state::{FailureRecord, Stage},
    },
    Run, facts,
    facts::Place,
    now_ms,
    scripted::{Follow, truer},
};
use crate::params::mask;

/// How often a command is asked for whose output nobody reads.
const LOOK: Duration = Duration::from_millis(300);
/// How long the engine may be away while a command is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

impl Run {
    pub(super) async fn by_command(&mut self, command: &[String]) -> Result<(), FailureRecord> {
        let stage = Stage::Load;
        let share = self.enter_load().await?;
        let begun = self.begin_command(command, share.arrival).await;
        let (docker, container, exec, cut_before) = match begun {
            Ok(begun) => begun,
            Err(fault) => return Err(self.failure(stage, Cut::Fault(fault)).await),
        };
        if cut_before {
            self.warn(
                "the agent was restarted while the test command was at work: what it wrote meanwhile is not in the log",
            );
        }
        let follow = Follow::new(Arc::clone(self.ctx.log.journal()), self.dir.requests.clone());
        let mut interrupts = self.interrupts.clone();
        let file = self.dir.requests.clone();
        let say = Arc::clone(&self.say);
        let work = async {
            if !cut_before {
                let mut output = tokio::fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&file)
                    .await
                    .map_err(|error| Fault::new(format!("failed to write `{}`: {error}", file.display())))?;
                if let Err(error) = docker.run_exec(&exec, &mut output).await {
                    // One that never ran has nothing to be waited for.
                    if !matches!(docker.exec_state(&exec).await, Ok(ExecState::Running | ExecState::Ended(_))) {
                        return Err(Fault::of(&error));
                    }
                    say(format!("the output of the test command is lost from here on: {error}"));
                }
            }
            ended(&docker, &exec).await
        };
        let done = tokio::select! {
            // A test that is done is done, whatever happens at the same moment.
            biased;
            exit = work => exit.map_err(Cut::Fault),
            cut = interrupts.next() => Err(cut),
        };
        let done = truer(done, &mut interrupts).await;
        if done.is_err() && !docker.stop_exec(&container, &exec).await {
            self.ctx.log.info("the test command could not be ended by itself and ends with its container");
        }
        drop(share);
        if !follow.finish().await {
            self.warn("the last output of the test command may be missing in the log: it could not be read in time");
        }
        self.record.load_ended_ms = Some(now_ms());
        let shown = mask::command(command).join(" ");
        match done {
            Ok(exit) => self.judge(&format!("the test command `{shown}`"), &exit).await,
            Err(cut) => {
                let _ = self.take_figures().await;
                Err(self.failure(stage, cut).await)
            }
        }
    }

    /// The command, ready to run or found at work (true) as an earlier process of the agent left it.
    async fn begin_command(
        &mut self,
        command: &[String],
        arrival: Arrival,
    ) -> Result<(Docker, String, String, bool), Fault> {
        let Some((docker, container)) = self.service.container() else {
            return Err(Fault::new("there is no container to run the test command in"));
        };
        if let Some(exec) = self.record.test_exec.clone() {
            match docker.exec_state(&exec).await {
                Ok(ExecState::Running | ExecState::Ended(_)) => {
                    self.ctx.log.info("the test command was taken over where it is");
                    return Ok((docker, container, exec, true));
                }
                Ok(ExecState::Ready) => return Ok((docker, container, exec, false)),
                Err(error) if error.is_not_found() => {
                    return Err(Fault::new(
                        "the agent was restarted, and the engine knows nothing any more of the test command that was at work: its result is lost",
                    ));
                }
                Err(error) => return Err(Fault::of(&error)),
            }
        }
        let port = self.plan.service_port.unwrap_or_default();
        let Target::Container(target) = &self.plan.target else {
            return Err(Fault::new("the service is no container"));
        };
        let place = Place {
            base_url: format!("http://127.0.0.1:{port}"),
            log_dir: target.log_dir.clone(),
            instance_id: self.ctx.instance_id,
            arrival,
        };
        let facts = facts::of(&self.plan, &self.dir, &place);
        let boundary = self.record.service.boundary.clone().ok_or_else(|| Fault::new("the run has no boundary"))?;
        let launch = super::launch::of(&self.ctx, &self.plan, &self.dir, boundary).0;
        let mut placeholders = facts::placeholders(&facts);
        placeholders.extend(launch.placeholders);
        let command: Vec<String> = command.iter().map(|word| fill(word, &placeholders)).collect();
        let mut env = facts::environment(&facts);
        env.extend(self.plan.load.api_key.clone().map(|key| ("API_KEY".to_owned(), key)));
        env.extend(launch.env);
        let shown = mask::command(&command).join(" ");
        self.ctx.log.info(format!("starting the test command in the container: {shown}"));
        let exec = docker.prepare_exec(&container, &command, &env).await.map_err(|error| Fault::of(&error))?;
        self.record.test_exec = Some(exec.clone());
        self.record.load = Some(self.as_asked("container", &shown, arrival));
        self.record.load_started_ms = Some(now_ms());
        self.save().await.map_err(|failure| Fault::new(failure.reason))?;
        Ok((docker, container, exec, false))
    }
}

/// Waits until the command has ended.
async fn ended(docker: &Docker, exec: &str) -> Result<ExitStatus, Fault> {
    let mut seen = tokio::time::Instant::now();
    loop {
        match docker.exec_state(exec).await {
            Ok(ExecState::Ended(code)) => return Ok(exit_of(code)),
            Ok(ExecState::Running | ExecState::Ready) => seen = tokio::time::Instant::now(),
            // No answer is no verdict.
            Err(error) if error.is_unavailable() && seen.elapsed() < PATIENCE => {}
            Err(error @ DockerError::NotFound { .. }) => {
                return Err(Fault::new(format!("the result of the test command is lost: {error}")));
            }
            Err(error) => return Err(Fault::of(&error)),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// As for containers: the engine says a death by signal as 128 + signal.
fn exit_of(code: i64) -> ExitStatus {
    let code = i32::try_from(code).ok();
    let signal = code.filter(|code| (129..=128 + 64).contains(code)).map(|code| code - 128);
    ExitStatus { code, signal, ..ExitStatus::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_command_is_never_a_success() {
        assert!(exit_of(0).success());
        assert_eq!(exit_of(137).to_string(), "killed by signal 9 (SIGKILL)");
        assert_eq!(exit_of(3).to_string(), "exit code 3");
    }
}
