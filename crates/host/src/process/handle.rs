//! A started process: waiting for it, ending it, looking at it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::empty;
use super::files::{Files, MainProcess, Starting, read_json};
use super::proc::{self, Ident, Stat};
use super::runner::{ProcessError, file_error};
use super::stats::{self, CpuMark, ProcessStats};
use crate::{BoundaryId, ExitStatus, Signal, Unseen};

/// How often a running process is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long the shim may take to write the exit status, and to end once its boundary is empty.
const SHIM_LIMIT: Duration = Duration::from_secs(10);

/// A process that was started under a shim, alive or not. Cheap to clone; dropping it stops nothing.
#[derive(Clone, Debug)]
pub struct ProcessHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    boundary: BoundaryId,
    files: Files,
    start: Starting,
    /// Unknown only if the shim was killed in the midst of the start.
    main: Option<Ident>,
    /// The kernel was booted since the start.
    rebooted: bool,
    cpu: Mutex<Option<CpuMark>>,
}

/// What stopping found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// How the main process ended.
    pub exit: ExitStatus,
    /// The main process ended within the grace time (or had before).
    pub graceful: bool,
    /// How many processes were killed with SIGKILL.
    pub killed: usize,
}

impl ProcessHandle {
    pub(super) fn new(boundary: BoundaryId, files: Files, start: Starting, main: Option<MainProcess>) -> Self {
        let rebooted = proc::boot_id().is_ok_and(|boot| boot != start.boot_id);
        let main = main.map(|main| main.process);
        Self { inner: Arc::new(Inner { boundary, files, start, main, rebooted, cpu: Mutex::new(None) }) }
    }

    /// Name of the boundary.
    pub fn boundary(&self) -> &BoundaryId {
        &self.inner.boundary
    }

    /// Pid of the main process; it may have ended.
    pub fn pid(&self) -> Option<i32> {
        self.inner.main.map(|main| main.pid)
    }

    /// When it was started, milliseconds since 1970.
    pub fn started_at_ms(&self) -> i64 {
        self.inner.start.started_at_ms
    }

    /// What holds the boundary together, for the log: `cgroup v2, memory, subreaper and marker`.
    pub fn boundary_kind(&self) -> String {
        format!("{}, subreaper and marker", self.inner.start.cgroups.in_words())
    }

    /// How the main process ended, if it has.
    ///
    /// # Errors
    /// Files of the state directory cannot be read.
    pub fn exit(&self) -> Result<Option<ExitStatus>, ProcessError> {
        let inner = &self.inner;
        if let Some(exit) = self.recorded_exit()? {
            return Ok(Some(exit));
        }
        if !inner.rebooted && (inner.start.shim.alive() || inner.main.is_some_and(Ident::alive)) {
            return Ok(None);
        }
        // The shim writes first and ends then: look once more before calling it lost.
        if let Some(exit) = self.recorded_exit()? {
            return Ok(Some(exit));
        }
        let (unseen, why) = match inner.rebooted {
            true => (Unseen::Reboot, "the host was rebooted"),
            false => (Unseen::ShimKilled, "its shim was killed"),
        };
        let error = Some(format!("nobody saw its end: {why}"));
        Ok(Some(ExitStatus { error, unseen: Some(unseen), ..ExitStatus::default() }))
    }

    /// How many processes of the boundary the kernel has killed for want of memory so far; `None` where no cgroup counts.
    pub fn oom_kills(&self) -> Option<u64> {
        self.inner.boot_start()?.cgroups.oom_kills()
    }

