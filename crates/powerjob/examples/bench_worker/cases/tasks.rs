//! Instances of many tasks.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use powerjob_worker::openapi::{InstanceInfo, InstanceStatus};

use super::{Bench, Both, start::seconds};
use crate::{
    Failure,
    app::duration,
    subject::{Kind, Worker},
    table::Row,
};

/// BROADCAST and MAP_REDUCE whose tasks do nothing.
pub(super) async fn empty_tasks(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let mut broadcast = Both::<Duration>::default();
    let mut map_reduce = Both::<Duration>::default();
    for &kind in &bench.kinds {
        let app = bench.app("tasks").await?;
        let worker = bench.worker(kind, &app).await?;
        let jobs = [app.job("BROADCAST", "jw.Bc", "").await?, app.job("MAP_REDUCE", "jw.Mr", r#"{"tasks":20}"#).await?];
        let runs = jobs.map(|job| app.succeed(job, bench.options.size(5, 2), Duration::from_secs(120)));
        let longest = try_join_all(runs).await?.iter().map(|infos| worst(infos)).collect::<Result<Vec<_>, _>>()?;
        broadcast.set(kind, longest[0]);
        map_reduce.set(kind, longest[1]);
        worker.end().await?;
    }
    let second = Duration::from_secs(1);
    Ok(vec![
        broadcast.row("BROADCAST, one worker, empty tasks (longest run)", "<= 1 s", |t| seconds(*t), |t| *t <= second),
        map_reduce.row("MAP_REDUCE, 20 empty tasks (longest run)", "<= 1 s", |t| seconds(*t), |t| *t <= second),
    ])
}

fn worst(infos: &[powerjob_worker::openapi::InstanceInfo]) -> Result<Duration, Failure> {
    infos.iter().map(duration).try_fold(Duration::ZERO, |max, next| Ok(max.max(next?)))
}

/// Runs of MAP_REDUCE over two workers that never end.
pub(super) async fn two_workers(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut same = Both::<(usize, usize)>::default();
    for &kind in &bench.kinds {
        same.set(kind, hang(bench, [kind, kind]).await?);
    }
    let show = |(hung, runs): &(usize, usize)| format!("{hung} of {runs} hang");
    let met = |(hung, _): &(usize, usize)| *hung == 0;
    rows.push(same.row("MAP_REDUCE over two workers of a kind, 20 instant tasks", "0 hang", show, met));
    if bench.kinds.contains(&Kind::Java) {
        let mut mixed = Both::default();
        mixed.set(Kind::Ours, hang(bench, [Kind::Ours, Kind::Java]).await?);
        rows.push(mixed.row(
            "the same over one of each; either may own the instance (a hang is then that of a Java owner)",
            "0 hang, as far as ours can prevent it",
            show,
            met,
        ));
    }
    Ok(rows)
}

/// How many of how many runs have not ended after a time in which even the slowest owner ends them.
async fn hang(bench: &Bench<'_>, kinds: [Kind; 2]) -> Result<(usize, usize), Failure> {
    let runs = bench.options.size(100, 10);
    let app = bench.app("two").await?;
    let workers: Vec<Worker> = try_join_all(kinds.map(|kind| bench.worker(kind, &app))).await?;
    let job = app.job("MAP_REDUCE", "jw.Mr", r#"{"tasks":20}"#).await?;
    // A Java owner holds 64 at most, and looks every 13 s.
    let mut hung = 0;
    let mut left: usize = runs;
    while left > 0 {
        let now = left.min(25);
        let infos = app.ended(&app.run(job, now).await?, Duration::from_secs(120)).await?;
        hung += infos.iter().filter(|info| !info.status().is_some_and(InstanceStatus::is_final)).count();
        left -= now;
    }
    for worker in workers {
        worker.end().await?;
    }
    Ok((hung, runs))
}

struct Large {
    took: Duration,
    peak_kib: u64,
    /// It was not done then.
    given_up: bool,
}

/// How long a large MAP_REDUCE may take: the Java worker needs hours for the whole size.
const LARGE_LIMIT: Duration = Duration::from_secs(600);

/// A large MAP_REDUCE with empty tasks.
pub(super) async fn large(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let tasks = bench.options.size(100_000, 5_000);
    let mut both = Both::<Large>::default();
    for &kind in &bench.kinds {
        let app = bench.app("large").await?;
        let worker = bench.worker(kind, &app).await?;
        let warm = app.job("MAP_REDUCE", "jw.Mr", r#"{"tasks":20}"#).await?;
        app.succeed(warm, 1, Duration::from_secs(120)).await?;
        let job = app.job("MAP_REDUCE", "jw.Mr", &format!(r#"{{"tasks":{tasks}}}"#)).await?;
        worker.reset_peak()?;
        let began = Instant::now();
        let infos = app.ended(&app.run(job, 1).await?, LARGE_LIMIT).await?;
        let given_up = match infos.first().and_then(InstanceInfo::status) {
            Some(InstanceStatus::Succeed) => false,
            Some(status) if !status.is_final() => true,
            status => anyhow::bail!("the large MAP_REDUCE ended as {status:?}: {infos:?}"),
        };
        both.set(kind, Large { took: began.elapsed(), peak_kib: worker.sample()?.peak_kib, given_up });
        worker.end().await?;
    }
    let mib = |large: &Large| format!("{:.1} MiB", large.peak_kib as f64 / 1024.0);
    Ok(vec![
        both.compare(
            &format!("MAP_REDUCE, {tasks} empty tasks"),
            ">= 5 x as fast",
            |large| format!("{}{}", if large.given_up { "not done in " } else { "" }, seconds(large.took)),
            |ours, java| !ours.given_up && java.is_some_and(|java| ours.took * 5 <= java.took),
        ),
        both.row("the same: peak memory", "flat (<= 48 MiB)", mib, |large| large.peak_kib <= 48 * 1024),
    ])
}
