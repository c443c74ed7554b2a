//! The small worker built on the crate (`crates/powerjob/examples/worker.rs`) as a process.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use libtest_mimic::Failed;

use super::{App, Parts, agent::free_port, eventually};

/// A running example worker; dropped = killed.
pub(crate) struct ExampleWorker {
    child: Option<Child>,
    /// Its directory, with `worker.log` and `state/`.
    pub(crate) dir: PathBuf,
    /// Port of the job protocol.
    pub(crate) port: u16,
    app: App,
    servers: String,
    /// Further arguments.
    flags: Vec<String>,
}

impl ExampleWorker {
    /// Starts it for this app and waits until the server lists it.
    pub(crate) async fn start(app: &App) -> Result<Self, Failed> {
        Self::made(app, Parts::get().server(), &[]).await
    }

    /// The same with other servers than the tests' own, `host:port,..`.
    pub(crate) async fn on(app: &App, servers: &str) -> Result<Self, Failed> {
        Self::made(app, servers, &[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn start_with(app: &App, flags: &[&str]) -> Result<Self, Failed> {
        Self::made(app, Parts::get().server(), flags).await
    }

    async fn made(app: &App, servers: &str, flags: &[&str]) -> Result<Self, Failed> {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (dir, port) = (Parts::get().dir("worker"), free_port());
        let mut worker = Self { child: None, dir, port, app: app.clone(), servers: servers.to_owned(), flags };
        worker.spawn()?;
        worker.wait_listed().await?;
        Ok(worker)
    }

    /// Starts the process (again) on the same port and state.
    pub(crate) fn spawn(&mut self) -> Result<(), Failed> {
        let log = File::options().create(true).append(true).open(self.dir.join("worker.log"))?;
        let program = Parts::get().testrig.with_file_name("examples").join("worker");
        let mut command = Command::new(&program);
        command.args(["-a", &self.app.name, "-s", &self.servers, "-p", &self.port.to_string(), "--state-dir"]);
        command.arg(self.dir.join("state")).args(&self.flags).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command
            .spawn()
            .map_err(|e| format!("{} (cargo build -p powerjob-worker --example worker): {e}", program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the server lists it.
    pub(crate) async fn wait_listed(&self) -> Result<(), Failed> {
        let address = format!(":{}", self.port);
        eventually("the server lists the worker", || async {
            let rows = self.app.api.list_workers(self.app.id).await.map_err(|e| e.to_string())?;
            let seen = format!("{rows:?}");
            if seen.contains(&address) { Ok(()) } else { Err(format!("{seen}; {}", self.log())) }
        })
        .await
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The texts of an instance's journal.
    pub(crate) fn journal(&self, instance: i64) -> Result<Vec<String>, Failed> {
        let lines = self.lines(instance)?.ok_or("the worker has a journal of the instance")?;
        Ok(lines.into_iter().map(|line| line.text).collect())
    }

    /// The lines of an instance's journal, if it has one.
    pub(crate) fn lines(&self, instance: i64) -> Result<Option<Vec<testrig_joblog::Line>>, Failed> {
        let scratch = testrig_store::Store::open_in_memory(testrig_joblog::MIGRATIONS)?;
        let journals = testrig_joblog::Journals::open(
            &self.dir.join("state/journals"),
            testrig_joblog::Limits::default(),
            scratch,
        )?;
        let Some(journal) = journals.existing(instance)? else { return Ok(None) };
        let mut all = Vec::new();
        loop {
            let lines = journal.read(all.len() as u64, 1000, 8 << 20)?;
            if lines.is_empty() {
                return Ok(Some(all));
            }
            all.extend(lines);
        }
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("worker.log")).unwrap_or_default()
    }
}

impl Drop for ExampleWorker {
    fn drop(&mut self) {
        self.kill();
    }
}