    /// Returns when the main process has ended. Others of the boundary may live on. Safe to cancel and to repeat.
    ///
    /// # Errors
    /// Files of the state directory cannot be read.
    pub async fn wait(&self) -> Result<ExitStatus, ProcessError> {
        loop {
            if let Some(exit) = self.exit()? {
                return Ok(exit);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends a signal to the main process and the process group that it leads. One that has ended is no error.
    ///
    /// # Errors
    /// The system refuses, e.g. because the process changed its user.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let Some(main) = self.inner.main.filter(|_| !self.inner.rebooted) else {
            return Ok(());
        };
        main.signal_group(signal.number())
            .map_err(|source| file_error("signal the process of", &self.inner.files.dir, source))
    }

    /// Sends `signal` to the main process and its group, waits up to `grace` for the main process, then kills whatever is
    /// left in the boundary and looks until two scans in a row find nothing.
    ///
    /// # Errors
    /// [`ProcessError::Survivors`] if something cannot be ended.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> Result<StopReport, ProcessError> {
        let mut graceful = self.exit()?.is_some();
        if !graceful && !grace.is_zero() && signal != Signal::KILL {
            // A refusal is not the end: the kill below is.
            if let Err(error) = self.signal(signal) {
                tracing::warn!(boundary = %self.inner.boundary, %error, "graceful signal not sent");
            }
            graceful = tokio::time::timeout(grace, self.wait()).await.is_ok_and(|exit| exit.is_ok());
        }
        let killed = self.empty().await?;
        let exit = match tokio::time::timeout(SHIM_LIMIT, self.wait()).await {
            Ok(exit) => exit?,
            Err(_) => ExitStatus {
                error: Some("its shim does not write down how it ended".to_owned()),
                ..ExitStatus::default()
            },
        };
        Ok(StopReport { exit, graceful, killed })
    }

    /// Pids in the boundary now, the shim's left out.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub async fn members(&self) -> Result<Vec<i32>, ProcessError> {
        Ok(self.scan().await?.into_iter().map(|stat| stat.ident.pid).collect())
    }

    /// What the boundary uses now; `None` when it is empty.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub async fn stats(&self) -> Result<Option<ProcessStats>, ProcessError> {
        let members = self.scan().await?;
        if members.is_empty() {
            return Ok(None);
        }
        let cpu_ns = self.inner.start.cgroups.cpu_ns();
        Ok(Some(stats::sample(&members, cpu_ns, &mut self.inner.cpu.lock())))
    }

    /// Removes the boundary's directory, which must be empty of processes. Afterwards the name can be used again.
    ///
    /// # Errors
    /// [`ProcessError::Survivors`] if it is not empty.
    pub async fn forget(&self) -> Result<(), ProcessError> {
        let inner = &self.inner;
        let members = self.scan().await?;
        if !members.is_empty() {
            let names: Vec<String> = members.iter().map(|s| format!("{} ({})", s.ident.pid, s.name)).collect();
            return Err(ProcessError::Survivors { boundary: inner.boundary.clone(), survivors: names.join(", ") });
        }
        // The shim ends by itself once nothing is below it.
        let deadline = tokio::time::Instant::now() + SHIM_LIMIT;
        while !inner.rebooted && inner.start.shim.alive() {
            if tokio::time::Instant::now() >= deadline {
                let _ = inner.start.shim.signal(nix::libc::SIGKILL);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        inner.start.cgroups.remove();
        inner.files.remove().map_err(|error| file_error("remove", &inner.files.dir, error))
    }

    async fn empty(&self) -> Result<usize, ProcessError> {
        let outcome = self.blocking(|inner| empty::empty(&inner.files.dir, inner.boot_start())).await?;
        outcome.map_err(|survivors| ProcessError::Survivors { boundary: self.inner.boundary.clone(), survivors })
    }

    async fn scan(&self) -> Result<Vec<Stat>, ProcessError> {
        self.blocking(|inner| empty::members(&inner.files.dir, inner.boot_start())).await
    }

    /// Scans read all of `/proc`, which takes milliseconds that the other tasks of the thread should not wait for.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, ProcessError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .expect("a scan does not panic")
            .map_err(|source| file_error("scan the processes of", &self.inner.files.dir, source))
    }

    fn recorded_exit(&self) -> Result<Option<ExitStatus>, ProcessError> {
        let path = self.inner.files.exit();
        read_json(&path).map_err(|source| file_error("read", &path, source))
    }
}

impl Inner {
    /// Cgroups and pids of the start, if they still mean anything.
    fn boot_start(&self) -> Option<&Starting> {
        (!self.rebooted).then_some(&self.start)
    }
}
