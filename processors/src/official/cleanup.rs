//! `FileCleanupProcessor`: removes old files whose whole name matches a pattern.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_trait::async_trait;
use fancy_regex::Regex;
use powerjob_worker::{JobLogger, ProcessResult, Processor, RestartPolicy, StopSignal, TaskContext};
use serde_json::Value;

use super::{age, fields::Fields, json, params, pattern};
use crate::{Access, Environment, related};

/// What the agent keeps in its state directory for itself; other folders there may hold runs and archives.
const OWN: [&str; 3] = ["journals", "boundaries", super::script::FOLDER];

/// See the module.
pub(super) struct FileCleanup {
    env: Arc<Environment>,
}

impl FileCleanup {
    pub(super) fn new(env: Arc<Environment>) -> Self {
        Self { env }
    }

    /// All entries, or every mistake in them: nothing is removed while one is wrong.
    fn plan(&self, text: Option<&str>, log: &JobLogger) -> Result<Vec<Sweep>, String> {
        const SHAPE: &str =
            r#"[{"dirPath":"/absolute","filePattern":"regex of the whole name","retentionTime":hours}]"#;
        let text = text.filter(|text| !text.trim().is_empty());
        let list = match text.map(json::parse).transpose()? {
            Some(Value::Array(list)) => list,
            _ => return Err(format!("a JSON array is expected; accepted: {SHAPE}")),
        };
        let (mut sweeps, mut mistakes) = (Vec::new(), Vec::new());
        for (index, entry) in list.into_iter().enumerate() {
            let Value::Object(entry) = entry else {
                mistakes.push(format!("entry {index} is no object; accepted: {SHAPE}"));
                continue;
            };
            match self.entry(&Fields::of(entry)) {
                Ok(Planned::Sweep(sweep)) => sweeps.push(sweep),
                Ok(Planned::Skip(why)) => log.warn(format!("entry {index} is skipped: {why}")),
                Err(mistake) => mistakes.push(format!("entry {index}: {mistake}")),
            }
        }
        if mistakes.is_empty() { Ok(sweeps) } else { Err(mistakes.join("; ")) }
    }

    fn entry(&self, fields: &Fields) -> Result<Planned, String> {
        let (Some(dir), Some(names)) = (fields.some_text("dirPath"), fields.some_text("filePattern")) else {
            return Ok(Planned::Skip("`dirPath` or `filePattern` is empty".to_owned()));
        };
        let names = pattern::whole(&names).map_err(|error| format!("`filePattern`: {error}"))?;
        let hours = fields.int("retentionTime")?.ok_or("`retentionTime` is missing; accepted: hours, 0 or more")?;
        if hours < 0 {
            return Err(format!("`retentionTime` is {hours}; accepted: hours, 0 or more"));
        }
        let path =
            self.env.allow_path(Path::new(&dir), Access::Write).map_err(|denied| format!("`dirPath`: {denied}"))?;
        if !path.is_dir() {
            return Ok(Planned::Skip(format!("`{dir}` does not exist or is no directory")));
        }
        let own = self.env.state_dir.canonicalize().unwrap_or_else(|_| self.env.state_dir.clone());
        if path == own || OWN.iter().any(|name| path.starts_with(own.join(name))) {
            return Err(format!("`dirPath`: `{dir}` holds the agent's own state, which is never cleaned up by a job"));
        }
        Ok(Planned::Sweep(Sweep { dir: path, names, hours, own }))
    }
}

enum Planned {
    Sweep(Sweep),
    Skip(String),
}

