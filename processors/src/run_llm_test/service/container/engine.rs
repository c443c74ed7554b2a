//! Calls that change something, over an engine that may go away in the middle of each.
//!
//! A call whose answer did not come has happened or has not. So it is never simply repeated: what the engine has is looked up
//! first.

use std::time::Duration;

use testrig_host::{
    LABEL_AGENT, LABEL_BOUNDARY,
    docker::{ContainerPhase, ContainerSpec, Docker, DockerError},
};
use tokio::time::Instant;

/// How long a call goes on asking an engine that does not answer.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// Asks again for a while when the engine does not answer: that is no verdict on anything. Only for calls that change nothing, or
/// that may happen twice.
pub(super) async fn patient<T, F>(call: impl Fn() -> F + Send) -> Result<T, DockerError>
where
    F: Future<Output = Result<T, DockerError>> + Send,
{
    let begin = Instant::now();
    loop {
        match call().await {
            Err(error) if error.is_unavailable() && begin.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

/// Makes the container, once: after an outage one of the same boundary and agent is the one that was asked for.
pub(super) async fn make(docker: Docker, spec: ContainerSpec, agent: Option<String>) -> Result<String, DockerError> {
    let begin = Instant::now();
    let mut lost = false;
    loop {
        let error = match docker.create(&spec).await {
            Err(error) if begin.elapsed() >= PATIENCE => return Err(error),
            Err(error) if error.is_unavailable() => error,
            // The name is taken by the call that was lost, which is still at work.
            Err(error @ DockerError::Conflict { .. }) if lost => error,
            answer => return answer,
        };
        lost = true;
        tracing::info!(container = spec.name, %error, "the engine was lost while it made a container");
        tokio::time::sleep(PAUSE).await;
        let made = patient(|| docker.find_by_label(LABEL_BOUNDARY, Some(spec.boundary.as_str()))).await?;
        if let Some(made) = made.into_iter().find(|info| info.label(LABEL_AGENT) == agent.as_deref()) {
            return Ok(made.id);
        }
    }
}

/// Starts the container, once: after an outage one that runs, or has run, was started.
pub(super) async fn launch(docker: &Docker, id: &str) -> Result<(), DockerError> {
    let begin = Instant::now();
    loop {
        let error = match docker.start(id).await {
            Err(error) if error.is_unavailable() && begin.elapsed() < PATIENCE => error,
            answer => return answer,
        };
        tracing::info!(container = id, %error, "the engine was lost while it started a container");
        tokio::time::sleep(PAUSE).await;
        let info = patient(|| docker.inspect(id)).await?;
        let failed = info.exit.as_ref().is_some_and(|exit| exit.error.is_some());
        if info.phase != ContainerPhase::Created && !failed {
            return Ok(());
        }
    }
}
