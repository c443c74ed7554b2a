//! Instances that do nothing: what the worker itself costs.

use std::{process::Command, time::Duration};

use anyhow::{Context, bail};
use powerjob_worker::openapi::InstanceStatus;

use super::{Bench, Both, start::seconds};
use crate::{Failure, app::duration, subject::Kind, table::Row};

/// Resident memory and threads, before and after.
#[derive(Default)]
struct Footprint {
    idle_kib: u64,
    warm_kib: u64,
    after_kib: u64,
    threads: u64,
}

/// Memory when idle and after 2000 instances, threads after 100.
pub(super) async fn memory(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let settle = Duration::from_secs(bench.options.size(15, 5));
    let mut both = Both::<Footprint>::default();
    for &kind in &bench.kinds {
        let app = bench.app("memory").await?;
        let worker = bench.worker(kind, &app).await?;
        let job = app.job("STANDALONE", "jw.Empty", "").await?;
        tokio::time::sleep(settle).await;
        let figures = both.entry(kind);
        figures.idle_kib = worker.sample()?.rss_kib;
        app.succeed(job, 100, Duration::from_secs(180)).await?;
        figures.threads = worker.sample()?.threads;
        app.succeed(job, 900, Duration::from_secs(180)).await?;
        tokio::time::sleep(settle).await;
        figures.warm_kib = worker.sample()?.rss_kib;
        app.succeed(job, 1000, Duration::from_secs(180)).await?;
        tokio::time::sleep(settle).await;
        figures.after_kib = worker.sample()?.rss_kib;
        worker.end().await?;
    }
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let cores = std::thread::available_parallelism()?.get() as u64;
    Ok(vec![
        both.row("memory, idle", "<= 15 MiB", |f| mib(f.idle_kib), |f| f.idle_kib <= 15 * 1024),
        both.row(
            "memory after 1000 / 2000 instances",
            "no growth",
            |f| format!("{} / {}", mib(f.warm_kib), mib(f.after_kib)),
            // Less than a KiB an instance is the allocator's noise: a growth of a million instances is a case of its own.
            |f| f.after_kib <= f.warm_kib + 512,
        ),
        both.row(
            "threads after 100 instances",
            "<= 2 x cores + 4",
            |f| f.threads.to_string(),
            |f| f.threads <= 2 * cores + 4,
        ),
    ])
}

/// What became of many instances.
#[derive(Default)]
struct Many {
    cpu: Duration,
    instances: usize,
    not_succeeded: usize,
    run_again: usize,
    longest: Duration,
    wall: Duration,
}

/// Processor time of one instance, and whether each ran once.
pub(super) async fn many(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let instances = bench.options.instances.unwrap_or_else(|| bench.options.size(20_000, 1_000));
    let mut both = Both::<Many>::default();
    for &kind in &bench.kinds {
        let app = bench.app("empties").await?;
        let worker = bench.worker(kind, &app).await?;
        let job = app.job("STANDALONE", "jw.Empty", "").await?;
        // Class loading and compilation are not what is measured.
        app.succeed(job, 500, Duration::from_secs(180)).await?;
        let before = worker.sample()?.cpu;
        let began = std::time::Instant::now();
        let ids = app.run(job, instances).await?;
        let infos = app.ended(&ids, Duration::from_secs(300)).await?;
        let wall = began.elapsed();
        let cpu = worker.sample()?.cpu.saturating_sub(before);
        let failed = |info: &&_| powerjob_worker::openapi::InstanceInfo::status(info) != Some(InstanceStatus::Succeed);
        both.set(
            kind,
            Many {
                cpu,
                instances,
                not_succeeded: infos.iter().filter(failed).count(),
                run_again: infos.iter().filter(|info| info.running_times.is_some_and(|times| times > 1)).count(),
                longest: infos.iter().filter_map(|info| duration(info).ok()).max().unwrap_or_default(),
                wall,
            },
        );
        worker.end().await?;
    }
    let each = |many: &Many| many.cpu.as_secs_f64() * 1e3 / many.instances as f64;
    Ok(vec![
        both.row(
            "worker CPU for one empty instance (instances a second, bound by the server)",
            "<= 0.15 ms",
            |many| format!("{:.3} ms ({:.0}/s)", each(many), many.instances as f64 / many.wall.as_secs_f64()),
            |many| each(many) <= 0.15,
        ),
        both.row(
            &format!("{instances} empty instances: not succeeded / run again / longest"),
            "0 lost, 0 run twice",
            |many| format!("{} / {} / {}", many.not_succeeded, many.run_again, seconds(many.longest)),
            // One that was lost is dispatched again by the server's check after 60 s.
            |many| many.not_succeeded == 0 && many.run_again == 0 && many.longest < Duration::from_secs(45),
        ),
    ])
}

/// A million instances through the stand-in server: an example of the worker's own, which prints its figures and judges them.
pub(super) async fn million(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let Some(program) = &bench.options.many else { return Ok(Vec::new()) };
    let instances: u64 = bench.options.size(1_000_000, 50_000);
    let output = Command::new(program).arg(instances.to_string()).output().context("failed to start measure_many")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(last) = text.lines().last() else {
        bail!("measure_many printed nothing: {}", String::from_utf8_lossy(&output.stderr));
    };
    let mut both = Both::default();
    both.set(Kind::Ours, last.to_owned());
    let met = output.status.success();
    let what = format!("{instances} instances through the stand-in server");
    Ok(vec![both.row(&what, "memory grows < 1 MiB, cost constant", Clone::clone, |_| met)])
}
