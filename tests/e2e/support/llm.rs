//! Parameters of RunLLMTest runs for tests, and what they leave.

use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::{Agent, Parts, agent::free_port, parts::unique};

/// One run: where it goes and with what.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// `jobParams`.
    pub(crate) params: Value,
    /// `env` and `logDirSuffix`.
    suffix: String,
}

/// The environment of all runs here.
const ENV: &str = "it";

impl Run {
    /// A host process: the stand-in service of the binary itself, with these further flags.
    pub(crate) fn process(agent: &Agent, stub_flags: &[&str]) -> Self {
        let program = Parts::get().testrig.display().to_string();
        let mut command = vec![
            program,
            "llm-stub".into(),
            "--listen".into(),
            "127.0.0.1:{servicePort}".into(),
            "--ttft-ms".into(),
            "10".into(),
            "--itl-ms".into(),
            "1".into(),
            "--tokens".into(),
            "8".into(),
        ];
        command.extend(stub_flags.iter().map(|f| (*f).to_owned()));
        Self::command(agent, &command)
    }

    /// A host process with any command.
    pub(crate) fn command(agent: &Agent, command: &[String]) -> Self {
        let mut run = Self::base(agent);
        run.set("monitor.trackMode", json!("PROCESS"));
        run.set("service.command", json!(command));
        run.set("servicePort", json!(free_port()));
        run
    }

    /// A container of this image, whose service listens on `port`.
    pub(crate) fn container(agent: &Agent, image: &str, port: u16) -> Self {
        let mut run = Self::base(agent);
        run.set("docker.baseImage", json!(image));
        run.set("docker.pullPolicy", json!("Never"));
        run.set("servicePort", json!(port));
        run
    }

    /// A container with llama.cpp's real server and a tiny model.
    pub(crate) fn llama(agent: &Agent) -> Result<Self, Failed> {
        let image = Parts::get().image_llama.as_deref().ok_or("tests with containers are skipped without images")?;
        Ok(Self::container(agent, image, 8080))
    }

    fn base(agent: &Agent) -> Self {
        let suffix = format!("run-{}", unique());
        let params = json!({
            "jobType": "RUN_LLM_TEST", "hostLogBaseDir": agent.logs(), "platformTaskId": format!("T-{suffix}"), "modelKey": "m", "env": ENV,
            "scenario": "chat_completion", "logDirSuffix": suffix,
            "healthCheck": { "path": "/health", "intervalMillis": 200, "maxRetry": 150 },
            "monitor": { "statsSampleIntervalSeconds": 1, "stopTimeoutSeconds": 5 },
            "defaultLoad": { "concurrency": 2, "warmupSeconds": 0, "runSeconds": 2 },
            "test": { "maxTokens": 8 },
        });
        Self { params, suffix }
    }

    /// Sets a parameter by its dotted name.
    pub(crate) fn set(&mut self, path: &str, value: Value) {
        let mut place = &mut self.params;
        for part in path.split('.') {
            if place.is_null() {
                *place = json!({});
            }
            place = place.as_object_mut().expect("parameters are objects").entry(part).or_insert(Value::Null);
        }
        *place = value;
    }

    /// The same, to chain.
    pub(crate) fn with(mut self, path: &str, value: Value) -> Self {
        self.set(path, value);
        self
    }

    /// Its log directory, once it is there.
    pub(crate) fn dir(&self, agent: &Agent) -> Result<PathBuf, Failed> {
        agent
            .run_dir(ENV, &self.suffix)
            .ok_or_else(|| format!("no run directory {} below {}", self.suffix, agent.logs().display()).into())
    }

    /// Its `result.json`.
    pub(crate) fn result(&self, agent: &Agent) -> Result<Value, Failed> {
        let file = self.dir(agent)?.join("result.json");
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Writes a script that can be run.
pub(crate) fn executable(file: &Path, text: &str) -> std::io::Result<()> {
    std::fs::write(file, text)?;
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

/// Processes whose command line holds `needle`, as `pid: command line`.
pub(crate) fn processes_with(needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(needle) && pid != std::process::id() {
            found.push(format!("{pid}: {command}"));
        }
    }
    found
}

/// Names of all containers of the tests' engine (running or not) whose label `testrig.instance` is this instance.
pub(crate) fn containers_of(instance: i64) -> Result<Vec<String>, Failed> {
    let out = std::process::Command::new("docker")
        .args(["-H", Parts::get().docker.as_deref().unwrap_or_default(), "ps", "-a", "--filter"])
        .arg(format!("label=testrig.instance={instance}"))
        .args(["--format", "{{.Names}} {{.Status}}"])
        .output()?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect())
}
