//! One instance that writes many log lines.

use std::time::Duration;

use powerjob_worker::openapi::InstanceStatus;

use super::{Bench, Both};
use crate::{Failure, app::duration, table::Row};

struct Lines {
    written: u64,
    arrived: u64,
    peak_kib: u64,
    took: Duration,
}

/// Lost lines, memory and speed.
pub(super) async fn one_instance(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let written: u64 = bench.options.size(300_000, 30_000);
    let mut both = Both::<Lines>::default();
    for &kind in &bench.kinds {
        let app = bench.app("lines").await?;
        let worker = bench.worker(kind, &app).await?;
        let job = app.job("STANDALONE", "jw.Echo", &format!(r#"{{"lines":{written}}}"#)).await?;
        worker.reset_peak()?;
        let infos = app.ended(&app.run(job, 1).await?, Duration::from_secs(600)).await?;
        let peak_kib = worker.sample()?.peak_kib;
        let Some(info) = infos.first().filter(|info| info.status() == Some(InstanceStatus::Succeed)) else {
            anyhow::bail!("the instance has not succeeded: {infos:?}");
        };
        // A line or two are the processors' own.
        let arrived = settled(&app, info.instance_id, written).await?.min(written);
        both.set(kind, Lines { written, arrived, peak_kib, took: duration(info)? });
        worker.end().await?;
    }
    let lost = |lines: &Lines| (lines.written - lines.arrived) as f64 * 100.0 / lines.written as f64;
    let speed = |lines: &Lines| lines.written as f64 / lines.took.as_secs_f64().max(0.001);
    Ok(vec![
        both.row(
            &format!("{written} log lines of one instance: lost at the server"),
            "0 lost",
            |lines| format!("{:.1} %", lost(lines)),
            |lines| lines.arrived == lines.written,
        ),
        both.row(
            "the same: peak memory",
            "<= 48 MiB",
            |lines| format!("{:.1} MiB", lines.peak_kib as f64 / 1024.0),
            |lines| lines.peak_kib <= 48 * 1024,
        ),
        both.row(
            "the same: lines a second, from dispatch to the final report",
            "60,000 lines/s",
            |lines| format!("{:.0}", speed(lines)),
            |lines| speed(lines) >= 60_000.0,
        ),
    ])
}

/// The server writes its file of the log again and again for a while: asks until the number stays.
async fn settled(app: &crate::app::App, instance: i64, written: u64) -> Result<u64, Failure> {
    let mut before = 0;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(11)).await;
        let now = app.log_lines(instance).await?;
        if now >= written || (now > 0 && now == before) {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}
