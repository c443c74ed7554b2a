//! What ends a stage before it is done.

use std::time::Duration;

use powerjob_worker::{StopReason, StopSignal};
use testrig_host::ExitStatus;
use tokio::{sync::watch, time::Instant};

use super::service::Fault;

/// What cut a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The stage itself failed.
    Fault(Fault),
    /// The stage's own time limit.
    Limit(Duration),
    /// The server stopped the instance.
    Stopped,
    /// The agent's operator ended the agent and its runs.
    Cancelled,
    /// A time limit of the whole run, in words.
    TimedOut(String),
    /// The service's main process ended.
    Exited(ExitStatus),
    /// The service was ready and is no longer.
    Unhealthy(String),
    /// The run's directory takes more room than it may.
    OverQuota(String),
}

/// Everything from outside that can cut a stage. Clones see the same.
#[derive(Clone, Debug)]
pub(super) struct Interrupts {
    pub(super) stop: StopSignal,
    /// `monitorOverrides.maxRunSeconds`, as a moment.
    pub(super) deadline: Option<Instant>,
    /// In words, for the message.
    pub(super) max_run: Duration,
    pub(super) exited: watch::Receiver<Option<ExitStatus>>,
    pub(super) unhealthy: watch::Receiver<Option<String>>,
    pub(super) over_quota: watch::Receiver<Option<String>>,
}

impl Interrupts {
    /// Waits for a stop or the end of the run's time.
    pub(super) async fn ended_from_outside(&mut self) {
        tokio::select! {
            _ = self.stop.raised() => {}
            () = over(self.deadline) => {}
        }
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Cut {
        let deadline = over(self.deadline);
        tokio::select! {
            // A stop explains everything that happens after it, a time limit all but a stop, an exit a failed health check.
            biased;
            reason = self.stop.raised() => match reason {
                StopReason::Stopped => Cut::Stopped,
                StopReason::Cancelled => Cut::Cancelled,
                StopReason::TimedOut => Cut::TimedOut("the time limit of the instance (instanceTimeoutMS) was reached".into()),
            },
            () = deadline => Cut::TimedOut(format!(
                "the run lasted longer than monitorOverrides.maxRunSeconds ({} s)", self.max_run.as_secs_f64()
            )),
            exit = told(&mut self.exited) => Cut::Exited(exit),
            why = told(&mut self.over_quota) => Cut::OverQuota(why),
            why = told(&mut self.unhealthy) => Cut::Unhealthy(why),
        }
    }

    /// The one that is there already.
    pub(super) async fn now(&mut self) -> Option<Cut> {
        tokio::select! {
            biased;
            cut = self.next() => Some(cut),
            () = std::future::ready(()) => None,
        }
    }

    /// The one that comes within this time.
    pub(super) async fn soon(&mut self, limit: Duration) -> Option<Cut> {
        tokio::time::timeout(limit, self.next()).await.ok()
    }

    /// Lets `body` run until it ends or something cuts it, which drops it.
    pub(super) async fn guard<T>(
        &mut self,
        limit: Duration,
        body: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Cut> {
        tokio::select! {
            // What is done is done: the next stage sees the interrupt.
            biased;
            result = body => result.map_err(Cut::Fault),
            cut = self.next() => Err(cut),
            () = tokio::time::sleep(limit) => Err(Cut::Limit(limit)),
        }
    }
}

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The value once it is there; never if nobody will tell any more.
async fn told<T: Clone>(receiver: &mut watch::Receiver<Option<T>>) -> T {
    let found = receiver.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
    match found {
        Some(value) => value,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupts() -> (Interrupts, watch::Sender<Option<ExitStatus>>, watch::Sender<Option<String>>) {
        let (exit, exited) = watch::channel(None);
        let (health, unhealthy) = watch::channel(None);
        (
            Interrupts {
                stop: StopSignal::new(),
                deadline: None,
                max_run: Duration::ZERO,
                exited,
                unhealthy,
                over_quota: watch::channel(None).1,
            },
            exit,
            health,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_is_cut_by_whatever_comes_first() {
        let (mut all, exit, _health) = interrupts();
        let long = || async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok(())
        };
        assert_eq!(all.guard(Duration::from_secs(5), long()).await, Err(Cut::Limit(Duration::from_secs(5))));
        assert_eq!(all.guard(Duration::from_secs(500), long()).await, Ok(()));
        assert_eq!(all.now().await, None);
        all.deadline = Some(Instant::now() + Duration::from_secs(3));
        assert!(matches!(all.guard(Duration::from_secs(500), long()).await, Err(Cut::TimedOut(_))));
        all.deadline = None;
        exit.send_replace(Some(ExitStatus { code: Some(3), ..ExitStatus::default() }));
        assert!(matches!(all.guard(Duration::from_secs(500), long()).await, Err(Cut::Exited(_))));
        all.stop.raise(StopReason::Stopped);
        assert_eq!(all.guard(Duration::from_secs(500), long()).await, Err(Cut::Stopped));
        assert_eq!(all.now().await, Some(Cut::Stopped));
    }
}
