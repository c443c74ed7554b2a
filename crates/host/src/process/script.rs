//! Scripts that run to their end: set-up, teardown, test scripts, health check commands.

use std::time::Duration;

use super::runner::{ProcessError, ProcessRunner};
use super::spec::ProcessSpec;
use crate::{ExitStatus, Signal};

/// A script to be run to its end.
#[derive(Clone, Debug)]
pub struct ScriptSpec {
    /// What to start. Its output files get the whole output.
    pub process: ProcessSpec,
    /// How long it may run before it is stopped.
    pub limit: Duration,
    /// How long it may take to end after SIGTERM before it is killed.
    pub grace: Duration,
    /// How many bytes of the end of its standard output file go into the outcome.
    pub keep: usize,
}

/// How a script ended. Its boundary is empty by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptOutcome {
    /// How its main process ended.
    pub exit: ExitStatus,
    /// The time limit was reached and it was stopped.
    pub timed_out: bool,
    /// The caller asked for its end.
    pub cancelled: bool,
    /// The end of what it wrote in this run.
    pub output_tail: String,
}

impl ProcessRunner {
    /// Runs a script until it ends, its limit is reached or `cancel` is ready; then empties its boundary.
    ///
    /// A boundary of the same name that a killed agent left behind is emptied first: the script starts anew.
    ///
    /// # Errors
    /// [`ProcessError`] if it could not be started or its boundary not be emptied.
    pub async fn run_script(
        &self,
        spec: ScriptSpec,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<ScriptOutcome, ProcessError> {
        if let Some(left) = self.adopt(&spec.process.boundary).await? {
            left.stop(Signal::KILL, Duration::ZERO).await?;
            left.forget().await?;
        }
        let output = spec.process.stdout.clone();
        let begin = std::fs::metadata(&output).map_or(0, |meta| meta.len());
        let handle = self.spawn(spec.process).await?;
        let mut cancelled = false;
        let ended = tokio::select! {
            // The end first: a script that has ended is not timed out.
            biased;
            exit = handle.wait() => Some(exit?),
            () = tokio::time::sleep(spec.limit) => None,
            () = cancel => { cancelled = true; None }
        };
        let signal = if ended.is_some() { Signal::KILL } else { Signal::TERM };
        let report = handle.stop(signal, spec.grace).await?;
        let outcome = ScriptOutcome {
            timed_out: ended.is_none() && !cancelled,
            cancelled,
            exit: ended.unwrap_or(report.exit),
            output_tail: crate::tail::last_bytes(&output, begin, spec.keep),
        };
        handle.forget().await?;
        Ok(outcome)
    }
}
