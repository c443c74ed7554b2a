//! The stage `load` where something else than the built-in load generator tests the service: a script on the host.
//!
//! The script lives in the boundary `{run}-test` until the teardown forgets it, so a restarted agent finds the script at
//! work, or how it ended, and never starts it twice.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use testrig_host::{
    ExitStatus, Signal,
    process::{ProcessHandle, ProcessSpec},
};
use testrig_joblog::{Journal, Level, Tail};
use testrig_loadgen::{Arrival, Record, Slo, Summarizer, Window};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    super::{
        guard::Share,
        interrupt::{Cut, Interrupts},
        plan::{Driver, ScriptPlan},
        service::{Fault, fill},
        state::{FailureRecord, Stage},
    },
    Run, begin,
    facts::{self, Place},
    now_ms,
    reported::{self, Reported},
};
use crate::params::mask;

/// The journal's name for what a test script or command writes.
const SOURCE: &str = "test";
/// The part of the run's boundary that holds a test script.
pub(super) const PART: &str = "test";
/// How long a script may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How long its last output may take to arrive in the journal.
const OUTPUT_LIMIT: Duration = Duration::from_secs(30);
/// How long the end of a service is waited for whose test failed.
const SERVICE_END: Duration = Duration::from_secs(1);
/// The longest line of it in the journal.
const MAX_LINE: usize = 32 * 1024;
/// Bytes and lines of its end that a failure keeps.
const TAIL_BYTES: usize = 8 * 1024;
const TAIL_LINES: usize = 10;

