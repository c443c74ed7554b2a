//! Waiting for the end of a container, through outages of the engine.

use std::time::Duration;

use bollard::query_parameters::WaitContainerOptions;
use futures_util::StreamExt;

use super::client::Docker;
use super::container::short;
use super::error::DockerError;
use super::state::ContainerPhase;
use crate::ExitStatus;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A wait whose connection died without a word is noticed by looking again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Told while waiting, so that a run's log can say why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineNotice {
    /// The engine does not answer; the container's state is unknown.
    Lost(String),
    /// It answers again.
    Back,
}

impl Docker {
    /// Returns when the container has ended, with what its inspection says.
    ///
    /// A broken connection or an absent engine is no verdict: the container is inspected again until somebody answers, for as
    /// long as the caller waits. `notice` hears of the begin and the end of each outage.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if the container is gone (somebody removed it), [`DockerError::Refused`] if the engine
    /// will not tell. Never [`DockerError::Unavailable`].
    pub async fn wait(&self, id: &str, mut notice: impl FnMut(EngineNotice) + Send) -> Result<ExitStatus, DockerError> {
        let mut lost = false;
        let mut pause = FIRST_PAUSE;
        loop {
            let phase = match self.inspect(id).await {
                Ok(info) => {
                    if lost {
                        notice(EngineNotice::Back);
                    }
                    lost = false;
                    if info.phase == ContainerPhase::Exited {
                        return Ok(info.exit.unwrap_or_default());
                    }
                    info.phase
                }
                Err(error) if error.is_unavailable() => {
                    if !lost {
                        notice(EngineNotice::Lost(error.to_string()));
                    }
                    lost = true;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            // The engine answers a wait for a container that was not started yet at once.
            if phase == ContainerPhase::Running && self.engine_wait(id).await {
                pause = FIRST_PAUSE;
            } else {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        }
    }

    /// Whether the engine's own wait said that there is something to see. Its code is not used: only the inspection also
    /// tells about memory and errors.
    async fn engine_wait(&self, id: &str) -> bool {
        let Ok(client) = self.client(&format!("wait for container `{}`", short(id))) else {
            return false;
        };
        let options = WaitContainerOptions { condition: "not-running".to_owned() };
        let mut answers = client.wait_container(id, Some(options));
        match tokio::time::timeout(LOOK_AGAIN, answers.next()).await {
            Ok(answer) => matches!(answer, Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }))),
            Err(_) => true,
        }
    }
}
