//! Starting: the old one away, the new one up, its health proved.

use std::{net::TcpListener, time::Instant};

use powerjob_worker::ProcessResult;
use serde_json::json;
use testrig_host::{BoundaryId, ExitStatus, health, tail};

use super::{
    Work,
    host::{Found, KEEP, follow_while, said},
    plan::{Action, Flavour, Health, Method},
    record::Record,
};
use crate::{outbound, params::mask};

/// How a start ended, before it is put into the words of the processor that was called.
pub(super) struct Up {
    pub(super) text: String,
    /// What the script said, where one started the service.
    pub(super) script: Option<(ExitStatus, String)>,
}

/// Why it did not start.
pub(super) enum Down {
    /// The script ended with another code than 0.
    Script(ExitStatus, String),
    /// Anything else.
    Other(String),
}

impl From<String> for Down {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl Work<'_> {
    /// Starts the service, unless the same one is up.
    pub(super) async fn start(&self, method: Method) -> ProcessResult {
        let began = self.begin(method);
        let outcome = tokio::select! {
            biased;
            outcome = began => outcome,
            reason = self.ctx.stop.raised() => {
                let text = match self.stop_known().await {
                    Ok(_) => format!("the job was ended ({reason:?}) while the service started; nothing of it is left"),
                    Err(why) => format!("the job was ended ({reason:?}) while the service started, and it could not be ended: {why}"),
                };
                return ProcessResult::rejected(text);
            }
        };
        match (self.flavour, outcome) {
            (Flavour::Control, Ok(up)) => ProcessResult::success(up.text),
            (Flavour::Control, Err(Down::Script(exit, output))) => {
                ProcessResult::failed(format!("the script ended with {exit}, output:\n{output}"))
            }
            (Flavour::Launcher, Ok(up)) => ProcessResult::success(up.script.map_or(up.text, |(_, output)| output)),
            (Flavour::Launcher, Err(Down::Script(exit, output))) => {
                ProcessResult::failed(format!("python exitCode={}, output:\n{output}", code(&exit)))
            }
            (Flavour::Streaming, Ok(_)) => ProcessResult::success("exitCode=0"),
            (Flavour::Streaming, Err(Down::Script(exit, _))) => {
                ProcessResult::failed(format!("exitCode={}", code(&exit)))
            }
            (_, Err(Down::Other(text))) => ProcessResult::failed(text),
        }
    }

    async fn begin(&self, method: Method) -> Result<Up, Down> {
        let mut record = self.new_record(method)?;
        let known = self.records.get(&self.plan.model).await.map_err(|error| said(&error))?;
        if let Some(old) = known {
            let found = self.host.look(&old).await?;
            let alive = matches!(found, Found::Running(..));
            if alive && old.is_like(&record) && self.plan.action == Action::Start {
                if old.up && self.is_healthy(&old).await {
                    return Ok(Up {
                        text: format!("{} runs already: {}", self.name(), describe(&old, &found)),
                        script: None,
                    });
                }
                if !old.up && matches!(old.method, Method::Command(_)) {
                    self.ctx.log.info("the start was cut; the service is there, going on with its health checks");
                    record = old;
                    return self.until_up(record, None).await;
                }
            }
            self.ctx.log.info(format!("ending the {} that was started before", self.name()));
            self.host.end(&old).await?;
            self.records.remove(&old.model).await.map_err(|error| said(&error))?;
        }
        self.check_port()?;
        // Stored before anything is started: whoever restarts finds it.
        self.records.put(&record).await.map_err(|error| said(&error))?;
        let outcome = self.launch(record).await;
        if outcome.is_err() {
            self.stop_known().await?;
        }
        outcome
    }

    async fn launch(&self, record: Record) -> Result<Up, Down> {
        match &record.method {
            Method::Script(words) => {
                self.ctx.log.info(format!("running {}", mask::command(words).join(" ")));
                let handle = self.host.spawn(&record, words).await?;
                let exit =
                    follow_while(self.ctx, &record.log_file, handle.wait()).await.map_err(|error| said(&error))?;
                let output = tail::last_bytes(&record.log_file, 0, KEEP);
                if !exit.success() {
                    return Err(Down::Script(exit, output));
                }
                self.until_up(record, Some((exit, output))).await
            }
            Method::Command(words) => {
                self.ctx.log.info(format!(
                    "starting {}; its log: {}",
                    mask::command(words).join(" "),
                    record.log_file.display()
                ));
                self.host.spawn(&record, words).await?;
                let log = record.log_file.clone();
                follow_while(self.ctx, &log, self.until_up(record, None)).await
            }
            Method::Compose { file, .. } => {
                self.ctx.log.info(format!("starting the services of {}", file.display()));
                self.host.bring_up(&record).await?;
                self.until_up(record, None).await
            }
            Method::Unit(unit) => {
                self.ctx.log.info(format!("starting the unit {unit}"));
                self.host.bring_up(&record).await?;
                self.until_up(record, None).await
            }
        }
    }

    /// Waits until it is up, keeps that, and tells whoever wants to know.
    async fn until_up(&self, mut record: Record, script: Option<(ExitStatus, String)>) -> Result<Up, Down> {
        let began = Instant::now();
        let passed = if record.checks.kind == Health::None { None } else { Some(self.check(&record).await?) };
        let found = self.host.look(&record).await?;
        if let (Found::Ended(how), None) = (&found, &script) {
            return Err(Down::Other(format!("{} ended at once: {how}", self.name())));
        }
        record.up = true;
        self.records.put(&record).await.map_err(|error| said(&error))?;
        let mut text = format!("{} is up: {}", self.name(), describe(&record, &found));
        if let Some((asked, last)) = passed {
            text.push_str(&format!(
                ", health check {asked} passed after {:.1} s ({last})",
                began.elapsed().as_secs_f64()
            ));
        }
        self.ctx.log.info(&text);
        if let Some(warning) = self.call_back(&record, &found).await {
            text.push_str(&format!("\nwarning: {warning}"));
        }
        Ok(Up { text, script })
    }

