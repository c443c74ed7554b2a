//! The directory of the run that is meant.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::plan::Plan;

/// The directory, and what is to be said about it. One that another run left under the name is never taken for ours.
pub(super) fn directory(plan: &Plan) -> Result<(PathBuf, Option<String>), String> {
    let Some(dir) = plan.candidates.iter().find(|dir| dir.is_dir()) else {
        let tried: Vec<_> = plan.candidates.iter().map(|dir| format!("`{}`", dir.display())).collect();
        return Err(format!(
            "the log directory {} does not exist or is no directory; check logBaseDir, env, date and logDirSuffix, that the run was on this host, \
             and that its directory has not been removed",
            tried.join(" and ")
        ));
    };
    let owner = owner(dir);
    let Some(owner) = owner.filter(|owner| *owner != plan.upstream) else { return Ok((dir.clone(), None)) };
    // RunLLMTest sets the directory of an earlier instance aside under its id.
    let aside = dir.with_file_name(format!("{}.{}", plan.suffix, plan.upstream));
    if aside.is_dir() {
        let note = format!(
            "`{}` is now that of instance {owner}; that of instance {} was set aside as `{}`",
            dir.display(),
            plan.upstream,
            aside.display()
        );
        return Ok((aside, Some(note)));
    }
    Err(format!(
        "the log directory `{}` is that of instance {owner} by its result.json, not of upstreamInstanceId {}; check upstreamInstanceId, date and logDirSuffix",
        dir.display(),
        plan.upstream
    ))
}

/// The instance that `result.json` names; none where there is no such file.
fn owner(dir: &Path) -> Option<String> {
    let bytes = std::fs::read(dir.join("result.json")).ok()?;
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    value["instanceId"].as_str().map(str::to_owned)
}
