//! Which record files are meant.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use serde_json::Value;

use crate::{Access, Environment};

/// Where the files are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// `metricsFilePath`: a file or a glob.
    Path(String),
    /// `{fileBaseDir}/{env}/{date or any}/{suffix}/metrics-*.log` of the run of this instance.
    Tree { base: PathBuf, env: String, date: Option<String>, suffix: String, upstream: String },
}

/// The files, in order. None at all is an error.
pub(super) fn files(source: &Source, env: &Environment) -> Result<Vec<PathBuf>, String> {
    let allow = |path: &Path| env.allow_path(path, Access::Read).map_err(|denied| denied.to_string());
    match source {
        Source::Path(text) if !is_glob(text) => {
            let path = allow(Path::new(text))?;
            match path.is_file() {
                true => Ok(vec![path]),
                false => Err(format!(
                    "the record file `{text}` (metricsFilePath) does not exist or is no file; check that the run was on this host"
                )),
            }
        }
        Source::Path(pattern) => {
            let found = of_glob(pattern, &allow)?;
            if found.is_empty() {
                return Err(format!("no file matches `{pattern}` (metricsFilePath)"));
            }
            Ok(found)
        }
        Source::Tree { base, env, date, suffix, upstream } => {
            let dir = run_dir(&allow(base)?, env, date.as_deref(), suffix, upstream)?;
            let found = of_glob(&format!("{}/metrics-*.log", globset::escape(&dir.display().to_string())), &allow)?;
            if found.is_empty() {
                return Err(format!("the run's directory `{}` holds no metrics-*.log", dir.display()));
            }
            Ok(found)
        }
    }
}

/// Whether a path has to be searched for.
pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The directory of one run; several of one name are told apart by the instance in their `result.json`.
fn run_dir(base: &Path, env: &str, date: Option<&str>, suffix: &str, upstream: &str) -> Result<PathBuf, String> {
    let above = base.join(env);
    let shown = format!("{}/{}/{suffix}", above.display(), date.unwrap_or("*"));
    let days = std::fs::read_dir(&above).map_err(|error| {
        format!("failed to look for the run's directory `{shown}`: {error}; check fileBaseDir and env")
    })?;
    let mut found: Vec<PathBuf> = days
        .flatten()
        .filter(|day| date.is_none_or(|date| day.file_name() == date))
        .map(|day| day.path().join(suffix))
        .filter(|dir| dir.is_dir())
        .collect();
    found.sort();
    if found.len() > 1 {
        let ours: Vec<PathBuf> = found.iter().filter(|dir| owner(dir).as_deref() == Some(upstream)).cloned().collect();
        if ours.len() == 1 {
            found = ours;
        }
    }
    match found.as_slice() {
        [one] => match owner(one) {
            Some(other) if other != upstream => Err(format!(
                "the directory `{}` is that of instance {other} by its result.json, not of upstreamInstanceId {upstream}",
                one.display()
            )),
            _ => Ok(one.clone()),
        },
        [] => Err(format!(
            "the run's directory `{shown}` does not exist; check fileBaseDir, env and logDirSuffix, or give metricsFilePath"
        )),
        several => Err(format!("several directories match `{shown}`: {}; give date or metricsFilePath", list(several))),
    }
}

fn owner(dir: &Path) -> Option<String> {
    let bytes = std::fs::read(dir.join("result.json")).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok()?["instanceId"].as_str().map(str::to_owned)
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Files that match, but for the records of cut load phases (`metrics-{scenario}.cut-N.log`).
fn of_glob(pattern: &str, allow: &dyn Fn(&Path) -> Result<PathBuf, String>) -> Result<Vec<PathBuf>, String> {
    let matcher = GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| format!("`{pattern}` (metricsFilePath) is no glob: {}", error.kind()))?
        .compile_matcher();
    // From the last directory that is named in full.
    let plain: PathBuf = Path::new(pattern)
        .iter()
        .take_while(|part| !is_glob(&part.to_string_lossy()) && !part.to_string_lossy().contains('\\'))
        .collect();
    let root = allow(&plain)?;
    let (mut found, mut open) = (Vec::new(), vec![(root, plain)]);
    while let Some((real, named)) = open.pop() {
        let Ok(listed) = std::fs::read_dir(&real) else { continue };
        for entry in listed.flatten() {
            let (real, named) = (entry.path(), named.join(entry.file_name()));
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                open.push((real, named));
            } else if matcher.is_match(&named) && !is_cut(&named) && real.is_file() {
                found.push(allow(&real)?);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn is_cut(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.rsplit_once(".cut-")
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::environment;

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("parent")).expect("dir");
        std::fs::write(path, text).expect("written");
    }

    fn tree(base: &Path, date: Option<&str>) -> Source {
        Source::Tree {
            base: base.to_owned(),
            env: "dev".into(),
            date: date.map(str::to_owned),
            suffix: "task-T-7".into(),
            upstream: "7".into(),
        }
    }

    #[test]
    fn the_rule_finds_the_run_and_leaves_cut_records_out() {
        let dir = tempfile::tempdir().expect("dir");
        let (env, base) = (environment(dir.path()), dir.path().canonicalize().expect("dir"));
        for name in ["metrics-chat.log", "metrics-chat.cut-1.log", "metrics-a.log", "result.log"] {
            put(&base.join("dev/20251123/task-T-7").join(name), "");
        }
        let names = |source: &Source| -> Result<Vec<String>, String> {
            Ok(files(source, &env)?
                .iter()
                .map(|p| p.strip_prefix(&base).expect("inside").display().to_string())
                .collect())
        };
        let wanted = ["dev/20251123/task-T-7/metrics-a.log", "dev/20251123/task-T-7/metrics-chat.log"];
        assert_eq!(names(&tree(&base, None)).expect("found"), wanted);
        assert_eq!(
            names(&Source::Path(format!("{}/dev/*/task-*/metrics-*.log", base.display()))).expect("found"),
            wanted
        );
        assert_eq!(
            names(&Source::Path(format!("{}/**/metrics-chat.log", base.display()))).expect("found"),
            wanted[1..]
        );
        // The same name on another day: only the instance in result.json, or the date, tells them apart.
        put(&base.join("dev/20251124/task-T-7/metrics-chat.log"), "");
        assert!(names(&tree(&base, None)).expect_err("two").contains("several directories"));
        assert_eq!(names(&tree(&base, Some("20251124"))).expect("found"), ["dev/20251124/task-T-7/metrics-chat.log"]);
        put(&base.join("dev/20251123/task-T-7/result.json"), r#"{"instanceId":"7"}"#);
        assert_eq!(names(&tree(&base, None)).expect("found"), wanted);
        put(&base.join("dev/20251124/task-T-7/result.json"), r#"{"instanceId":"8"}"#);
        assert!(names(&tree(&base, Some("20251124"))).expect_err("another's").contains("instance 8"));
    }

    #[test]
    fn what_is_missing_or_outside_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        let env = environment(dir.path());
        let error = |source: Source| files(&source, &env).expect_err("nothing");
        let missing = dir.path().join("metrics-x.log").display().to_string();
        assert!(error(Source::Path(missing.clone())).contains(&missing));
        assert!(error(Source::Path(format!("{}/metrics-*.log", dir.path().display()))).contains("no file matches"));
        assert!(error(Source::Path("/etc/*.conf".into())).contains("[paths] allowed_roots"));
        assert!(error(Source::Path("/etc/passwd".into())).contains("[paths] allowed_roots"));
        assert!(error(tree(dir.path(), None)).contains("fileBaseDir"));
    }
}
