//! The log directory of a run and the names in it (design: `{base}/{env}/{yyyyMMdd}/{suffix}`).

use std::{
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::plan::Plan;

/// The files of a run, all there from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunDir {
    /// The directory.
    pub(super) path: PathBuf,
    /// `yyyyMMdd`.
    pub(super) date: String,
    /// Its own name.
    pub(super) suffix: String,
    /// `svc-{modelKey}-{port}.log`.
    pub(super) service_log: PathBuf,
    /// `metrics-{scenario}.log`.
    pub(super) metrics: PathBuf,
    /// `client-req-{scenario}.log`.
    pub(super) requests: PathBuf,
    /// `env-setup.log`.
    pub(super) setup_log: PathBuf,
    /// `env-teardown.log`.
    pub(super) teardown_log: PathBuf,
    /// `system-monitor.log`.
    pub(super) monitor: PathBuf,
    /// `metrics.json`, where a test script leaves its figures; not there from the start.
    pub(super) reported: PathBuf,
    /// `result.json`.
    pub(super) result: PathBuf,
}

/// `result.json` while it is written.
const TEMPORARY: &str = ".result.json.tmp";

/// Where a test script leaves its figures.
pub(super) const REPORTED: &str = "metrics.json";

/// The longest part of a file name that a parameter gives.
const FILE_PART_BYTES: usize = 150;

/// Why a directory is not there.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} `{}`: {source}; check that the agent's user may write there and that the disk has room", path.display())]
pub(super) struct DirError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl RunDir {
    /// The names for a plan. `date` is the run's start day in the agent's zone.
    pub(super) fn of(plan: &Plan, instance_id: i64, date: &str) -> Self {
        let suffix =
            plan.log_suffix.clone().unwrap_or_else(|| format!("task-{}-{instance_id}", plan.who.platform_task_id));
        let path = plan.log_base.join(&plan.who.env).join(date).join(&suffix);
        let scenario = Some(plan.load.scenario.as_str()).filter(|name| !name.is_empty());
        let scenario = scenario.map(|name| format!("-{name}")).unwrap_or_default();
        let port = plan.service_port.map(|port| format!("-{port}")).unwrap_or_default();
        Self {
            service_log: path.join(format!("svc-{}{port}.log", file_part(&plan.who.model_key))),
            metrics: path.join(format!("metrics{scenario}.log")),
            requests: path.join(format!("client-req{scenario}.log")),
            setup_log: path.join("env-setup.log"),
            teardown_log: path.join("env-teardown.log"),
            monitor: path.join("system-monitor.log"),
            reported: path.join(REPORTED),
            result: path.join("result.json"),
            date: date.to_owned(),
            suffix,
            path,
        }
    }

    /// Makes the directory with all files, empty. What is there under the name already is set aside, to the path that is
    /// given back.
    pub(super) fn create(&self, instance_id: i64, attempt: u32) -> Result<Option<PathBuf>, DirError> {
        let aside = self.set_aside(instance_id, attempt)?;
        std::fs::create_dir_all(&self.path).map_err(|source| DirError {
            doing: "create the log directory",
            path: self.path.clone(),
            source,
        })?;
        // First of all whose it is: a restarted agent must know its own directory again.
        self.write_result(
            &json!({"v": 1, "instanceId": instance_id.to_string(), "attempt": attempt, "status": "RUNNING"}),
        )?;
        for file in
            [&self.service_log, &self.metrics, &self.requests, &self.setup_log, &self.teardown_log, &self.monitor]
        {
            std::fs::OpenOptions::new().create(true).append(true).open(file).map_err(|source| DirError {
                doing: "create the log file",
                path: file.clone(),
                source,
            })?;
        }
        Ok(aside)
    }

