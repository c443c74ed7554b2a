//! The stage `teardown`: whatever happened before, the boundary is empty afterwards, or the result says that it is not.

use std::time::Duration;

use testrig_host::accelerators::Released;

use super::{
    super::{
        ending::Ending,
        evidence::Evidence,
        interrupt::Cut,
        plan::Cleanup,
        service::{Fault, Stopped},
        state::{EndKind, FailureRecord, Stage},
    },
    Run, begin,
};

/// What ending a service may take beyond its grace time.
const STOP_LIMIT: Duration = Duration::from_secs(120);
const REMOVE_LIMIT: Duration = Duration::from_secs(120);
/// How long a teardown script may last after somebody ended the run.
const TEARDOWN_GRACE: Duration = Duration::from_secs(20);

impl Run {
    /// Ends everything that the run started. Nothing interrupts it.
    ///
    /// `resumed`: an earlier process of the agent may have told the service to end.
    pub(super) async fn teardown(&mut self, resumed: bool) {
        if let Err(error) = self.enter(Stage::Teardown).await {
            // The store is gone, the boundary is not: go on.
            self.ctx.log.error(&error.reason);
        }
        if let Some(attached) = &mut self.attached {
            attached.stop_watching();
        }
        let timed_out = self.record.failure.as_ref().is_some_and(|failure| failure.kind == EndKind::TimedOut);
        if timed_out && !self.plan.monitor.kill_on_timeout && self.record.service.start_asked {
            let text = format!(
                "monitor.killOnTimeout is false: {} was left running, its accelerators stay leased and nothing was removed",
                self.service.words()
            );
            self.warn(text);
            self.attached = None;
            self.close_stage("ok");
            return;
        }
        let emptied = self.stop_service(resumed).await;
        self.finish_output().await;
        match emptied {
            Ok(()) => {
                self.clean_up().await;
                self.release().await;
            }
            Err(fault) => {
                let text =
                    format!("{} could not be ended, processes of it may be left: {}", self.service.words(), fault.text);
                self.ctx.log.error(&text);
                self.record.warnings.push(text.clone());
                self.record.failure.get_or_insert(FailureRecord {
                    stage: Stage::Teardown,
                    reason: text,
                    last_lines: Vec::new(),
                    kind: EndKind::Failed,
                    retryable: true,
                    ending: fault.ending.unwrap_or(Ending::Unknown),
                    evidence: Evidence { engine: self.service.engine_lost(), ..Evidence::default() },
                });
            }
        }
        self.teardown_script().await;
        self.close_stage("ok");
    }

    async fn stop_service(&mut self, resumed: bool) -> Result<(), Fault> {
        if !self.record.service.create_asked {
            return Ok(());
        }
        if let Some(boundary) = &self.record.service.boundary {
            begin::sweep_parts(&self.shared.env, boundary).await.map_err(Fault::new)?;
        }
        let monitor = self.plan.monitor.clone();
        let stopped =
            tokio::time::timeout(monitor.grace + STOP_LIMIT, self.service.stop(monitor.kill_signal, monitor.grace))
                .await
                .unwrap_or_else(|_| Err(Fault::new("not done in time")))?;
        if let Some(Stopped { exit, before }) = stopped {
            self.ctx.log.info(format!("{} has ended: {exit}", self.service.words()));
            self.record.service.exit.get_or_insert_with(|| exit.clone());
            // Between the end of the load and the stop: a service that nobody told to end was not well.
            if before && !resumed && self.record.failure.is_none() {
                let failure = self.failure(Stage::Teardown, Cut::Exited(exit)).await;
                self.record.failure = Some(failure);
            }
        }
        Ok(())
    }

    /// The rest of the service's output goes into file and journal before anything is removed.
    async fn finish_output(&mut self) {
        if let Some(attached) = self.attached.take()
            && !attached.finish().await
        {
            self.warn("the last output of the service may be missing in the log: it could not be read in time");
        }
    }

    async fn clean_up(&mut self) {
        if !self.record.service.create_asked {
            return;
        }
        let keep = match self.plan.monitor.cleanup {
            Cleanup::Always => false,
            Cleanup::OnSuccess => self.record.failure.is_some(),
            Cleanup::Never => true,
        };
        // A host process leaves only the shim's own notes, which nobody looks at.
        if keep && self.service.kind() == "container" {
            if self.record.service.container_id.is_some() {
                self.ctx.log.info(format!("{} was kept (monitor.cleanupPolicy)", self.service.words()));
            }
            return;
        }
        let removed = tokio::time::timeout(REMOVE_LIMIT, self.service.remove()).await;
        match removed.unwrap_or_else(|_| Err(Fault::new("not done in time"))) {
            Ok(()) => {}
            Err(fault) => {
                self.warn(format!("{} has ended but could not be removed: {}", self.service.words(), fault.text));
            }
        }
    }

    async fn release(&mut self) {
        let Some(boundary) = self.record.service.boundary.clone() else { return };
        match self.shared.env.accelerators.release(&boundary).await {
            Ok(Released::Now) => {
                if !self.record.accelerators.is_empty() {
                    self.ctx.log.info("the accelerators were given back");
                }
            }
            Ok(Released::Later(why)) => {
                self.warn(format!("the accelerators are given back as soon as nothing of this run is on them: {why}"));
            }
            Err(error) => {
                self.warn(format!("the accelerators could not be given back now, the agent tries again: {error}"));
            }
        }
    }

    async fn teardown_script(&mut self) {
        let Some(script) = self.script("teardown", self.plan.teardown_script.clone(), self.dir.teardown_log.clone())
        else {
            return;
        };
        let words = script.process.words();
        let ran = match begin::runner(&self.shared.env) {
            Ok(runner) => {
                runner.run_script(script, self.teardown_is_over()).await.map_err(|error| Fault::of(&error).text)
            }
            Err(error) => Err(error),
        };
        let problem = match ran {
            Ok(outcome) if outcome.timed_out => "not done in time".to_owned(),
            Ok(outcome) if outcome.cancelled => {
                format!("not done within {} s after the run had been ended", TEARDOWN_GRACE.as_secs())
            }
            Ok(outcome) if outcome.exit.success() => return,
            Ok(outcome) => format!("{}; its last lines: {}", outcome.exit, outcome.output_tail.trim()),
            Err(error) => error,
        };
        self.warn(format!("env.teardownScript `{words}` failed: {problem}"));
    }

    /// What a run that was stopped, or whose time is over, still gives to its teardown script.
    fn teardown_is_over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut interrupts = self.interrupts.clone();
        async move {
            interrupts.ended_from_outside().await;
            tokio::time::sleep(TEARDOWN_GRACE).await;
        }
    }
}
