//! Runs a plan: sends when the arrival says so, ends after the given time, waits for what is in flight, adds up.

mod closed;
mod live;
mod open;
mod request;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use live::Progress;

use crate::{
    client::Client,
    clock::Clock,
    plan::{Arrival, LoadPlan, PlanError},
    sink::{RecordSink, RecordWriter, WriteError},
    summary::Summary,
};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A run that could not be made, or whose records could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan makes no sense.
    #[error("cannot run this load: {0}")]
    Plan(#[from] PlanError),
    /// The HTTP client cannot be set up with the plan's address, key or headers.
    #[error("failed to set up the HTTP client: {0}")]
    Client(String),
    /// A record file cannot be written. The run was ended, because its result would not be true.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Runs `plan` until its time is over or `stop` is cancelled, tells `progress` every second, and adds up.
///
/// A stopped run is not an error: what was in flight is recorded as cancelled, and the summary is of what there was. Requests
/// that fail are not errors either; they are counted by class.
///
/// # Errors
/// When the plan makes no sense or the records cannot be written.
pub async fn run(
    plan: LoadPlan,
    out: RecordSink,
    progress: impl Fn(Progress) + Send + Sync,
    stop: CancellationToken,
) -> Result<Summary, LoadError> {
    plan.check()?;
    let client = Client::build(&plan).map_err(LoadError::Client)?;
    let (writer, written) = out.start(plan.slo)?;
    let run = Arc::new(Run {
        clock: Clock::start(),
        live: live::Live::default(),
        numbers: request::Numbers::new(plan.max_requests),
        abort: CancellationToken::new(),
        stop: stop.clone(),
        plan,
        client,
        writer,
    });
    drive(&run, &progress, &stop).await;
    // The last sender, so that the writer sees the end.
    drop(run);
    let summary = written.await.expect("the record writer does not panic")?;
    Ok(summary)
}

/// What all requests of a run share.
#[derive(Debug)]
struct Run {
    plan: LoadPlan,
    client: Client,
    clock: Clock,
    writer: RecordWriter,
    live: live::Live,
    numbers: request::Numbers,
    /// Ends everything in flight.
    abort: CancellationToken,
    /// The caller wants the run to end.
    stop: CancellationToken,
}

impl Run {
    /// End of the time in which requests are sent, since the start.
    fn sending(&self) -> Duration {
        self.plan.warmup + self.plan.run
    }
}

async fn drive(run: &Arc<Run>, progress: &(impl Fn(Progress) + Send + Sync), stop: &CancellationToken) {
    let all = async {
        match run.plan.arrival {
            Arrival::Closed { concurrency } => closed::send_all(run, concurrency).await,
            Arrival::Constant { .. } | Arrival::Poisson { .. } => open::send_all(run).await,
        }
    };
    tokio::pin!(all);
    let mut ticks = tokio::time::interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drained = tokio::time::sleep_until(run.clock.at(run.sending() + run.plan.drain));
    tokio::pin!(drained);
    let mut meter = live::Meter::default();
    loop {
        tokio::select! {
            () = &mut all => break,
            _ = ticks.tick() => progress(meter.read(run)),
            // Each of these three only has to raise the flag once; requests then end by themselves and are recorded.
            () = stop.cancelled(), if !run.abort.is_cancelled() => run.abort.cancel(),
            () = run.writer.failed(), if !run.abort.is_cancelled() => run.abort.cancel(),
            () = &mut drained, if !run.abort.is_cancelled() => run.abort.cancel(),
        }
    }
    progress(meter.read(run));
}

#[cfg(test)]
mod tests;