    /// Writes `result.json` by rename: a reader sees the old or the new one, never half of it.
    pub(super) fn write_result(&self, result: &Value) -> Result<(), DirError> {
        let temporary = self.path.join(TEMPORARY);
        let fail = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| DirError { doing, path, source }
        };
        let text = serde_json::to_string_pretty(result).expect("a value is always JSON") + "\n";
        let written = std::fs::write(&temporary, text).map_err(fail("write", &temporary));
        written
            .and_then(|()| std::fs::rename(&temporary, &self.result).map_err(fail("write", &self.result)))
            .inspect_err(|_| {
                // Half a file, which would only take up room.
                let _ = std::fs::remove_file(&temporary);
            })
    }

    /// Writes over what is in `result.json`, which takes no room on a full disk: it must not go on saying RUNNING.
    pub(super) fn overwrite_result(&self, result: &Value) {
        let write = || {
            let mut text = result.to_string();
            text.push('\n');
            let file = std::fs::OpenOptions::new().write(true).open(&self.result)?;
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)
        };
        if let Err(error) = write() {
            tracing::warn!(file = %self.result.display(), %error, "the result of a run could not even be written in short");
        }
    }

    /// Moves the records of a cut load phase out of what is aggregated: `metrics-{scenario}.cut-N.log`.
    pub(super) fn set_records_aside(&self, cut: u32) -> Result<PathBuf, DirError> {
        let aside = self.metrics.with_extension(format!("cut-{cut}.log"));
        let fail = |source| DirError { doing: "set aside", path: self.metrics.clone(), source };
        match std::fs::rename(&self.metrics, &aside) {
            // A kill between the two steps: what there was is aside already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved.map_err(fail)?,
        }
        std::fs::OpenOptions::new().create(true).append(true).open(&self.metrics).map_err(fail)?;
        Ok(aside)
    }

    fn set_aside(&self, instance_id: i64, attempt: u32) -> Result<Option<PathBuf>, DirError> {
        match std::fs::read_dir(&self.path).map(is_empty) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DirError { doing: "read the log directory", path: self.path.clone(), source }),
            // Somebody made it for us: nothing to set aside.
            Ok(true) => return Ok(None),
            Ok(false) => {}
        }
        let (owner, its_attempt) = owner(&self.result);
        if owner == Some(instance_id) && its_attempt == Some(u64::from(attempt)) {
            return Ok(None);
        }
        let label = match (owner, its_attempt) {
            (Some(owner), Some(attempt)) if owner == instance_id => format!("attempt-{attempt}"),
            (Some(owner), _) => owner.to_string(),
            (None, _) => "unknown".to_owned(),
        };
        let free = |name: &String| !self.path.with_file_name(name).exists();
        let name = std::iter::once(format!("{}.{label}", self.suffix))
            .chain((2..).map(|n| format!("{}.{label}-{n}", self.suffix)))
            .find(free)
            .expect("there is no end of numbers");
        let aside = self.path.with_file_name(&name);
        std::fs::rename(&self.path, &aside).map_err(|source| DirError {
            doing: "set aside the log directory",
            path: self.path.clone(),
            source,
        })?;
        Ok(Some(aside))
    }
}

/// The day of a log directory: `yyyyMMdd` in the agent's zone.
pub(super) fn day_of(ms: i64) -> String {
    let zoned = jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y%m%d").to_string()
}

/// Makes a directory for a `result.json` alone. False, and nothing is done, where anything is there under its name.
pub(super) fn leave_alone(path: &Path, result: &Value) -> Result<bool, DirError> {
    let fail = |doing| {
        let path = path.to_owned();
        move |source| DirError { doing, path, source }
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail("create the directory above"))?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made.map_err(fail("create the log directory"))?,
    }
    let text = serde_json::to_string_pretty(result).expect("a value is always JSON") + "\n";
    std::fs::write(path.join("result.json"), text).map_err(fail("write the result into"))?;
    Ok(true)
}

fn is_empty(entries: std::fs::ReadDir) -> bool {
    entries.filter_map(Result::ok).all(|entry| entry.file_name() == TEMPORARY)
}

/// Whose directory it is, by its `result.json`.
pub(super) fn owner(result: &Path) -> (Option<i64>, Option<u64>) {
    let value: Value =
        std::fs::read(result).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let id = value["instanceId"].as_str().and_then(|id| id.parse().ok());
    (id, value["attempt"].as_u64())
}

