//! A service that is a host process under the shim.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use testrig_host::{
    ExitStatus, Signal, health,
    health::Probe,
    process::{ProcessError, ProcessHandle, ProcessRunner, ProcessSpec, ScriptSpec},
};

use super::{Cards, Details, Fault, Found, Launch, Say, Service, Stopped, fill};
use crate::{
    params::mask,
    run_llm_test::{evidence::Oom, monitor::with_network, plan::ProcessPlan},
};

/// Bytes of a health check command's output that are kept.
const KEEP: usize = 2000;

/// `monitor.trackMode: PROCESS`.
pub(in crate::run_llm_test) struct ProcessService {
    runner: ProcessRunner,
    launch: Launch,
    command: Vec<String>,
    memory: Option<u64>,
    cpus: Option<f64>,
    work_dir: Option<PathBuf>,
    handle: Mutex<Option<ProcessHandle>>,
    /// Environment of the lease.
    cards: Mutex<Vec<(String, String)>>,
}

impl ProcessService {
    pub(in crate::run_llm_test) fn new(runner: ProcessRunner, plan: &ProcessPlan, launch: Launch) -> Self {
        let command = plan.command.iter().map(|part| fill(part, &launch.placeholders)).collect();
        Self {
            runner,
            command,
            memory: plan.memory,
            cpus: plan.cpus,
            work_dir: plan.work_dir.clone(),
            launch,
            handle: Mutex::new(None),
            cards: Mutex::default(),
        }
    }

    fn handle(&self) -> Option<ProcessHandle> {
        self.handle.lock().clone()
    }

    /// The run's environment and, stronger, that of its lease.
    fn env(&self) -> Vec<(String, String)> {
        let mut env = self.launch.env.clone();
        env.extend(self.cards.lock().iter().cloned());
        env
    }

    fn spec(&self) -> ProcessSpec {
        let program = self.command.first().cloned().unwrap_or_default();
        let mut spec = ProcessSpec::new(self.launch.boundary.clone(), program, &self.launch.output);
        spec.args = self.command[1..].to_vec();
        spec.env = self.env();
        spec.work_dir = self.work_dir.clone();
        spec.memory = self.memory;
        spec.cpus = self.cpus;
        spec
    }

    /// Ends and forgets what an earlier try left under this boundary.
    async fn clear(&self) -> Result<(), Fault> {
        if let Some(left) = self.runner.adopt(&self.launch.boundary).await.map_err(|e| Fault::of(&e))? {
            left.stop(Signal::KILL, Duration::ZERO).await.map_err(|e| Fault::of(&e))?;
            left.forget().await.map_err(|e| Fault::of(&e))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Service for ProcessService {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn words(&self) -> String {
        format!("the host process `{}`", mask::command(&self.command).join(" "))
    }

    fn details(&self) -> Details {
        Details {
            name: Some(mask::command(&self.command).join(" ")),
            pid: self.handle().and_then(|handle| handle.pid()).map(i64::from),
            address: self.launch.service_port.and_then(|port| self.reachable(port)),
            host_port: self.launch.service_port,
            ..Details::default()
        }
    }

    fn use_cards(&self, cards: Cards) {
        *self.cards.lock() = cards.process_env();
    }

    async fn pull(&self, _say: Say) -> Result<(), Fault> {
        Ok(())
    }

    async fn create(&self, _say: Say) -> Result<(), Fault> {
        self.clear().await?;
        self.launch.check_port_is_free()
    }

    async fn start(&self) -> Result<(), Fault> {
        let handle = self.runner.spawn(self.spec()).await.map_err(|error| match error {
            // The error's own words would show the arguments as they are.
            ProcessError::NotStarted { detail, .. } => {
                Fault::lasting(format!("failed to start `{}`: {detail}", mask::command(&self.command).join(" ")))
            }
            other => Fault::of(&other),
        })?;
        *self.handle.lock() = Some(handle);
        Ok(())
    }

    fn held_by(&self) -> Option<String> {
        self.handle().map(|handle| handle.boundary_kind())
    }

    async fn find(&self) -> Result<Found, Fault> {
        let Some(handle) = self.runner.adopt(&self.launch.boundary).await.map_err(|e| Fault::of(&e))? else {
            return Ok(Found::Nothing);
        };
        let exit = handle.exit().map_err(|e| Fault::of(&e))?;
        *self.handle.lock() = Some(handle);
        Ok(exit.map_or(Found::Running, Found::Ended))
    }

    async fn ended(&self, _say: Say) -> Result<Option<ExitStatus>, Fault> {
        match self.handle() {
            Some(handle) => handle.wait().await.map(Some).map_err(|e| Fault::of(&e)),
            None => Ok(None),
        }
    }

    async fn copy_output(&self) -> Result<(), Fault> {
        // The shim writes the file.
        Ok(())
    }

    fn base_url(&self) -> Option<String> {
        self.launch.service_port.map(|port| format!("http://127.0.0.1:{port}"))
    }

    fn reachable(&self, port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    async fn probe_command(&self, command: &[String], limit: Duration) -> Result<Probe, Fault> {
        let boundary = self.launch.boundary.part("health").map_err(|e| Fault::of(&e))?;
        let output = self.launch.log_dir.join(".health-check.out");
        let program = command.first().map(|program| fill(program, &self.launch.placeholders)).unwrap_or_default();
        let mut process = ProcessSpec::new(boundary, program, &output);
        process.args = command.iter().skip(1).map(|arg| fill(arg, &self.launch.placeholders)).collect();
        process.env = self.env();
        let script = ScriptSpec { process, limit, grace: Duration::from_millis(500), keep: KEEP };
        let probe = health::host_command(&self.runner, script).await;
        // Only the outcome counts; the file would grow with every check.
        let _ = std::fs::remove_file(&output);
        match probe {
            Ok(probe) => Ok(probe),
            // A command that cannot be started will never say that the service is healthy.
            Err(error @ ProcessError::NotStarted { .. }) => {
                Ok(Probe { healthy: false, detail: error.to_string(), took: Duration::ZERO })
            }
            Err(error) => Err(Fault::of(&error)),
        }
    }

    async fn sample(&self) -> Option<Value> {
        let handle = self.handle()?;
        let stats = handle.stats().await.ok()??;
        Some(with_network(serde_json::to_value(stats).ok()?, handle.pid()))
    }

    async fn stop(&self, signal: Signal, grace: Duration) -> Result<Option<Stopped>, Fault> {
        let handle = match self.handle() {
            Some(handle) => Some(handle),
            // A start that was cut may have happened all the same.
            None => self.runner.adopt(&self.launch.boundary).await.map_err(|e| Fault::of(&e))?,
        };
        let Some(handle) = handle else { return Ok(None) };
        let before = handle.exit().map_err(|e| Fault::of(&e))?.is_some();
        let report = handle.stop(signal, grace).await.map_err(|e| Fault::of(&e))?;
        *self.handle.lock() = Some(handle);
        Ok(Some(Stopped { exit: report.exit, before }))
    }

    async fn oom(&self) -> Option<Oom> {
        let kills = self.handle()?.oom_kills();
        kills.is_some().then_some(Oom { kills, engine_flag: None })
    }

    fn engine_lost(&self) -> Option<String> {
        None
    }

    async fn remove(&self) -> Result<(), Fault> {
        match self.handle() {
            Some(handle) => handle.forget().await.map_err(|e| Fault::of(&e)),
            None => Ok(()),
        }
    }
}