    /// Checks until it is up, has ended, or was asked too often; how often it was asked, and what it last said.
    async fn check(&self, record: &Record) -> Result<(u64, String), Down> {
        let (mut asked, mut good, mut last) = (0, 0, String::new());
        loop {
            let next = tokio::time::Instant::now() + record.checks.interval;
            if let Found::Ended(how) = self.host.look(record).await? {
                let end = tail::last_bytes(&record.log_file, 0, 4000);
                let text = format!("{} ended before it was up: {how}; the end of its log:\n{end}", self.name());
                return Err(Down::Other(text));
            }
            let (healthy, detail) = self.probe(record).await;
            asked += 1;
            good = if healthy { good + 1 } else { 0 };
            if detail != last {
                let words = if healthy { "passed" } else { "failed" };
                self.ctx.log.info(format!("health check {asked} {words}: {detail}"));
            }
            last = detail;
            if good >= record.checks.successes {
                return Ok((asked, last));
            }
            if asked >= record.checks.max && !healthy {
                let text = format!("{} was not up after {asked} health checks; the last one: {last}", self.name());
                return Err(Down::Other(text));
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// A script calls back itself: it is given the address.
    async fn call_back(&self, record: &Record, found: &Found) -> Option<String> {
        let url = self.plan.callback.as_deref().filter(|_| !matches!(record.method, Method::Script(_)))?;
        let Found::Running(_, pid) = found else { return None };
        let body = json!({"model": record.model, "port": record.port, "pid": pid, "log_file": record.log_file});
        let told = |text: &str| self.ctx.log.warn(format!("callback: {text}"));
        let sent = outbound::with_retries(|| outbound::post(&self.host.env.http, url, &body, &[]), told).await;
        let why = sent.err()?;
        let warning = format!("the callback to {} failed: {why}", outbound::shown(url));
        self.ctx.log.warn(&warning);
        Some(warning)
    }

    pub(super) async fn is_healthy(&self, record: &Record) -> bool {
        record.checks.kind == Health::None || self.probe(record).await.0
    }

    pub(super) async fn probe(&self, record: &Record) -> (bool, String) {
        let (limit, port) = (record.checks.timeout, record.port.unwrap_or(0));
        let probe = match &record.checks.kind {
            Health::None => return (true, "no health check".into()),
            Health::Http(path) => {
                health::http(&self.host.env.http, &format!("http://127.0.0.1:{port}{path}"), limit).await
            }
            Health::Tcp => health::tcp(([127, 0, 0, 1], port).into(), limit).await,
            Health::Cmd(command) => match self.host.probe(record, command, limit).await {
                Ok(probe) => probe,
                Err(why) => return (false, why),
            },
        };
        (probe.healthy, probe.detail)
    }

    fn new_record(&self, method: Method) -> Result<Record, String> {
        let boundary = BoundaryId::new(self.ctx.instance_id, self.ctx.attempt).part("service");
        let boundary = boundary.map_err(|error| error.to_string())?;
        let now = jiff::Zoned::now();
        let log_file = match &method {
            Method::Command(_) => {
                let dir = &self.plan.log_dir;
                std::fs::create_dir_all(dir)
                    .map_err(|error| format!("failed to create logDir `{}`: {error}", dir.display()))?;
                dir.join(format!("{}-{}.log", self.plan.model, now.strftime("%Y-%m-%d_%H%M%S")))
            }
            _ => self.host.env.state_dir.join("services").join(format!("{}.log", boundary.as_str())),
        };
        Ok(Record {
            model: self.plan.model.clone(),
            path: self.plan.path.clone(),
            port: self.plan.port,
            env: self.plan.env.clone(),
            trace: self.plan.trace.clone(),
            checks: self.plan.checks.clone(),
            started_ms: now.timestamp().as_millisecond(),
            up: false,
            method,
            boundary,
            log_file,
        })
    }

    /// A port that somebody else holds would answer the health check in the service's place.
    fn check_port(&self) -> Result<(), String> {
        let Some(port) = self.plan.port.filter(|_| self.flavour == Flavour::Control) else { return Ok(()) };
        TcpListener::bind(("0.0.0.0", port)).map(drop).map_err(|error| {
            format!(
                "port {port} cannot be used by {}: {error}; end what listens there, or name another port",
                self.name()
            )
        })
    }
}

/// What a service is, in one phrase.
pub(super) fn describe(record: &Record, found: &Found) -> String {
    let mut text = match found {
        Found::Running(what, Some(pid)) => format!("pid {pid} ({what})"),
        Found::Running(what, None) => what.clone(),
        Found::Ended(how) => how.clone(),
    };
    text.extend(record.port.map(|port| format!(", port {port}")));
    match &record.method {
        Method::Command(_) => text.push_str(&format!(", log {}", record.log_file.display())),
        Method::Script(_) => {}
        Method::Compose { file, project } => text.push_str(&format!(", project {project} of {}", file.display())),
        Method::Unit(unit) => text.push_str(&format!(", unit {unit}")),
    }
    text
}

/// The number that Java gives for how a process ended.
fn code(exit: &ExitStatus) -> i32 {
    exit.code.unwrap_or_else(|| 128 + exit.signal.unwrap_or(0))
}
