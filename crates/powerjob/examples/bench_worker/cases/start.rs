//! How soon a worker is there, and how soon its work is seen.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Bench, Both};
use crate::{Failure, table::Row};

/// From the start of the process to the server's list of workers.
pub(super) async fn listed(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let mut times = Both::<Vec<Duration>>::default();
    for _ in 0..bench.options.size(10, 3) {
        for &kind in &bench.kinds {
            let app = bench.app("start").await?;
            let worker = bench.worker(kind, &app).await?;
            times.entry(kind).push(worker.listed_after);
            worker.end().await?;
        }
    }
    let worst = |times: &Vec<Duration>| times.iter().max().copied().unwrap_or_default();
    Ok(vec![times.row(
        "start to listed by the server (all starts)",
        "<= 0.5 s",
        |times| range(times),
        |times| worst(times) <= Duration::from_millis(500),
    )])
}

/// From `runJob` to RUNNING at the server.
pub(super) async fn running(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let mut times = Both::<Vec<Duration>>::default();
    for &kind in &bench.kinds {
        let app = bench.app("running").await?;
        let worker = bench.worker(kind, &app).await?;
        // Longer than a Java worker takes to its first report.
        let job = app.job("STANDALONE", "jw.Echo", r#"{"sleep":12000}"#).await?;
        let runs = bench.options.size(200, 20);
        let measured = stream::iter(0..runs).map(|_| app.time_to_running(job)).buffer_unordered(4);
        times.set(kind, measured.try_collect().await?);
        worker.end().await?;
    }
    Ok(vec![times.row(
        "`runJob` to RUNNING at the server (p50 / p99)",
        "p99 <= 0.5 s",
        |times| format!("{} / {}", seconds(percentile(times, 50)), seconds(percentile(times, 99))),
        |times| percentile(times, 99) <= Duration::from_millis(500),
    )])
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn range(times: &[Duration]) -> String {
    let (min, max) = (times.iter().min().copied(), times.iter().max().copied());
    format!("{} to {}", seconds(min.unwrap_or_default()), seconds(max.unwrap_or_default()))
}

/// The smallest value that so many per cent do not exceed.
pub(super) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}
