//! Looks at the accelerators from time to time: what a run left comes back, and what is free is told to the servers.

use std::{sync::Arc, time::Duration};

use testrig_processors::{Environment, run_llm_test};
use testrig_store::Store;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// A driver that has failed is not asked as often.
const EVERY_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Looks until `stop`. A host without accelerators has nothing to look at.
pub(super) async fn run(env: Arc<Environment>, store: Store, stop: CancellationToken) {
    if env.accelerators.watch().is_none() {
        return stop.cancelled().await;
    }
    let mut failing: Option<String> = None;
    loop {
        let looked = look(&env, &store).await;
        match (&looked, &failing) {
            (Ok(freed), _) => {
                for lease in freed {
                    tracing::info!("accelerators came back: {lease}");
                }
                if failing.take().is_some() {
                    tracing::info!("the accelerators can be looked at again");
                }
            }
            (Err(error), Some(said)) if error == said => {}
            (Err(error), _) => {
                tracing::warn!("{error}");
                failing = Some(error.clone());
            }
        }
        let pause = if looked.is_ok() { EVERY } else { EVERY_AFTER_FAILURE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn look(env: &Environment, store: &Store) -> Result<Vec<String>, String> {
    let freed = run_llm_test::free_forgotten_leases(env, store).await?;
    env.accelerators.view().await.map_err(|error| error.to_string())?;
    Ok(freed)
}
