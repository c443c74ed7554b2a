//! What one run of CollectLogs is to do, checked before anything starts.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::{
    name,
    table::TABLE,
    target::{self, Target},
};
use crate::{
    Access, Database, Environment,
    aggregate_metrics::database,
    params::{Input, Params, Problems},
    platform_log,
};

/// A checked plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) task: String,
    pub(super) upstream: String,
    pub(super) env: String,
    pub(super) date: String,
    pub(super) suffix: String,
    /// `{logBaseDir}/{env}/{date}/{logDirSuffix}`, and what RunLLMTest left as `logDir`.
    pub(super) candidates: Vec<PathBuf>,
    pub(super) target: Target,
    pub(super) archive: String,
    pub(super) extra: Vec<PathBuf>,
    pub(super) skip: GlobSet,
    pub(super) retention: Option<Retention>,
    pub(super) callback: Option<String>,
    pub(super) table: Option<ArchiveTable>,
    /// `archiveTempDir` was given; nothing needs it.
    pub(super) temp_dir_given: bool,
}

/// What is removed at the target.
#[derive(Debug)]
pub(super) struct Retention {
    pub(super) days: i64,
    pub(super) pattern: String,
    pub(super) values: Vec<(&'static str, String)>,
    /// The directory above the days (`{uploadBase}/{env}`); none when the job names its target itself.
    pub(super) above_days: Option<Target>,
}

/// Where the archive's address is written.
#[derive(Debug)]
pub(super) struct ArchiveTable {
    pub(super) key: String,
    pub(super) database: Database,
    pub(super) table: String,
}

/// Reads and checks; the warnings belong into the log.
pub(super) fn plan(input: &Input<'_>, env: &Environment) -> Result<(Plan, Params), Problems> {
    let mut params = platform_log::read(env, &TABLE, input);
    let plan = build(&mut params, env);
    params.check()?;
    Ok((plan.expect("without a problem there is a plan"), params))
}

fn build(p: &mut Params, env: &Environment) -> Option<Plan> {
    let (run_env, date, suffix) = (p.string("env"), p.string("date"), p.string("logDirSuffix"));
    let candidates = candidates(p, env, &run_env, &date, &suffix);
    let (target, above_days) = targets(p, env, &run_env, &date);
    let (archive, pattern, values) = archive(p, &run_env, &date, &suffix);
    let extra = extra(p, env);
    let skip = skip(p);
    let retention = p.int("retentionDays").map(|days| Retention { days, pattern, values, above_days });
    let callback = callback(p, env);
    let table = archive_table(p, env);
    Some(Plan {
        task: p.string("platformTaskId"),
        upstream: p.string("upstreamInstanceId"),
        env: run_env,
        date,
        suffix,
        candidates,
        target: target?,
        archive,
        extra,
        skip: skip?,
        retention,
        callback,
        table,
        temp_dir_given: p.given("archiveTempDir"),
    })
}

fn candidates(p: &mut Params, env: &Environment, run_env: &str, date: &str, suffix: &str) -> Vec<PathBuf> {
    let complete = ![run_env, date, suffix].contains(&"");
    let by_rule = p
        .str("logBaseDir")
        .filter(|_| complete)
        .map(|base| ("logBaseDir", Path::new(base).join(run_env).join(date).join(suffix)));
    let left = p.str("logDir").map(|dir| ("logDir", PathBuf::from(dir)));
    if p.str("logBaseDir").is_none() && left.is_none() {
        p.refuse(
            "logBaseDir",
            "is missing, and no upstream node left logDir; accepted: an absolute path, the root of the log tree",
        );
    }
    let mut out: Vec<PathBuf> = Vec::new();
    for (name, path) in by_rule.into_iter().chain(left) {
        match env.allow_path(&path, Access::Read) {
            Ok(path) if !out.contains(&path) => out.push(path),
            Ok(_) => {}
            Err(denied) => p.refuse(name, format!("leads to {denied}")),
        }
    }
    out
}

/// The target of this archive, and the directory above the days where the target is the default one.
fn targets(p: &mut Params, env: &Environment, run_env: &str, date: &str) -> (Option<Target>, Option<Target>) {
    if p.str("uploaderType") == Some("scp") {
        p.refuse("uploaderType", "scp is not served yet; accepted: nfs, s3, minio");
        return (None, None);
    }
    let (field, own) = if p.str("uploadTarget").is_some() { ("uploadTarget", true) } else { ("uploadBase", false) };
    let Some(text) = p.str(field).map(str::to_owned) else {
        p.refuse(
            "uploadBase",
            "is missing; accepted: /mounted/path, file:///path, s3://bucket/prefix or minio://bucket/prefix",
        );
        return (None, None);
    };
    match target::parse(&text, p.str("uploaderType"), p.str("objectStoreKey"), env) {
        Ok(target) if own => (Some(target), None),
        Ok(base) => {
            let above = base.join(run_env);
            (Some(above.join(date)), Some(above))
        }
        Err(text) => {
            p.refuse(field, text);
            (None, None)
        }
    }
}

fn archive(p: &mut Params, run_env: &str, date: &str, suffix: &str) -> (String, String, Vec<(&'static str, String)>) {
    let pattern = p.string("archiveNamePattern");
    // A model's name may hold slashes.
    let model = p.string("modelKey").replace(['/', '\\'], "_");
    let values = vec![
        ("env", run_env.to_owned()),
        ("date", date.to_owned()),
        ("platformTaskId", p.string("platformTaskId")),
        ("upstreamInstanceId", p.string("upstreamInstanceId")),
        ("logDirSuffix", suffix.to_owned()),
        ("modelKey", model.clone()),
    ];
    if pattern.ends_with(".tar.zst") {
        p.refuse(
            "archiveNamePattern",
            "zstd (.tar.zst) is not served yet; accepted: a name that ends with .tar.gz or .tgz",
        );
    } else if !(pattern.ends_with(".tar.gz") || pattern.ends_with(".tgz")) {
        p.refuse("archiveNamePattern", format!("found {pattern:?}; accepted: a name that ends with .tar.gz or .tgz"));
    }
    if pattern.contains(['/', '\\', '\0']) || pattern.chars().any(char::is_control) || pattern.starts_with('.') {
        p.refuse(
            "archiveNamePattern",
            format!("found {pattern:?}; accepted: the name of a file, without a directory and without a leading dot"),
        );
    }
    if model.is_empty() && name::holes(&pattern, &values).contains(&"modelKey") {
        p.refuse("archiveNamePattern", "uses {modelKey}, but no modelKey is known; give it or change the pattern");
    }
    let filled = name::fill(&pattern, &values);
    if filled.len() > 240 {
        p.refuse("archiveNamePattern", format!("gives a name of {} bytes; accepted: at most 240", filled.len()));
    }
    (filled, pattern, values)
}

fn extra(p: &mut Params, env: &Environment) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for (index, path) in p.strings("extraFiles").iter().enumerate() {
        match env.allow_path(Path::new(path), Access::Read) {
            Ok(path) => out.push(path),
            Err(denied) => p.refuse(&format!("extraFiles[{index}]"), denied.to_string()),
        }
    }
    out
}

fn skip(p: &mut Params) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for (index, pattern) in p.strings("skipPatterns").iter().enumerate() {
        // A pattern without a slash means the name, wherever it lies.
        let anywhere =
            if pattern.contains('/') { pattern.trim_start_matches('/').to_owned() } else { format!("**/{pattern}") };
        match GlobBuilder::new(&anywhere).literal_separator(true).build() {
            Ok(glob) => {
                set.add(glob);
            }
            Err(error) => p.refuse(
                &format!("skipPatterns[{index}]"),
                format!("found {pattern:?}, which is no glob: {}", error.kind()),
            ),
        }
    }
    match set.build() {
        Ok(set) => Some(set),
        Err(error) => {
            p.refuse("skipPatterns", format!("cannot be used together: {}", error.kind()));
            None
        }
    }
}

