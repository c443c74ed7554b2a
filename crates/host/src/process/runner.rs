//! Starting programs under a shim, and finding them again.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::choice::{Boundaries, Held, Systemd, unit_name};
use super::files::{Failed, Files, MainProcess, Starting, read_json, write_json};
use super::handle::ProcessHandle;
use super::spec::ProcessSpec;
use crate::{BoundaryId, ExitStatus};

/// How long a living shim may take to say what became of its program.
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

/// How the shim is called: the agent's own binary with its hidden subcommand. The path of the spec file is appended.
#[derive(Clone, Debug)]
pub struct ShimCommand {
    /// The binary.
    pub program: PathBuf,
    /// What comes before the path of the spec file, e.g. `__shim`.
    pub args: Vec<OsString>,
    /// What holds together what it starts.
    pub boundaries: Boundaries,
}

impl ShimCommand {
    /// `program __shim SPEC`.
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec!["__shim".into()], boundaries: Boundaries::default() }
    }

    /// The same with boundaries that were chosen for this host.
    #[must_use]
    pub fn with(self, boundaries: Boundaries) -> Self {
        Self { boundaries, ..self }
    }
}

/// Why a process could not be started, found or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program itself could not be started: not there, not executable, no such working directory, and so on.
    #[error("failed to start `{program}`: {detail}")]
    NotStarted {
        /// The program with its arguments.
        program: String,
        /// What the system said.
        detail: String,
    },
    /// The boundary exists already: adopt or empty it first.
    #[error("boundary `{0}` exists already: something was started under this name before")]
    Exists(BoundaryId),
    /// The shim failed, which is the agent's own fault or that of its state directory.
    #[error("failed to start the shim of boundary `{boundary}`: {detail}")]
    Shim {
        /// The boundary.
        boundary: BoundaryId,
        /// What went wrong.
        detail: String,
    },
    /// Processes of the boundary could not be ended.
    #[error("boundary `{boundary}` could not be emptied: {survivors} still there after SIGKILL")]
    Survivors {
        /// The boundary.
        boundary: BoundaryId,
        /// Pid and name of each.
        survivors: String,
    },
    /// A file of the state directory.
    #[error("failed to {doing} `{path}`")]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Starts and finds host processes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessRunner {
    state_dir: PathBuf,
    shim: ShimCommand,
}

/// What a boundary's directory says.
enum Found {
    /// Started, alive or not.
    Started(Box<Starting>, Option<MainProcess>),
    /// The program could not be started.
    Failed(String),
    /// Nothing was started, and nothing will be: the directory is gone.
    Nothing,
}

impl ProcessRunner {
    /// A runner that keeps its directories under `state_dir`, which is created. Two agents must not share one.
    ///
    /// # Errors
    /// The directory cannot be created or read.
    pub fn new(state_dir: impl Into<PathBuf>, shim: ShimCommand) -> Result<Self, ProcessError> {
        let state_dir = state_dir.into();
        fs::create_dir_all(&state_dir).map_err(|source| file_error("create", &state_dir, source))?;
        // Absolute, because the path is the marker and the shim may have another working directory.
        let state_dir = fs::canonicalize(&state_dir).map_err(|source| file_error("resolve", &state_dir, source))?;
        Files::sweep(&state_dir).map_err(|source| file_error("clean", &state_dir, source))?;
        Ok(Self { state_dir, shim })
    }

    /// Starts a program. Store the boundary's name before: [`ProcessRunner::adopt`] needs it after a crash.
    ///
    /// # Errors
    /// [`ProcessError::NotStarted`] for what the caller named, [`ProcessError::Exists`] for a boundary that is in use.
    pub async fn spawn(&self, spec: ProcessSpec) -> Result<ProcessHandle, ProcessError> {
        let files = self.files(&spec.boundary);
        if files.dir.exists() && self.adopt(&spec.boundary).await?.is_some() {
            return Err(ProcessError::Exists(spec.boundary));
        }
        // Boxed: else the future of whoever starts something holds two of them.
        let (mut found, mut said) = match &self.shim.boundaries.held {
            Held::Systemd(systemd) => Box::pin(self.attempt(&spec, &files, Some(systemd))).await?,
            Held::Cgroup | Held::Marker => Box::pin(self.attempt(&spec, &files, None)).await?,
        };
        if let (Found::Nothing, Held::Systemd(_)) = (&found, &self.shim.boundaries.held) {
            // It handed out units when the agent started. A start that fails now for want of one would be the host's fault, not
            // the program's, and nothing was started: the next one of the list does.
            let why = said.as_deref().unwrap_or("it ended without a word");
            tracing::warn!(boundary = %spec.boundary, why, "systemd hands out no unit now; control groups are used instead");
            (found, said) = Box::pin(self.attempt(&spec, &files, None)).await?;
        }
        match found {
            Found::Started(start, main) => Ok(ProcessHandle::new(spec.boundary, files, *start, main)),
            Found::Failed(detail) => Err(ProcessError::NotStarted { program: spec.words(), detail }),
            Found::Nothing => Err(ProcessError::Shim {
                boundary: spec.boundary,
                detail: said.unwrap_or_else(|| "it ended without a word".to_owned()),
            }),
        }
    }

