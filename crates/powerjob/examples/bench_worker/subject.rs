//! The two workers that are compared.

use std::{
    fs::File,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Failure,
    app::App,
    options::Options,
    process::{self, Sample},
};

/// Names of the Java worker's processors and what answers to them in ours.
const NAMES: [(&str, &str); 5] =
    [("jw.Empty", "empty"), ("jw.Echo", "echo"), ("jw.Echo", "echo"), ("jw.Bc", "broadcast"), ("jw.Mr", "map_reduce")];

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Java,
}

/// A worker as a process; dropped = killed.
pub(crate) struct Worker {
    child: Child,
    /// From the start of the process to the server's list.
    pub(crate) listed_after: Duration,
    log: PathBuf,
}

impl Worker {
    /// Starts one for the app and waits until the server lists it.
    pub(crate) async fn start(options: &Options, kind: Kind, app: &App) -> Result<Self, Failure> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let dir = options.work.join(format!("{kind:?}-{port}"));
        std::fs::create_dir_all(&dir)?;
        let log = dir.join("worker.log");
        let program = match kind {
            Kind::Ours => &options.ours,
            Kind::Java => options.java.as_ref().context("no Java worker was given")?,
        };
        let mut command = Command::new(program);
        command.args(["-a", &app.name, "-s", &options.server, "-p", &port.to_string()]);
        if kind == Kind::Ours {
            command.arg("--state-dir").arg(dir.join("state"));
            for (java, ours) in NAMES {
                command.arg("--name").arg(format!("{java}={ours}"));
            }
        }
        let out = File::create(&log)?;
        let began = Instant::now();
        let child = command
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let mut worker = Self { child, listed_after: Duration::ZERO, log };
        let address = format!(":{port}");
        while !app.api.list_workers(app.id).await?.iter().any(|row| row.is_online() && row.address.ends_with(&address))
        {
            if let Some(status) = worker.child.try_wait()? {
                bail!("{} ended with {status}; its output: {}", program.display(), worker.log.display());
            }
            if began.elapsed() > Duration::from_secs(90) {
                bail!("{} is not listed after 90 s; its output: {}", program.display(), worker.log.display());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        worker.listed_after = began.elapsed();
        Ok(worker)
    }

    /// Memory, threads and processor time now.
    pub(crate) fn sample(&self) -> Result<Sample, Failure> {
        process::sample(self.child.id())
    }

    /// Lets the highest memory begin anew.
    pub(crate) fn reset_peak(&self) -> Result<(), Failure> {
        let file = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(file, "5").context("failed to reset the peak memory of the worker")
    }

    /// SIGTERM, then SIGKILL after 5 s.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > Duration::from_secs(5) {
                self.child.kill()?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
