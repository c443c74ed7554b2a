//! Leases that no run looks after any more: of runs that ended while their cards could not be given back, and of services that
//! were left running on purpose and have ended since.

use std::collections::BTreeSet;

use testrig_host::{
    BoundaryId, LABEL_BOUNDARY,
    accelerators::Released,
    docker::{ContainerPhase, DockerError},
};
use testrig_store::Store;

use super::{
    run::{docker, runner},
    service::chain,
    state::{Runs, Stage},
};
use crate::Environment;

/// Gives back the cards of runs that are over and whose boundaries are empty; each in words.
///
/// # Errors
/// The store, the engine or the driver cannot be asked. Nothing is given back on a doubt.
pub async fn free_forgotten_leases(env: &Environment, store: &Store) -> Result<Vec<String>, String> {
    // Mostly there is nothing to ask about.
    let none = BTreeSet::new();
    if env.accelerators.forgotten(&none).await.map_err(|error| error.to_string())?.is_empty() {
        return Ok(Vec::new());
    }
    let runs = Runs::new(store.clone());
    let open: BTreeSet<BoundaryId> = runs.open_boundaries().await.map_err(|error| chain(&error))?;
    let mut freed = Vec::new();
    for boundary in env.accelerators.forgotten(&open).await.map_err(|error| error.to_string())? {
        if !is_empty(env, &runs, &boundary).await? {
            continue;
        }
        match env.accelerators.release(&boundary).await.map_err(|error| error.to_string())? {
            Released::Now => freed.push(format!("those of {boundary}")),
            Released::Later(why) => freed.push(format!("those of {boundary}, as soon as they are left: {why}")),
        }
    }
    Ok(freed)
}

/// Whether nothing runs in a boundary.
async fn is_empty(env: &Environment, runs: &Runs, boundary: &BoundaryId) -> Result<bool, String> {
    if let Some(process) = runner(env)?.adopt(boundary).await.map_err(|error| chain(&error))?
        && !process.members().await.map_err(|error| chain(&error))?.is_empty()
    {
        return Ok(false);
    }
    let was_process =
        runs.kind_of(boundary).await.map_err(|error| chain(&error))?.is_some_and(|kind| kind == "process");
    if was_process {
        return Ok(true);
    }
    let docker = docker(env)?;
    // Whoever made it: a local run beside the agent has an id of its own, and a doubt keeps the lease.
    match docker.find_by_label(LABEL_BOUNDARY, Some(boundary.as_str())).await {
        Ok(found) => Ok(!found.iter().any(|info| info.phase == ContainerPhase::Running)),
        Err(error @ DockerError::Unavailable { .. }) if !engine_may_be_there(docker.endpoint()) => {
            tracing::debug!(%error, "there is no engine, so there is no container");
            Ok(true)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// An engine whose socket does not even exist runs no container.
fn engine_may_be_there(endpoint: &str) -> bool {
    endpoint.strip_prefix("unix://").is_none_or(|socket| std::path::Path::new(socket).exists())
}

impl Runs {
    /// The boundaries of all runs that are at work.
    async fn open_boundaries(&self) -> Result<BTreeSet<BoundaryId>, testrig_store::StoreError> {
        let open = self.all().await?.into_iter().filter(|record| record.stage != Stage::Done);
        Ok(open.filter_map(|record| record.service.boundary).collect())
    }

    /// What the service of a boundary was, if its record is still there.
    async fn kind_of(&self, boundary: &BoundaryId) -> Result<Option<String>, testrig_store::StoreError> {
        let records = self.all().await?;
        let own = records.into_iter().find(|record| record.service.boundary.as_ref() == Some(boundary));
        Ok(own.map(|record| record.service.kind))
    }
}