    /// One call of the shim, in a unit of its own if `systemd` says so: what became of it, and what it said.
    async fn attempt(
        &self,
        spec: &ProcessSpec,
        files: &Files,
        systemd: Option<&Systemd>,
    ) -> Result<(Found, Option<String>), ProcessError> {
        match fs::create_dir(&files.dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ProcessError::Exists(spec.boundary.clone()));
            }
            Err(source) => return Err(file_error("create", &files.dir, source)),
        }
        write_json(&files.spec(), spec).map_err(|source| file_error("write", &files.spec(), source))?;
        let said = self.run_shim(spec, files, systemd).await;
        Ok((settle(&spec.boundary, files).await?, said))
    }

    /// The process of a boundary that was started before, by this agent or by one that was killed; `None` proves that
    /// nothing was started under this name and nothing will be.
    ///
    /// # Errors
    /// Files of the state directory cannot be read.
    pub async fn adopt(&self, boundary: &BoundaryId) -> Result<Option<ProcessHandle>, ProcessError> {
        let files = self.files(boundary);
        match settle(boundary, &files).await? {
            Found::Started(start, main) => Ok(Some(ProcessHandle::new(boundary.clone(), files, *start, main))),
            Found::Failed(_) | Found::Nothing => Ok(None),
        }
    }

    /// All boundaries that have a directory: what was started and not forgotten.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn list(&self) -> Result<Vec<BoundaryId>, ProcessError> {
        let fail = |source| file_error("list", &self.state_dir, source);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.state_dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Calls the shim, whose first stage ends as soon as the program is started or has failed. What it says is only of use
    /// when the directory says nothing.
    async fn run_shim(&self, spec: &ProcessSpec, files: &Files, systemd: Option<&Systemd>) -> Option<String> {
        let mut command = match systemd {
            None => tokio::process::Command::new(&self.shim.program),
            Some(systemd) => tokio::process::Command::new(systemd.program()),
        };
        let unit = systemd.map(|_| unit_name(spec.boundary.as_str()));
        if let (Some(systemd), Some(unit)) = (systemd, &unit) {
            let description = format!("testrig: {}", spec.boundary);
            command.args(systemd.args(unit, &description, spec.limits())).arg(&self.shim.program);
        }
        command.args(&self.shim.args).arg(files.spec());
        if matches!(self.shim.boundaries.held, Held::Marker) {
            command.arg(crate::shim::NO_CGROUP);
        }
        if let Some(unit) = &unit {
            command.arg(crate::shim::UNIT).arg(unit);
        }
        // A manager that is asked in vain must not hand the unit out later.
        command.kill_on_drop(systemd.is_some());
        let run = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
        let program = systemd.map_or(self.shim.program.as_path(), Systemd::program).display();
        match tokio::time::timeout(START_LIMIT, run).await {
            Err(_) => Some(format!("`{program}` said nothing within {} s", START_LIMIT.as_secs())),
            Ok(Err(error)) => Some(format!("`{program}`: {error}")),
            Ok(Ok(output)) if output.status.success() => None,
            Ok(Ok(output)) => {
                let words = String::from_utf8_lossy(&output.stderr);
                Some(format!("`{program}` ended with {}: {}", output.status, words.trim()))
            }
        }
    }

    fn files(&self, boundary: &BoundaryId) -> Files {
        Files::new(self.state_dir.join(boundary.as_str()))
    }
}

/// Finds out what became of a boundary, waiting for a shim that is just at work.
async fn settle(boundary: &BoundaryId, files: &Files) -> Result<Found, ProcessError> {
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    loop {
        let read = |source| file_error("read", &files.dir, source);
        if let Some(found) = started(files).map_err(read)? {
            return Ok(found);
        }
        match files.try_lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(source) => return Err(file_error("lock", &files.dir, source)),
            // A shim is at work.
            Ok(None) if tokio::time::Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            Ok(None) => {
                return Err(ProcessError::Shim {
                    boundary: boundary.clone(),
                    detail: format!("it runs but has not started its program after {} s", START_LIMIT.as_secs()),
                });
            }
            Ok(Some(lock)) => {
                // No shim is alive, and none can start while the lock is held. It may have written its last before it went.
                if let Some(found) = started(files).map_err(read)? {
                    return Ok(found);
                }
                if let Some(start) = read_json::<Starting>(&files.start()).map_err(read)? {
                    // Killed between the two files: the program may run, unseen. The handle finds it by its marker.
                    return Ok(Found::Started(Box::new(start), None));
                }
                files.remove().map_err(|source| file_error("remove", &files.dir, source))?;
                drop(lock);
                return Ok(Found::Nothing);
            }
        }
    }
}

/// What the files say, if they say anything for certain.
fn started(files: &Files) -> io::Result<Option<Found>> {
    if let Some(Failed { detail }) = read_json(&files.failed())? {
        files.remove()?;
        return Ok(Some(Found::Failed(detail)));
    }
    let main: Option<MainProcess> = read_json(&files.pid())?;
    let ended = read_json::<ExitStatus>(&files.exit())?.is_some();
    if main.is_none() && !ended {
        return Ok(None);
    }
    Ok(read_json(&files.start())?.map(|start| Found::Started(Box::new(start), main)))
}

pub(super) fn file_error(doing: &'static str, path: &Path, source: io::Error) -> ProcessError {
    ProcessError::File { doing, path: path.to_owned(), source }
}