/// Brings a growing file into the journal until its writer is gone.
pub(super) struct Follow {
    written: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Follow {
    pub(super) fn new(journal: Arc<Journal>, file: PathBuf) -> Self {
        let written = CancellationToken::new();
        let ended = written.clone();
        let task = async move {
            loop {
                let tail = Tail::new(&file, journal.last_position(SOURCE), MAX_LINE);
                match testrig_joblog::follow(&journal, SOURCE, |_| Level::Info, tail, &ended).await {
                    Ok(_) => return,
                    Err(_) if ended.is_cancelled() => return,
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            }
        };
        Self { written, task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }

    /// The writer is gone: brings the rest. False if that was not done in time.
    pub(super) async fn finish(self) -> bool {
        self.written.cancel();
        tokio::time::timeout(OUTPUT_LIMIT, self.task).await.is_ok()
    }
}

impl Run {
    /// Tests the ready service, with whatever the plan says. `again`: a restart of the agent cut that before.
    pub(super) async fn test(&mut self, again: bool) -> Result<(), FailureRecord> {
        match &self.plan.load.driver {
            Driver::Builtin { .. } => self.load(again).await,
            Driver::Script(script) => {
                let script = script.clone();
                self.by_script(script).await
            }
            Driver::Container(command) => {
                let command = command.clone();
                self.by_command(&command).await
            }
        }
    }

    /// Enters the stage of a test that somebody else makes, with its part of the host's load.
    pub(super) async fn enter_load(&mut self) -> Result<Share, FailureRecord> {
        self.enter(Stage::Load).await?;
        if let Some(cut) = self.interrupts.now().await {
            return Err(self.failure(Stage::Load, cut).await);
        }
        let share = self.share(Stage::Load).await?;
        if let Some(warning) = share.warning.clone() {
            self.warn(warning);
        }
        Ok(share)
    }

    async fn by_script(&mut self, script: ScriptPlan) -> Result<(), FailureRecord> {
        let stage = Stage::Load;
        let share = self.enter_load().await?;
        let handle = match self.begin_script(&script, share.arrival).await {
            Ok(handle) => handle,
            Err(fault) => return Err(self.failure(stage, Cut::Fault(fault)).await),
        };
        let follow = Follow::new(Arc::clone(self.ctx.log.journal()), self.dir.requests.clone());
        let mut interrupts = self.interrupts.clone();
        let ended = tokio::select! {
            // A test that is done is done, whatever happens at the same moment.
            biased;
            exit = handle.wait() => exit.map_err(|error| Cut::Fault(Fault::of(&error))),
            cut = interrupts.next() => Err(cut),
        };
        let ended = truer(ended, &mut interrupts).await;
        let (signal, grace) = if ended.is_ok() { (Signal::KILL, Duration::ZERO) } else { (Signal::TERM, GRACE) };
        let emptied = handle.stop(signal, grace).await;
        drop(share);
        if !follow.finish().await {
            self.warn("the last output of the test script may be missing in the log: it could not be read in time");
        }
        self.record.load_ended_ms = Some(now_ms());
        if let Err(error) = emptied {
            return Err(self.failure(stage, Cut::Fault(Fault::of(&error))).await);
        }
        let words = format!("the test script `{}`", script.command.last().map(String::as_str).unwrap_or_default());
        match ended {
            Ok(exit) => self.judge(&words, &exit).await,
            Err(cut) => {
                // What it had found by then is worth keeping.
                let _ = self.take_figures().await;
                Err(self.failure(stage, cut).await)
            }
        }
    }

    /// The script at work: as an earlier process of the agent left it, or started now.
    async fn begin_script(&mut self, script: &ScriptPlan, arrival: Arrival) -> Result<ProcessHandle, Fault> {
        let runner = begin::runner(&self.shared.env).map_err(Fault::new)?;
        let Some(run) = self.record.service.boundary.clone() else {
            return Err(Fault::new("the run has no boundary"));
        };
        let boundary = run.part(PART).map_err(|error| Fault::of(&error))?;
        if let Some(handle) = runner.adopt(&boundary).await.map_err(|error| Fault::of(&error))? {
            self.ctx.log.info("the test script was taken over where it is");
            return Ok(handle);
        }
        let base_url = self
            .service
            .base_url()
            .ok_or_else(|| Fault::new("the service has no address that the test script could be told"))?;
        let log_dir = self.dir.path.display().to_string();
        let place = Place { base_url, log_dir, instance_id: self.ctx.instance_id, arrival };
        let facts = facts::of(&self.plan, &self.dir, &place);
        let launch = super::launch::of(&self.ctx, &self.plan, &self.dir, boundary.clone()).0;
        let mut command = script.command.clone();
        match &script.args {
            Some(args) => {
                let mut placeholders = facts::placeholders(&facts);
                placeholders.extend(launch.placeholders);
                command.extend(args.iter().map(|arg| fill(arg, &placeholders)));
            }
            None => command.extend(facts::flags(&facts, &script.text)),
        }
        let mut process = ProcessSpec::new(boundary, &command[0], &self.dir.requests);
        process.args = command[1..].to_vec();
        // The run's own variables and what the parameters say are stronger.
        process.env = facts::environment(&facts);
        process.env.extend(self.plan.load.api_key.clone().map(|key| ("API_KEY".to_owned(), key)));
        process.env.extend(launch.env);
        process.work_dir = Some(self.dir.path.clone());
        let shown = mask::command(&command).join(" ");
        self.ctx.log.info(format!("starting the test script: {shown}"));
        self.record.load = Some(self.as_asked("script", &shown, arrival));
        self.record.load_started_ms = Some(now_ms());
        self.save().await.map_err(|failure| Fault::new(failure.reason))?;
        runner.spawn(process).await.map_err(|error| match error {
            testrig_host::process::ProcessError::NotStarted { detail, .. } => {
                Fault::lasting(format!("failed to start the test script `{shown}`: {detail}"))
            }
            other => Fault::of(&other),
        })
    }

    /// The load as it was asked for, for result.json.
    pub(super) fn as_asked(&self, driver: &str, command: &str, arrival: Arrival) -> Value {
        let settings = &self.plan.load;
        let (qps, concurrency) = match arrival {
            Arrival::Closed { concurrency } => (None, Some(concurrency)),
            Arrival::Constant { qps, concurrency } | Arrival::Poisson { qps, concurrency, .. } => {
                (Some(qps), concurrency)
            }
        };
        json!({
            "driver": driver,
            "command": command,
            "scenario": settings.scenario,
            "model": settings.model,
            "arrival": arrival.name(),
            "qps": qps,
            "concurrency": concurrency,
            "warmupSeconds": settings.warmup.as_secs_f64(),
            "runSeconds": settings.run.as_secs_f64(),
            "datasetId": settings.dataset_id,
        })
    }

    /// The verdict on a test that ended by itself.
    pub(super) async fn judge(&mut self, words: &str, exit: &ExitStatus) -> Result<(), FailureRecord> {
        if let Some(load) = self.record.load.as_mut().and_then(Value::as_object_mut) {
            load.insert("exit".into(), json!(exit));
        }
        let figures = self.take_figures().await;
        let said = figures.as_ref().ok().and_then(|reported| reported.message.clone());
        let fault = if !exit.success() {
            let said = said.map(|said| format!(", it says: {said}")).unwrap_or_default();
            Some(Fault::new(format!("{words} failed: {exit}{said}{}", self.test_tail())))
        } else {
            match figures {
                Err(text) => Some(Fault::new(format!("{words} left figures that cannot be used: {text}"))),
                Ok(Reported { success: Some(false), .. }) => {
                    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
                    Some(Fault::new(format!("{words} says in metrics.json that it did not succeed{said}")))
                }
                Ok(_) => None,
            }
        };
        let cut = match fault {
            None => self.harm().await,
            Some(fault) => Some(Cut::Fault(fault)),
        };
        match cut {
            None => {
                self.close_stage("ok");
                Ok(())
            }
            Some(cut) => Err(self.failure(Stage::Load, cut).await),
        }
    }

    /// Its last lines, as the end of a sentence.
    fn test_tail(&self) -> String {
        let text = testrig_host::tail::last_bytes(&self.dir.requests, 0, TAIL_BYTES);
        let lines: Vec<&str> = text.lines().collect();
        let lines = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        if lines.is_empty() { String::new() } else { format!("; its last lines:\n  | {}", lines.join("\n  | ")) }
    }

    /// Takes what the test left: figures of `metrics.json`, and those of the records that it wrote.
    pub(super) async fn take_figures(&mut self) -> Result<Reported, String> {
        let (file, records, slo) = (self.dir.reported.clone(), self.dir.metrics.clone(), self.plan.load.slo);
        let read = tokio::task::spawn_blocking(move || (reported::read(&file), summary_of(&records, slo)));
        let (reported, summary) = read.await.map_err(|error| format!("reading them ended: {error}"))?;
        let mut metrics = match summary {
            Ok(summary) => summary,
            Err(text) => {
                self.warn(format!("the records of the test cannot be read: {text}"));
                Map::new()
            }
        };
        let reported = reported?.unwrap_or_default();
        if !reported.ignored.is_empty() {
            self.warn(format!("metrics.json: not used are {}", reported.ignored.join(", ")));
        }
        metrics.extend(reported.figures.clone());
        metrics.extend(reported.failures.clone().map(|failures| ("failures".to_owned(), failures)));
        if !metrics.is_empty() {
            self.record.metrics = Some(Value::Object(metrics));
        }
        if let Some(load) = self.record.load.as_mut().and_then(Value::as_object_mut) {
            load.insert("reported".into(), json!(reported.figures.keys().collect::<Vec<_>>()));
            load.insert("message".into(), json!(reported.message));
        }
        if !reported.figures.is_empty()
            && let Err(error) = self.pass_on(&reported)
        {
            self.warn(format!("the figures of metrics.json could not be written into the record file: {error}"));
        }
        Ok(reported)
    }

    /// Writes the figures as a line of the record file, which is what AggregateMetrics and whoever unpacks an archive reads.
    fn pass_on(&self, reported: &Reported) -> std::io::Result<()> {
        use std::io::Write;
        let line = json!({
            "v": 1,
            "reported": reported.figures,
            "failures": reported.failures,
            "start_unix_ms": self.record.load_started_ms,
            "tags": super::load::tags(self),
        });
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&self.dir.metrics)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}

/// A test that fails because its service has ended fails a moment before anybody knows of that; the end of the service is the
/// truer word.
pub(super) async fn truer(ended: Result<ExitStatus, Cut>, interrupts: &mut Interrupts) -> Result<ExitStatus, Cut> {
    match ended {
        Ok(exit) if !exit.success() => tokio::time::timeout(SERVICE_END, interrupts.next()).await.map_or(Ok(exit), Err),
        other => other,
    }
}

/// The figures of the records that a test wrote; none of a file without records.
fn summary_of(file: &std::path::Path, slo: Slo) -> std::io::Result<Map<String, Value>> {
    use std::io::BufRead;
    let mut sums = Summarizer::new(Window::default(), slo);
    let mut any = false;
    for line in std::io::BufReader::new(std::fs::File::open(file)?).split(b'\n') {
        if let Some(record) = std::str::from_utf8(&line?).ok().and_then(|line| Record::parse(line).ok()) {
            sums.add(&record);
            any = true;
        }
    }
    let figures = any.then(|| serde_json::to_value(sums.finish()).ok()).flatten();
    Ok(match figures {
        Some(Value::Object(figures)) => figures,
        _ => Map::new(),
    })
}
