//! Making, starting, finding, stopping and removing containers.

use std::collections::HashMap;
use std::time::Duration;

use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, KillContainerOptions, ListContainersOptions,
    RemoveContainerOptions, StartContainerOptions,
};

use super::client::{Docker, QUICK, SLOW};
use super::error::DockerError;
use super::spec::ContainerSpec;
use super::state::{ContainerInfo, ContainerPhase};
use crate::{ExitStatus, Signal};

/// How often a container that was told to end is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a killed container may take to be gone before that is an error.
const KILL_LIMIT: Duration = Duration::from_secs(30);

impl Docker {
    /// Makes a container and gives its id.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if the name is taken: [`Docker::find_by_name`] says by whom, the caller decides.
    /// [`DockerError::NotFound`] if the image is not here.
    pub async fn create(&self, spec: &ContainerSpec) -> Result<String, DockerError> {
        let doing = format!("create container `{}` from image `{}`", spec.name, spec.image);
        let options = CreateContainerOptions { name: Some(spec.name.clone()), ..CreateContainerOptions::default() };
        let body = spec.body();
        let made = self.call(&doing, SLOW, async |d| d.create_container(Some(options), body).await).await?;
        Ok(made.id)
    }

    /// Starts a container; one that runs already is left as it is.
    ///
    /// # Errors
    /// [`DockerError::Refused`] with the engine's words, e.g. a busy port, an unknown runtime, a missing program.
    pub async fn start(&self, id: &str) -> Result<(), DockerError> {
        let doing = format!("start container `{}`", short(id));
        self.call(&doing, SLOW, async |d| d.start_container(id, None::<StartContainerOptions>).await).await
    }

    /// The container as it is now, by id or name.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if there is none.
    pub async fn inspect(&self, id: &str) -> Result<ContainerInfo, DockerError> {
        let doing = format!("inspect container `{}`", short(id));
        let raw =
            self.call(&doing, QUICK, async |d| d.inspect_container(id, None::<InspectContainerOptions>).await).await?;
        Ok(ContainerInfo::from_engine(raw))
    }

    /// The container of exactly this name, if there is one.
    ///
    /// # Errors
    /// All but [`DockerError::NotFound`].
    pub async fn find_by_name(&self, name: &str) -> Result<Option<ContainerInfo>, DockerError> {
        match self.inspect(name).await {
            // The engine also takes the beginning of an id for a name.
            Ok(info) => Ok(Some(info).filter(|info| info.name == name)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All containers, running or not, whose label has this value; `None` = any value.
    ///
    /// # Errors
    /// As every call.
    pub async fn find_by_label(&self, label: &str, value: Option<&str>) -> Result<Vec<ContainerInfo>, DockerError> {
        let filter = value.map_or_else(|| label.to_owned(), |value| format!("{label}={value}"));
        let doing = format!("list containers with label `{filter}`");
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![filter])])),
            ..ListContainersOptions::default()
        };
        let listed = self.call(&doing, QUICK, async |d| d.list_containers(Some(options)).await).await?;
        let mut found = Vec::with_capacity(listed.len());
        for id in listed.into_iter().filter_map(|c| c.id) {
            match self.inspect(&id).await {
                Ok(info) => found.push(info),
                // Removed between the list and the look.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Sends a signal to the container's main process. One that has ended or never ran is no error.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if there is no such container.
    pub async fn kill(&self, id: &str, signal: Signal) -> Result<(), DockerError> {
        let doing = format!("send {signal} to container `{}`", short(id));
        let options = KillContainerOptions { signal: signal.to_string() };
        match self.call(&doing, SLOW, async |d| d.kill_container(id, Some(options)).await).await {
            // "Container .. is not running"
            Err(DockerError::Conflict { .. }) => Ok(()),
            done => done,
        }
    }

    /// Sends `signal`, waits `grace`, then kills; returns when the container has ended and says how.
    ///
    /// A container that never ran counts as ended, with neither code nor signal. Processes that were started in the
    /// container by `exec` end with it, since its pid namespace does.
    ///
    /// # Errors
    /// [`DockerError::NotDone`] if it is still there long after the kill; [`DockerError::Unavailable`] if the engine went
    /// away meanwhile: ask again.
    pub async fn stop(&self, id: &str, signal: Signal, grace: Duration) -> Result<ExitStatus, DockerError> {
        if let Some(exit) = self.ended(id).await? {
            return Ok(exit);
        }
        if !grace.is_zero() && signal != Signal::KILL {
            self.kill(id, signal).await?;
            if let Some(exit) = self.ended_within(id, grace).await? {
                return Ok(exit);
            }
        }
        self.kill(id, Signal::KILL).await?;
        match self.ended_within(id, KILL_LIMIT).await? {
            Some(exit) => Ok(exit),
            None => Err(DockerError::NotDone {
                doing: format!("stop container `{}`", short(id)),
                message: format!("it still runs {} s after SIGKILL", KILL_LIMIT.as_secs()),
            }),
        }
    }

    /// Removes the container, killing what runs in it, with its anonymous volumes. One that is gone is no error.
    ///
    /// # Errors
    /// [`DockerError::NotDone`] if it is still listed afterwards.
    pub async fn remove(&self, id: &str) -> Result<(), DockerError> {
        let doing = format!("remove container `{}`", short(id));
        let deadline = tokio::time::Instant::now() + KILL_LIMIT;
        loop {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            match self.call(&doing, SLOW, async |d| d.remove_container(id, Some(options)).await).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => return Ok(()),
                // "removal of container .. is already in progress"
                Err(DockerError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
            match self.inspect(id).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
                Ok(info) if tokio::time::Instant::now() >= deadline => {
                    return Err(DockerError::NotDone {
                        doing,
                        message: format!("it is still there, {:?}", info.phase),
                    });
                }
                Ok(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn ended_within(&self, id: &str, limit: Duration) -> Result<Option<ExitStatus>, DockerError> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(exit) = self.ended(id).await? {
                return Ok(Some(exit));
            }
            let now = tokio::time::Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(LOOK.min(deadline - now)).await;
        }
    }

    async fn ended(&self, id: &str) -> Result<Option<ExitStatus>, DockerError> {
        let info = self.inspect(id).await?;
        Ok(match info.phase {
            ContainerPhase::Created | ContainerPhase::Removing => Some(ExitStatus::default()),
            ContainerPhase::Running => None,
            ContainerPhase::Exited => Some(info.exit.unwrap_or_default()),
        })
    }
}

/// Ids as people know them; names stay whole.
pub(super) fn short(id: &str) -> &str {
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { &id[..12] } else { id }
}
