//! Removes the journals of instances that ended long ago.

use std::{collections::HashSet, sync::Arc, time::Duration};

use powerjob_worker::WorkerHandle;
use testrig_joblog::Journals;
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
