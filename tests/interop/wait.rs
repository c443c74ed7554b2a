//! Waiting for a state, never for a time.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

/// Polls until `look` gives something; the failure says what was waited for and what was seen last.
pub(crate) async fn eventually<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, Failed> {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(seen) if began.elapsed() > limit => {
                return Err(format!("waited {} s for: {what}; seen last: {seen}", limit.as_secs()).into());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Asks again and again for a while that something stays as it is; the failure says what it became.
pub(crate) async fn stays(
    time: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<(), String>,
) -> Result<(), Failed> {
    let began = Instant::now();
    while began.elapsed() < time {
        look().await.map_err(|seen| format!("it did not stay so: {what}; after {:?}: {seen}", began.elapsed()))?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Fails unless both are equal.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), Failed> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}").into()) }
}

/// Fails unless it is so.
pub(crate) fn holds(what: &str, so: bool) -> Result<(), Failed> {
    if so { Ok(()) } else { Err(format!("not so: {what}").into()) }
}
