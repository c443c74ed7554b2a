//! Removes what instances left that ended long ago: their journals, and the log directories of runs.

use std::{collections::HashSet, sync::Arc, time::Duration};

use powerjob_worker::WorkerHandle;
use testrig_host::accelerators::bytes_in_words;
use testrig_joblog::Journals;
use testrig_processors::{Environment, run_llm_test::remove_old_runs};
use testrig_store::Store;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(3600);

/// Looks every hour until `stop`. The journal of an instance that is still open stays, however old it is.
pub(super) async fn run(journals: Journals, workers: Arc<Vec<WorkerHandle>>, days: u32, stop: CancellationToken) {
    let age = Duration::from_secs(u64::from(days) * 24 * 3600);
    loop {
        let open: HashSet<String> = workers.iter().flat_map(|w| w.status().instances).map(|i| i.instance_id).collect();
        match journals.remove_older(age, |id| open.contains(&id.to_string())).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(removed = removed.len(), days, "journals of ended instances removed"),
            Err(e) => tracing::warn!("old journals could not be removed: {e}"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Looks every hour until `stop` for directories of runs that are older, or take more room, than `[disk]` lets them.
pub(super) async fn runs(env: Arc<Environment>, store: Store, stop: CancellationToken) {
    loop {
        match remove_old_runs(&env, &store).await {
            Ok(removed) => {
                for dir in removed {
                    tracing::info!(path = %dir.path.display(), freed = bytes_in_words(dir.bytes), "old run removed: {}", dir.why);
                }
            }
            Err(error) => tracing::warn!("old runs could not be removed: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
