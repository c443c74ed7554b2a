//! Workers as processes: ours (the example of the crate) and Java's.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use libtest_mimic::Failed;
use parking_lot::Mutex;

/// Which worker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// The example worker of this project.
    Ours,
    /// `powerjob-worker` 5.1.1 in Java.
    Java,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Java => "Java",
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Ours => Self::Java,
            Self::Java => Self::Ours,
        }
    }
}

/// The classes of `tests/java/worker` and what stands for them on our side, so that both answer to the same names.
const NAMES: [&str; 6] = [
    "jw.Empty=empty",
    "jw.Echo=echo",
    "jw.Bc=broadcast",
    "jw.Mp=map_reduce",
    "jw.Mr=map_reduce",
    "jw.MrObject=map_reduce",
];

/// One worker of the app, alive or killed; dropped = killed.
pub(crate) struct Worker {
    pub(crate) kind: Kind,
    /// Its tag, by which jobs name it.
    pub(crate) tag: &'static str,
    pub(crate) port: u16,
    dir: PathBuf,
    app: String,
    server: String,
    child: Mutex<Option<Child>>,
}

impl Worker {
    /// Gives it a port and a directory, starts nothing.
    pub(crate) fn prepare(
        kind: Kind,
        tag: &'static str,
        app: &str,
        server: &str,
        dir: PathBuf,
    ) -> Result<Self, Failed> {
        std::fs::create_dir_all(&dir)?;
        let port = free_port();
        Ok(Self { kind, tag, port, dir, app: app.into(), server: server.into(), child: Mutex::new(None) })
    }

    /// Starts the process (again), on the same port and with what it has stored.
    pub(crate) fn spawn(&self) -> Result<(), Failed> {
        let log = File::options().create(true).append(true).open(self.dir.join("worker.log"))?;
        let mut command = match self.kind {
            Kind::Ours => {
                let mut command = Command::new(example());
                command.arg("--state-dir").arg(self.dir.join("state")).args(["--slots", "64"]);
                command.args(NAMES.iter().flat_map(|name| ["--name", name]));
                command
            }
            Kind::Java => {
                let mut command = Command::new(std::env::var("JAVA_WORKER")?);
                // C1 only: it lives for minutes, beside a dozen others on two cores.
                command.env("JAVA_WORKER_OPTS", "-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1");
                command.arg("-d").arg(self.dir.join("store"));
                command
            }
        };
        command.args(["-a", &self.app, "-s", &self.server, "-t", self.tag, "-p", &self.port.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().map_err(|error| format!("{:?} cannot be started: {error}", command.get_program()))?;
        *self.child.lock() = Some(child);
        Ok(())
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The end of what it printed.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("worker.log")).unwrap_or_default();
        let from = text.char_indices().rev().nth(1500).map_or(0, |(at, _)| at);
        format!("{} {}: {}", self.kind.name(), self.tag, &text[from..])
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn example() -> PathBuf {
    let testrig = std::env::var("TESTRIG_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_testrig").into());
    PathBuf::from(testrig).with_file_name("examples").join("worker")
}

/// A port that is free now and that no other worker of this run is given. Below the range of outgoing connections, so that a
/// worker that is killed finds it free again.
fn free_port() -> u16 {
    static NEXT: Mutex<u16> = Mutex::new(0);
    let mut next = NEXT.lock();
    loop {
        *next += 1;
        let port = 20_000 + u16::try_from(std::process::id() % 11_000).unwrap_or(0) + *next;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}
