//! Waiting for a state, never for a time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;

/// Far more than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Polls until `look` gives something; the failure says what was waited for and what was seen last.
pub(crate) async fn eventually<T, F, Fut>(what: &str, look: F) -> Result<T, Failed>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    eventually_within(PATIENCE, what, look).await
}

/// The same with a limit of its own.
pub(crate) async fn eventually_within<T, F, Fut>(limit: Duration, what: &str, mut look: F) -> Result<T, Failed>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(seen) if began.elapsed() > limit => {
                return Err(format!("waited {} s for: {what}; seen last: {seen}", limit.as_secs()).into());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
