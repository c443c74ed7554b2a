//! `retentionDays`: old archives of this job at the target are removed, and nothing else.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use powerjob_worker::TaskContext;

use super::{
    name,
    plan::{Plan, Retention},
    s3,
    target::{Bucket, Target},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Removes what is too old. Returned are warnings: an archive that cannot be removed does not make the new one less true.
pub(super) async fn apply(plan: &Plan, ctx: &TaskContext) -> Vec<String> {
    let Some(retention) = &plan.retention else { return Vec::new() };
    let days = u32::try_from(retention.days).unwrap_or(u32::MAX);
    let Some(oldest) = SystemTime::now().checked_sub(DAY.saturating_mul(days)) else { return Vec::new() };
    let (removed, warnings) = at_target(plan, oldest).await;
    for gone in removed {
        ctx.log.info(format!("removed {gone}, older than retentionDays {}", retention.days));
    }
    warnings
}

/// Removes this job's archives from before `oldest`; what was removed, and warnings.
pub(super) async fn at_target(plan: &Plan, oldest: SystemTime) -> Outcome {
    let Some(retention) = &plan.retention else { return Outcome::default() };
    // With the default target every day has a directory of its own, and the old ones are in the others.
    let (root, by_day) = match &retention.above_days {
        Some(above) => (above, true),
        None => (&plan.target, false),
    };
    match root {
        Target::Mounted(dir) => {
            let (dir, own) = (dir.clone(), plan.target.address(&plan.archive));
            let (pattern, values) = (retention.pattern.clone(), retention.values.clone());
            let work =
                move || mounted(&dir, by_day, own.as_ref(), oldest, &|found| name::matches(&pattern, &values, found));
            let ended = |error| (Vec::new(), vec![format!("removing old archives ended: {error}")]);
            tokio::task::spawn_blocking(work).await.unwrap_or_else(ended)
        }
        Target::Bucket(bucket) => bucket_objects(bucket, by_day, plan, retention, oldest).await,
    }
}

/// What was removed, and warnings.
type Outcome = (Vec<String>, Vec<String>);

fn mounted(root: &Path, by_day: bool, own: &Path, oldest: SystemTime, ours: &dyn Fn(&str) -> bool) -> Outcome {
    let (mut removed, mut warnings) = (Vec::new(), Vec::new());
    let mut dirs = vec![root.to_owned()];
    if by_day {
        dirs = match std::fs::read_dir(root) {
            Ok(listed) => listed
                .flatten()
                .filter(|e| is_day(&e.file_name().to_string_lossy()) && e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path())
                .collect(),
            Err(error) => {
                return (removed, vec![format!("old archives were not looked for in `{}`: {error}", root.display())]);
            }
        };
    }
    for dir in dirs {
        let Ok(listed) = std::fs::read_dir(&dir) else { continue };
        for entry in listed.flatten() {
            let path = entry.path();
            let old = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.modified().is_ok_and(|at| at < oldest));
            if !old || path == own || !entry.file_name().to_str().is_some_and(ours) {
                continue;
            }
            match std::fs::remove_file(&path) {
                Ok(()) => removed.push(path.display().to_string()),
                Err(error) => {
                    warnings.push(format!("the old archive `{}` could not be removed: {error}", path.display()));
                }
            }
        }
        if by_day {
            // Only an empty one goes.
            let _ = std::fs::remove_dir(&dir);
        }
    }
    (removed, warnings)
}

async fn bucket_objects(
    bucket: &Bucket,
    by_day: bool,
    plan: &Plan,
    retention: &Retention,
    oldest: SystemTime,
) -> Outcome {
    let client = s3::client(bucket);
    let prefix = if bucket.prefix.is_empty() { String::new() } else { format!("{}/", bucket.prefix) };
    let own = plan.target.address(&plan.archive);
    let (mut removed, mut warnings) = (Vec::new(), Vec::new());
    let mut next = None;
    loop {
        let request = client.list_objects_v2().bucket(&bucket.name).prefix(&prefix).set_continuation_token(next);
        let page = match request.send().await {
            Ok(page) => page,
            Err(error) => {
                let text = s3::explain("look for old archives below", bucket, &prefix, &error).message;
                warnings.push(text);
                return (removed, warnings);
            }
        };
        for object in page.contents() {
            let Some(below) = object.key().and_then(|key| key.strip_prefix(&prefix)) else { continue };
            let file = if by_day {
                below.split_once('/').filter(|(day, _)| is_day(day)).map(|(_, file)| file)
            } else {
                Some(below)
            };
            let old =
                object.last_modified().and_then(|at| SystemTime::try_from(*at).ok()).is_some_and(|at| at < oldest);
            let address = format!("{}://{}/{prefix}{below}", bucket.scheme, bucket.name);
            if !old
                || address == own
                || !file.is_some_and(|file| name::matches(&retention.pattern, &retention.values, file))
            {
                continue;
            }
            match client.delete_object().bucket(&bucket.name).key(format!("{prefix}{below}")).send().await {
                Ok(_) => removed.push(address),
                Err(error) => warnings
                    .push(s3::explain("remove the old archive", bucket, &format!("{prefix}{below}"), &error).message),
            }
        }
        next = page.next_continuation_token().map(str::to_owned);
        if next.is_none() {
            return (removed, warnings);
        }
    }
}

fn is_day(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was last written a hundred days ago.
    fn old(path: &Path) {
        std::fs::create_dir_all(path.parent().expect("parent")).expect("dir");
        std::fs::write(path, "x").expect("written");
        let file = std::fs::File::options().write(true).open(path).expect("open");
        file.set_modified(SystemTime::now() - DAY * 100).expect("time set");
    }

    #[test]
    fn only_old_archives_of_the_same_pattern_go_and_empty_days_with_them() {
        let dir = tempfile::tempdir().expect("dir");
        let at = |name: &str| dir.path().join(name);
        for name in [
            "20250101/logs-a.tar.gz",
            "20250102/logs-b.tar.gz",
            "20250102/notes.txt",
            "other/logs-c.tar.gz",
            "20250103/own.tar.gz",
        ] {
            old(&at(name));
        }
        std::fs::write(at("20250102/logs-new.tar.gz"), "x").expect("written");
        let ours = |name: &str| {
            name::matches("logs-{platformTaskId}.tar.gz", &[("platformTaskId", "T".into())], name)
                || name == "own.tar.gz"
        };
        let (removed, warnings) =
            mounted(dir.path(), true, &at("20250103/own.tar.gz"), SystemTime::now() - DAY * 30, &ours);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(removed.len(), 2, "{removed:?}");
        for kept in ["20250102/logs-new.tar.gz", "20250102/notes.txt", "other/logs-c.tar.gz", "20250103/own.tar.gz"] {
            assert!(at(kept).exists(), "{kept}");
        }
        assert!(!at("20250101").exists(), "an empty day");
    }
}
