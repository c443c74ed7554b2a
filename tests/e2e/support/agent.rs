//! An agent as a real process: started, killed, restarted on the same state directory and port.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use libtest_mimic::Failed;
use serde_json::Value;

use super::{Parts, eventually, eventually_within, parts::unique};

/// How an agent is started.
#[derive(Clone, Debug)]
pub(crate) struct AgentOptions {
    /// App name on the server.
    pub(crate) app: String,
    /// `host:port` list of servers.
    pub(crate) servers: Vec<String>,
    /// Slots of its lane.
    pub(crate) slots: usize,
    /// Further keys of its lane, as TOML lines.
    pub(crate) lane: String,
    /// Further TOML, appended to the configuration.
    pub(crate) more: String,
    /// Further environment.
    pub(crate) env: Vec<(String, String)>,
}

impl AgentOptions {
    /// An agent of this app on the tests' server.
    pub(crate) fn new(app: &str) -> Self {
        let servers = vec![Parts::get().powerjob.clone().unwrap_or_else(|| "127.0.0.1:1".into())];
        Self { app: app.into(), servers, slots: 8, lane: String::new(), more: String::new(), env: Vec::new() }
    }

    /// Appends TOML (whole tables) to the configuration.
    pub(crate) fn with(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self.more.push('\n');
        self
    }
}

/// A running agent and its directory; dropped = killed.
pub(crate) struct Agent {
    /// Its directory: `config.toml`, `state/`, `agent.log`, `logs/`, `archive/`.
    pub(crate) dir: PathBuf,
    /// Port of the lane.
    pub(crate) port: u16,
    /// `host:port` of the admin port.
    pub(crate) admin: String,
    options: AgentOptions,
    child: Option<Child>,
}

impl Agent {
    /// Starts one and waits until the server lists it.
    pub(crate) async fn start(name: &str, options: AgentOptions) -> Result<Self, Failed> {
        let mut agent = Self::prepare(name, options)?;
        agent.spawn()?;
        agent.wait_listed().await?;
        Ok(agent)
    }

    /// Writes the configuration, starts nothing.
    pub(crate) fn prepare(name: &str, options: AgentOptions) -> Result<Self, Failed> {
        let dir = Parts::get().dir(name);
        let (port, admin_port) = (free_port(), free_port());
        let admin = format!("127.0.0.1:{admin_port}");
        let agent = Self { dir, port, admin, options, child: None };
        agent.write_config()?;
        Ok(agent)
    }

    fn write_config(&self) -> Result<(), Failed> {
        for sub in ["logs", "archive", "state"] {
            std::fs::create_dir_all(self.dir.join(sub))?;
        }
        let o = &self.options;
        let roots = [self.dir.display().to_string()];
        let text = format!(
            "[powerjob]\napp = {:?}\nservers = {:?}\n[[lane]]\nname = \"main\"\nlisten = \"127.0.0.1:{}\"\nslots = {}\n{}\
             [state]\ndir = {:?}\n[admin]\nlisten = {:?}\n[paths]\nallowed_roots = {:?}\n{}",
            o.app,
            o.servers,
            self.port,
            o.slots,
            o.lane,
            self.dir.join("state").display().to_string(),
            self.admin,
            roots,
            o.more
        );
        std::fs::write(self.dir.join("config.toml"), text)?;
        Ok(())
    }

    /// Starts the process (again); the output goes to `agent.log`.
    pub(crate) fn spawn(&mut self) -> Result<(), Failed> {
        let log = File::options().create(true).append(true).open(self.dir.join("agent.log"))?;
        let mut command = Command::new(&Parts::get().testrig);
        command.args(["agent", "--config"]).arg(self.dir.join("config.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&self.dir);
        if let Some(docker) = &Parts::get().docker {
            command.env("DOCKER_HOST", docker);
        }
        command.envs(self.options.env.iter().map(|(k, v)| (k, v)));
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Waits until the agent says that the server takes its heartbeats and the server lists it.
    pub(crate) async fn wait_listed(&self) -> Result<(), Failed> {
        eventually("the server lists the agent", || async {
            let ready = self.get("/readyz").await?;
            if ready["ready"] == true { Ok(()) } else { Err(format!("{ready}; agent.log: {}", self.tail())) }
        })
        .await
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits until the process has ended; its exit code.
    pub(crate) async fn terminate(&mut self) -> Result<Option<i32>, Failed> {
        self.signal(nix::sys::signal::Signal::SIGTERM)?;
        self.exited().await
    }

    /// Sends a signal to the process, if it runs.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) -> Result<(), Failed> {
        let Some(child) = &self.child else { return Ok(()) };
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Waits until the process has ended; its exit code.
    pub(crate) async fn exited(&mut self) -> Result<Option<i32>, Failed> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        eventually_within(Duration::from_secs(60), "the agent ends", || {
            let state = child.try_wait();
            async move {
                match state {
                    Ok(Some(status)) => Ok(status.code()),
                    other => Err(format!("{other:?}")),
                }
            }
        })
        .await
    }

    /// Process id.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// A page of the admin port as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        let client = reqwest::Client::builder().no_proxy().build().map_err(|e| e.to_string())?;
        let answer = client.get(format!("http://{}{path}", self.admin)).send().await.map_err(|e| format!("{e:?}"))?;
        answer.json().await.map_err(|e| e.to_string())
    }

    /// The end of `agent.log`.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
        let from = text.char_indices().rev().nth(3000).map_or(0, |(i, _)| i);
        text[from..].to_owned()
    }

    /// Where its runs keep their logs (`hostLogBaseDir`).
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The address that the server knows it by.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The run directory of a run, by the suffix given as `logDirSuffix`.
    pub(crate) fn run_dir(&self, env: &str, suffix: &str) -> Option<PathBuf> {
        let days = std::fs::read_dir(self.logs().join(env)).ok()?;
        days.flatten().map(|d| d.path().join(suffix)).find(|p| p.is_dir())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        kill_boundaries(&self.dir);
    }
}

/// Ends whatever this agent's runs left, so that a failed test does not disturb others: only processes whose environment or
/// command line names the agent's own directory.
fn kill_boundaries(dir: &Path) {
    let needle = dir.display().to_string();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(&needle) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// A port that is free now and that no other test of this run is given.
pub(crate) fn free_port() -> u16 {
    use std::{collections::HashSet, sync::Mutex};
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let _ = unique();
    loop {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).map_or(0, |a| a.port());
        let mut given = GIVEN.lock().expect("no test panics here");
        if port != 0 && given.get_or_insert_with(HashSet::new).insert(port) {
            return port;
        }
    }
}
