//! The `result.json` of a run whose parameters were refused: alone in the directory that the run would have had.

use std::path::PathBuf;

use powerjob_worker::TaskContext;
use serde_json::json;

use super::{
    super::{dir, disk, ending::Ending, state::Runs},
    now_ms,
};
use crate::{
    Environment,
    params::{Params, Problems},
};

/// Writes it where that directory can be told in spite of what is wrong, and nobody else has it. Nobody misses it elsewhere: the
/// result text and the log say the same.
pub(super) async fn leave_result(
    env: &Environment,
    runs: &Runs,
    ctx: &TaskContext,
    params: &Params,
    (problems, ending): (&Problems, Ending),
) {
    let began_ms = now_ms();
    let Some(path) = directory(env, params, ctx.instance_id, began_ms) else { return };
    if disk::room(env, &path).is_err() || !matches!(runs.other_user_of(&path, ctx.instance_id).await, Ok(None)) {
        return;
    }
    let text = |name: &str| params.str(name).filter(|_| !params.problem_with(name));
    let result = json!({
        "v": 1,
        "instanceId": ctx.instance_id.to_string(),
        "jobId": ctx.job_id.to_string(),
        "wfInstanceId": ctx.wf_instance_id.map(|id| id.to_string()),
        "attempt": ctx.attempt,
        "worker": ctx.worker_address,
        "platformTaskId": text("platformTaskId"),
        "testPlanId": text("testPlanId"),
        "triggerUser": text("triggerUser"),
        "traceId": text("traceId"),
        "env": text("env").or(text("envDefault")),
        "modelKey": text("modelKey"),
        "status": "FAILED",
        "ending": ending,
        "startedAtMs": began_ms,
        "endedAtMs": began_ms,
        "logDir": path,
        "stages": [],
        "warnings": params.warnings(),
        "failure": {
            "stage": "plan",
            "kind": "failed",
            "ending": ending,
            "reason": problems.to_string(),
            "problems": problems.list.iter().map(|one| json!({"path": one.path, "text": one.text})).collect::<Vec<_>>(),
        },
    });
    match dir::leave_alone(&path, &result) {
        Ok(true) => {
            runs.dir_made(&path, ctx.instance_id).await;
            ctx.log.info(format!("log directory {}, which holds only the result", path.display()));
        }
        Ok(false) => {}
        Err(error) => ctx.log.warn(format!("the result of the refused run could not be written: {error}")),
    }
}

/// The directory that the run would have had, if what makes its path is good.
fn directory(env: &Environment, params: &Params, instance_id: i64, now_ms: i64) -> Option<PathBuf> {
    let good = |name: &str| params.str(name).filter(|text| !text.is_empty() && !params.problem_with(name));
    // One of its own that is wrong must not lead to the default's place.
    let suffix = match good("logDirSuffix") {
        Some(suffix) => suffix.to_owned(),
        None if params.is_missing("logDirSuffix") => format!("task-{}-{instance_id}", good("platformTaskId")?),
        None => return None,
    };
    let own = match good("env") {
        Some(own) => own,
        None if params.is_missing("env") => good("envDefault")?,
        None => return None,
    };
    let base = env.allow_path(good("hostLogBaseDir")?.as_ref(), crate::Access::Write).ok()?;
    Some(base.join(own).join(dir::day_of(now_ms)).join(suffix))
}