#[async_trait]
impl Processor for FileCleanup {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let text = ctx.job_params.as_deref();
        params::tell(&ctx, text);
        let sweeps = match self.plan(text, &ctx.log) {
            Ok(sweeps) => sweeps,
            Err(error) => {
                let error = format!("the jobParams of FileCleanupProcessor: {error}");
                ctx.log.error(&error);
                return ProcessResult::rejected(error);
            }
        };
        let begun = Instant::now();
        let (log, stop) = (ctx.log.clone(), ctx.stop.clone());
        let work = tokio::task::spawn_blocking(move || sweeps.iter().map(|sweep| sweep.run(&log, &stop)).sum::<u64>());
        let cleaned = match work.await {
            Ok(cleaned) => cleaned,
            Err(error) => return ProcessResult::failed(format!("the clean-up failed: {error}")),
        };
        match ctx.stop.reason() {
            Some(reason) => related::ended(reason, &format!("cleaning up; {cleaned} files were removed")),
            None => ProcessResult::success(format!("cost:{},clean:{cleaned}", age::four_digits(begun.elapsed()))),
        }
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

/// One entry.
struct Sweep {
    dir: PathBuf,
    names: Regex,
    hours: i64,
    /// The agent's state directory, which is passed over.
    own: PathBuf,
}

impl Sweep {
    /// How many files it removed. Links are files here: they are removed, never followed.
    fn run(&self, log: &JobLogger, stop: &StopSignal) -> u64 {
        let (now, mut cleaned, mut open) = (SystemTime::now(), 0, vec![self.dir.clone()]);
        while let Some(dir) = open.pop() {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) => {
                    log.error(format!("failed to list `{}`: {error}", dir.display()));
                    continue;
                }
            };
            for entry in entries.flatten() {
                if stop.reason().is_some() {
                    return cleaned;
                }
                let path = entry.path();
                // Of a link its own, not those of its target.
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    if path != self.own {
                        open.push(path);
                    }
                } else if self.is_due(&entry.file_name().to_string_lossy(), now, &meta, log) {
                    match fs::remove_file(&path) {
                        Ok(()) => {
                            log.info(format!("removed {}", path.display()));
                            cleaned += 1;
                        }
                        Err(error) => log.error(format!("failed to remove `{}`: {error}", path.display())),
                    }
                }
            }
        }
        cleaned
    }

    fn is_due(&self, name: &str, now: SystemTime, meta: &fs::Metadata, log: &JobLogger) -> bool {
        match self.names.is_match(name) {
            Ok(true) => meta.modified().is_ok_and(|then| age::hours(now, then) >= self.hours),
            Ok(false) => false,
            Err(error) => {
                log.error(format!("`{name}` cannot be held against the pattern: {error}"));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use powerjob_worker::StopReason;
    use serde_json::json;

    use super::*;
    use crate::task_rig::Rig;

    fn put(path: &Path, hours_ago: u64) {
        fs::create_dir_all(path.parent().expect("parent")).expect("dir");
        fs::write(path, "x").expect("written");
        let then = SystemTime::now() - Duration::from_secs(hours_ago * 3600 + 60);
        fs::File::options().write(true).open(path).and_then(|file| file.set_modified(then)).expect("aged");
    }

    async fn run(rig: &Rig, params: &Value) -> (ProcessResult, String) {
        let ctx = rig.task(1, params, &json!([{"dirPath": "/", "filePattern": ".*", "retentionTime": 0}]));
        let result = FileCleanup::new(Arc::new(rig.environment())).process(ctx.clone()).await;
        (result, rig.log(&ctx))
    }

    #[tokio::test]
    async fn old_files_whose_whole_name_matches_go_at_every_depth_and_links_are_not_followed() {
        let rig = Rig::new();
        let base = rig.dir.path().join("logs");
        put(&base.join("a.log"), 5);
        put(&base.join("deep/er/b.log"), 24);
        put(&base.join("young.log"), 1);
        put(&base.join("a.log.1"), 50);
        let other = rig.dir.path().join("other");
        put(&other.join("kept.log"), 99);
        std::os::unix::fs::symlink(&other, base.join("link")).expect("link");
        // A begun hour counts: 5 h 1 min are 6 hours.
        let params = json!([
            {"dirPath": base, "filePattern": r".*\.log", "retentionTime": 6},
            {"dirPath": base.join("no"), "filePattern": ".*", "retentionTime": 0},
            {"dirPath": "", "filePattern": ".*", "retentionTime": 0},
        ]);
        let (result, log) = run(&rig, &params).await;
        assert!(
            result.success && result.message.starts_with("cost:") && result.message.ends_with(",clean:2"),
            "{result:?}"
        );
        assert!(!base.join("a.log").exists() && !base.join("deep/er/b.log").exists());
        assert!(base.join("young.log").exists() && base.join("a.log.1").exists() && other.join("kept.log").exists());
        assert!(log.contains("WARN entry 1 is skipped") && log.contains("WARN entry 2 is skipped"), "{log}");
    }

    #[tokio::test]
    async fn one_wrong_entry_keeps_everything() {
        let rig = Rig::new();
        let base = rig.dir.path().join("logs");
        put(&base.join("a.log"), 5);
        put(&rig.dir.path().join("state/journals/x"), 5);
        let good = json!({"dirPath": base, "filePattern": ".*", "retentionTime": 0});
        for (bad, text) in [
            (json!({"dirPath": base, "filePattern": ".*"}), "`retentionTime` is missing"),
            (json!({"dirPath": base, "filePattern": "*.log", "retentionTime": 1}), "no regular expression"),
            (json!({"dirPath": "/etc", "filePattern": ".*", "retentionTime": 1}), "[paths] allowed_roots"),
            (json!({"dirPath": base, "filePattern": ".*", "retentionTime": -1}), "`retentionTime` is -1"),
            (
                json!({"dirPath": rig.dir.path().join("state/journals"), "filePattern": ".*", "retentionTime": 0}),
                "own state",
            ),
            (json!({"dirPath": rig.dir.path().join("state"), "filePattern": ".*", "retentionTime": 0}), "own state"),
            (json!(5), "entry 1 is no object"),
        ] {
            let (result, _) = run(&rig, &json!([good, bad])).await;
            assert!(!result.success && result.message.contains(text), "{bad}: {result:?}");
            assert!(base.join("a.log").exists(), "{bad}");
        }
        let (result, _) = run(&rig, &json!({"dirPath": base})).await;
        assert!(!result.success && result.message.contains("a JSON array"), "{result:?}");
    }

    #[tokio::test]
    async fn a_stop_ends_it_and_is_no_success() {
        let rig = Rig::new();
        put(&rig.dir.path().join("logs/a.log"), 5);
        let params = json!([{"dirPath": rig.dir.path().join("logs"), "filePattern": ".*", "retentionTime": 0}]);
        let ctx = rig.task(1, &params, &Value::Null);
        ctx.stop.raise(StopReason::TimedOut);
        let result = FileCleanup::new(Arc::new(rig.environment())).process(ctx).await;
        assert!(!result.success && rig.dir.path().join("logs/a.log").exists(), "{result:?}");
    }
}