/// A model's name as part of a file name.
fn file_part(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c == '/' || c == '\\' || c.is_whitespace() || c.is_control() { '_' } else { c })
        .collect();
    // The rest of the name and the file system's 255 bytes must be kept.
    let end = (0..=plain.len().min(FILE_PART_BYTES)).rev().find(|at| plain.is_char_boundary(*at)).unwrap_or(0);
    plain[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_dir(base: &Path) -> RunDir {
        let path = base.join("dev/20251123/task-1");
        RunDir {
            date: "20251123".into(),
            suffix: "task-1".into(),
            service_log: path.join("svc-m-1.log"),
            metrics: path.join("metrics-chat_completion.log"),
            requests: path.join("client-req-chat_completion.log"),
            setup_log: path.join("env-setup.log"),
            teardown_log: path.join("env-teardown.log"),
            monitor: path.join("system-monitor.log"),
            reported: path.join(REPORTED),
            result: path.join("result.json"),
            path,
        }
    }

    #[test]
    fn every_file_is_there_from_the_start_even_if_empty() {
        let base = tempfile::tempdir().expect("dir");
        let dir = run_dir(base.path());
        assert_eq!(dir.create(7, 1).expect("created"), None);
        for file in [&dir.service_log, &dir.metrics, &dir.requests, &dir.setup_log, &dir.teardown_log, &dir.monitor] {
            assert_eq!(std::fs::metadata(file).expect("there").len(), 0, "{}", file.display());
        }
        assert_eq!(owner(&dir.result), (Some(7), Some(1)));
        assert_eq!(dir.create(7, 1).expect("known again"), None, "the same attempt after a kill of the agent");
    }

    #[test]
    fn a_directory_of_another_instance_is_set_aside_under_its_id_with_a_warning() {
        let base = tempfile::tempdir().expect("dir");
        let dir = run_dir(base.path());
        dir.create(7, 1).expect("created");
        std::fs::write(&dir.metrics, "old").expect("written");
        let aside = dir.create(8, 1).expect("created").expect("set aside");
        assert!(aside.ends_with("task-1.7"), "{aside:?}");
        assert_eq!(
            std::fs::read_to_string(dir.path.with_file_name("task-1.7").join("metrics-chat_completion.log"))
                .expect("kept"),
            "old"
        );
        assert_eq!(std::fs::metadata(&dir.metrics).expect("there").len(), 0);
        // A further attempt of the same instance starts clean, too.
        let aside = dir.create(8, 2).expect("created").expect("set aside");
        assert!(aside.ends_with("task-1.attempt-1"), "{aside:?}");
        std::fs::remove_file(&dir.result).expect("removed");
        assert!(dir.create(9, 1).expect("created").expect("set aside").ends_with("task-1.unknown"));
    }

    #[test]
    fn records_of_a_cut_load_phase_leave_the_file_that_is_aggregated() {
        let base = tempfile::tempdir().expect("dir");
        let dir = run_dir(base.path());
        dir.create(7, 1).expect("created");
        std::fs::write(&dir.metrics, "cut").expect("written");
        let aside = dir.set_records_aside(1).expect("moved");
        assert_eq!(aside.file_name().and_then(|name| name.to_str()), Some("metrics-chat_completion.cut-1.log"));
        assert_eq!(std::fs::read_to_string(aside).expect("kept"), "cut");
        assert_eq!(std::fs::metadata(&dir.metrics).expect("there").len(), 0);
        // Killed right behind the move: the next start goes on.
        std::fs::remove_file(&dir.metrics).expect("removed");
        dir.set_records_aside(2).expect("nothing to move");
        assert_eq!(std::fs::metadata(&dir.metrics).expect("there").len(), 0);
    }

    #[test]
    fn a_models_name_stays_inside_its_file_name() {
        assert_eq!(file_part("Qwen/Qwen2 7B"), "Qwen_Qwen2_7B");
    }
}