fn callback(p: &mut Params, env: &Environment) -> Option<String> {
    let url = p.str("platformCallbackUrl").map(str::to_owned);
    if !p.flag("notifyArchiveToPlatform") {
        if url.is_some() {
            p.warn("platformCallbackUrl is given, but notifyArchiveToPlatform is not true: the platform is not called");
        }
        return None;
    }
    let Some(url) = url else {
        p.refuse(
            "platformCallbackUrl",
            "is missing, but notifyArchiveToPlatform is true; accepted: a URL (http, https)",
        );
        return None;
    };
    if let Err(denied) = env.allow_url(&url) {
        p.refuse("platformCallbackUrl", denied.to_string());
    }
    Some(url)
}

fn archive_table(p: &mut Params, env: &Environment) -> Option<ArchiveTable> {
    let table = p.str("archiveTable").map(str::to_owned);
    let Some(table) = table else {
        if p.given("resultDbKey") {
            p.warn("resultDbKey is given, but no archiveTable: nothing is written into a database");
        }
        return None;
    };
    if let Err(text) = database::check_name(&table) {
        p.refuse("archiveTable", text);
    }
    let Some(key) = p.str("resultDbKey").map(str::to_owned) else {
        p.refuse(
            "resultDbKey",
            "is missing, but archiveTable is given; accepted: a key of [databases] in the agent's configuration",
        );
        return None;
    };
    match database::choose(&key, env) {
        Ok(database) => Some(ArchiveTable { key, database, table }),
        Err(text) => {
            p.refuse("resultDbKey", text);
            None
        }
    }
}
