//! Many empty instances through the stand-in server: what one costs, and whether that or the memory grows.
//!
//! ```text
//! cargo run --release -p powerjob-worker --example measure_many -- [INSTANCES=1000000] [AT_ONCE=64]
//! ```
//!
//! The server is in this process, the worker in a child of it, whose processor time and memory are read from `/proc`. A line for
//! every twentieth of the way and one for the whole; the exit code is 1 when the memory has grown by 1 MiB or more after the
//! first tenth (and 20,000), when the last quarter's instances cost over a third more than the first's, or when one is lost or runs twice.

#[path = "../common/process.rs"]
mod process;
mod worker;

use std::{
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream};
use powerjob_worker::openapi::{JobSpec, OpenApi};
use serde_json::json;
use testrig_devserver::{DevServer, DevServerConfig};

use self::process::{Sample, sample};

type Failure = anyhow::Error;

const APP: &str = "many";
const PASSWORD: &str = "many-pass";
/// The server forgets an instance so long after its end: a final report is repeated within it.
const FORGET_AFTER: Duration = Duration::from_secs(10);
const SUCCEED: i32 = 5;
/// Instances on their way at most, or the dispatcher would outrun the worker.
const OPEN: u64 = 4_000;
const WINDOWS: u64 = 20;
/// The worker remembers the newest 10,000 that it closed.
const WARM_AFTER: u64 = 20_000;

/// What became of the instances so far.
#[derive(Default)]
struct Ended {
    all: u64,
    not_succeeded: u64,
    run_again: u64,
}

fn main() -> Result<ExitCode, Failure> {
    powerjob_worker::install_tls();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [flag, server, state] = arguments.as_slice()
        && flag == "--as-worker"
    {
        return runtime.block_on(worker::run(server, state.as_ref())).map(|()| ExitCode::SUCCESS);
    }
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (instances, at_once) = (number(0, 1_000_000)?, number(1, 64)?);
    runtime.block_on(measure(instances, usize::try_from(at_once)?))
}

async fn measure(instances: u64, at_once: usize) -> Result<ExitCode, Failure> {
    let server = DevServer::start(DevServerConfig::default().app(APP, PASSWORD)).await?;
    let state = tempfile::tempdir()?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--as-worker")
        .arg(server.web().to_string())
        .arg(state.path())
        .stdin(Stdio::null())
        .spawn()
        .context("failed to start the worker")?;
    let measured = drive(&server, child.id(), instances, at_once).await;
    child.kill()?;
    child.wait()?;
    measured
}

async fn drive(server: &DevServer, pid: u32, instances: u64, at_once: usize) -> Result<ExitCode, Failure> {
    let app = server.app_id(APP).context("the app is there from the start")?;
    let api = OpenApi::new(&[server.url()])?.with_app_token(APP, PASSWORD)?;
    let job = JobSpec::api(app, "empty", "empty").with("maxInstanceNum", 0).with("logConfig", json!({"type": 1}));
    let job = api.save_job(&job).await?;
    while server.online_workers(app).is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ended = Ended::default();
    let mut windows: Vec<(u64, Sample)> = Vec::new();
    let (began, start) = (Instant::now(), sample(pid)?);
    let (mut before, mut before_at) = (start, 0);
    let window = (instances / WINDOWS).max(1);
    let mut started = 0;
    let mut progress = Instant::now();
    while ended.all < instances {
        let batch = instances.saturating_sub(started).min(OPEN.saturating_sub(started - ended.all)).min(1_000);
        let runs = stream::iter(0..batch).map(|_| api.run_job(app, job, None, 0)).buffer_unordered(at_once);
        for run in runs.collect::<Vec<_>>().await {
            run?;
        }
        started += batch;
        if batch == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let news = reap(server, &mut ended);
        if news > 0 {
            progress = Instant::now();
        } else if progress.elapsed() > Duration::from_secs(120) {
            bail!("{} of {started} instances have not ended for two minutes", started - ended.all);
        }
        if ended.all >= before_at + window {
            let now = sample(pid)?;
            let (count, cpu) = (ended.all - before_at, now.cpu - before.cpu);
            println!(
                "{:>9} ended, {:>5.0} a second, {:.3} ms of processor each, {:.1} MiB, {} threads",
                ended.all,
                ended.all as f64 / began.elapsed().as_secs_f64(),
                cpu.as_secs_f64() * 1e3 / count as f64,
                now.rss_kib as f64 / 1024.0,
                now.threads
            );
            windows.push((ended.all, now));
            (before, before_at) = (now, ended.all);
        }
    }
    Ok(judge(&ended, start, &windows, began.elapsed()))
}

/// Takes ended instances out of the server; how many.
fn reap(server: &DevServer, ended: &mut Ended) -> u64 {
    let gone = server.take_ended(FORGET_AFTER);
    for instance in &gone {
        ended.all += 1;
        ended.not_succeeded += u64::from(instance.status != SUCCEED);
        ended.run_again += u64::from(instance.running_times > 1);
    }
    gone.len() as u64
}

fn judge(ended: &Ended, start: Sample, windows: &[(u64, Sample)], took: Duration) -> ExitCode {
    let cost = |from: (u64, Sample), to: (u64, Sample)| {
        (to.1.cpu - from.1.cpu).as_secs_f64() * 1e3 / (to.0 - from.0).max(1) as f64
    };
    let warm = windows.iter().find(|(ended, _)| *ended >= WARM_AFTER.max(windows.last().map_or(0, |w| w.0 / 10)));
    let (Some(&last), Some(&warm)) = (windows.last(), warm) else {
        println!("too few instances to judge");
        return ExitCode::FAILURE;
    };
    let at = |part: usize| windows.get(windows.len() * part / 20).copied().unwrap_or(last);
    let (first, late) = (cost(at(1), at(6)), cost(at(15), last));
    let growth_kib = last.1.rss_kib as f64 - warm.1.rss_kib as f64;
    let met = ended.not_succeeded == 0 && ended.run_again == 0 && growth_kib < 1024.0 && late <= first * 4.0 / 3.0;
    println!(
        "{}: {} not succeeded, {} run again, memory {:+.2} MiB after the first tenth ({:.1} MiB, at most {:.1}), {:.3} ms each ({first:.3} ms early, \
         {late:.3} ms late), {:.0} a second",
        ended.all,
        ended.not_succeeded,
        ended.run_again,
        growth_kib / 1024.0,
        last.1.rss_kib as f64 / 1024.0,
        last.1.peak_kib as f64 / 1024.0,
        cost((0, start), last),
        ended.all as f64 / took.as_secs_f64()
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
