//! The tasks beside a running service: its output, its end, its samples, its health. Dropping them stops them all.

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use testrig_host::{ExitStatus, process::Inside};
use testrig_joblog::{Journal, Level, Tail};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    disk,
    health::{Checker, HealthState},
    monitor::{self, Monitor},
    service::{Say, Service},
};

/// The journal's name for what the service writes.
pub(super) const SOURCE: &str = "svc";

/// How long the last output of an ended service may take to arrive.
const OUTPUT_LIMIT: Duration = Duration::from_secs(30);

/// How long the end of a service is waited for whose health checks fail.
const END_AFTER_SILENCE: Duration = Duration::from_secs(2);

/// What runs beside a service.
pub(super) struct Attached {
    /// How the service ended by itself, once it has.
    ended: watch::Receiver<Option<ExitStatus>>,
    /// Brings the output into the file.
    copy: Option<AbortOnDropHandle<()>>,
    /// Brings the file into the journal, until `written`.
    follow: Option<AbortOnDropHandle<()>>,
    written: CancellationToken,
    _exit: AbortOnDropHandle<()>,
    sampler: Option<AbortOnDropHandle<()>>,
    inside: Option<AbortOnDropHandle<()>>,
    health: Option<AbortOnDropHandle<()>>,
    room: Option<AbortOnDropHandle<()>>,
}

impl Attached {
    /// Starts reading the output and waiting for the end of a service that was started.
    pub(super) fn new(
        service: Arc<dyn Service>,
        journal: Arc<Journal>,
        output: PathBuf,
        max_line: usize,
        exited: watch::Sender<Option<ExitStatus>>,
        say: Say,
    ) -> Self {
        let written = CancellationToken::new();
        let copy = spawn(copy(Arc::clone(&service), written.clone(), Arc::clone(&say)));
        let follow = spawn(follow(journal, output, max_line, written.clone()));
        let ended = exited.subscribe();
        let exit = spawn(exit(service, exited, say));
        Self {
            ended,
            copy: Some(copy),
            follow: Some(follow),
            written,
            _exit: exit,
            sampler: None,
            inside: None,
            health: None,
            room: None,
        }
    }

    /// Takes samples while the service is wanted.
    pub(super) fn sample(&mut self, monitor: Monitor) {
        self.sampler = Some(spawn(monitor.run()));
    }

    /// Watches the service process in a container that is ready (`monitor.trackMode` BOTH).
    pub(super) fn watch_inside(&mut self, inside: Arc<Mutex<Inside>>, unhealthy: watch::Sender<Option<String>>) {
        let ended = self.ended.clone();
        self.inside = Some(spawn(async move {
            let why = monitor::lost_inside(inside).await;
            tell_unless_ended(why, ended, &unhealthy).await;
        }));
    }

    /// Watches the health of a service that is ready.
    pub(super) fn watch_health(
        &mut self,
        checker: Arc<Checker>,
        state: HealthState,
        unhealthy: watch::Sender<Option<String>>,
    ) {
        let ended = self.ended.clone();
        self.health = Some(spawn(async move {
            let why = checker.watch(state).await;
            tell_unless_ended(why, ended, &unhealthy).await;
        }));
    }

    /// Watches how much room the run's directory takes.
    pub(super) fn watch_room(&mut self, dir: PathBuf, most: u64, over: watch::Sender<Option<String>>) {
        self.room = Some(spawn(async move {
            let why = disk::outgrown(dir, most).await;
            over.send_replace(Some(why));
        }));
    }

    /// Ends what only makes sense while the service is wanted.
    pub(super) fn stop_watching(&mut self) {
        self.health = None;
        self.sampler = None;
        self.inside = None;
        self.room = None;
    }

    /// Waits until everything that a container wrote is in its file. The shim's file needs no waiting.
    pub(super) async fn settle(&mut self, limit: Duration) -> bool {
        let Some(copy) = &mut self.copy else { return true };
        let done = tokio::time::timeout(limit, copy).await.is_ok();
        if done {
            self.copy = None;
        }
        done
    }

    /// The boundary is empty: brings the rest of the output into file and journal. False when that was not done in time.
    pub(super) async fn finish(mut self) -> bool {
        self.stop_watching();
        let copied = self.settle(OUTPUT_LIMIT).await;
        self.written.cancel();
        let followed = match self.follow.take() {
            Some(follow) => tokio::time::timeout(OUTPUT_LIMIT, follow).await.is_ok(),
            None => true,
        };
        copied && followed
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// A service that has ended is not healthy either, and its end is the truer word: an engine under load says it later. Then
/// nothing is said of its health at all, or it would be chance which of the two words is seen first.
async fn tell_unless_ended(
    why: String,
    mut ended: watch::Receiver<Option<ExitStatus>>,
    unhealthy: &watch::Sender<Option<String>>,
) {
    if tokio::time::timeout(END_AFTER_SILENCE, ended.wait_for(Option::is_some)).await.is_err() {
        unhealthy.send_replace(Some(why));
    }
}

async fn copy(service: Arc<dyn Service>, written: CancellationToken, say: Say) {
    let mut said = false;
    // Each try goes on where the file ends.
    while let Err(fault) = service.copy_output().await {
        if !said {
            say(format!("the output of the service cannot be kept for the moment: {}", fault.text));
            said = true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A process goes on writing its file by itself, children included, until the boundary is empty.
    if service.kind() == "container" {
        written.cancel();
    }
}

async fn follow(journal: Arc<Journal>, output: PathBuf, max_line: usize, written: CancellationToken) {
    loop {
        let tail = Tail::new(&output, journal.last_position(SOURCE), max_line);
        match testrig_joblog::follow(&journal, SOURCE, |_| Level::Info, tail, &written).await {
            Ok(_) => return,
            Err(error) => {
                journal.append(
                    Level::Warn,
                    "agent",
                    &format!("failed to read `{}`, trying again: {error}", output.display()),
                );
                if written.is_cancelled() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn exit(service: Arc<dyn Service>, exited: watch::Sender<Option<ExitStatus>>, say: Say) {
    let mut said = false;
    loop {
        match service.ended(Arc::clone(&say)).await {
            Ok(Some(exit)) => {
                exited.send_replace(Some(exit));
                return;
            }
            Ok(None) => return,
            Err(fault) => {
                if !said {
                    say(format!("the state of the service cannot be read for the moment: {}", fault.text));
                    said = true;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_service_that_ends_while_its_checks_fail_only_the_end_is_told() {
        let (ends, ended) = watch::channel(None);
        let unhealthy = watch::channel(None).0;
        let told = tell_unless_ended("no answer".into(), ended.clone(), &unhealthy);
        let (..) = tokio::join!(told, async {
            tokio::time::sleep(END_AFTER_SILENCE / 2).await;
            ends.send_replace(Some(ExitStatus { code: Some(42), ..ExitStatus::default() }));
        });
        assert_eq!(*unhealthy.borrow(), None);
        ends.send_replace(None);
        tell_unless_ended("no answer".into(), ended, &unhealthy).await;
        assert_eq!(unhealthy.borrow().as_deref(), Some("no answer"));
    }
}
