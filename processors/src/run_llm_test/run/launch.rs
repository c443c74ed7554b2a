//! What a service is given: environment, labels, placeholders.

use powerjob_worker::TaskContext;
use testrig_host::{BoundaryId, LABEL_INSTANCE, LABEL_PLATFORM_TASK};

use super::super::{
    dir::RunDir,
    plan::{Plan, Target},
    service::Launch,
};

/// Linux takes no longer single string into the environment of a program (`MAX_ARG_STRLEN`).
const LONGEST_VALUE: usize = 128 * 1024 - 64;

/// Everything that a service is given, and a warning if something did not fit.
pub(super) fn of(ctx: &TaskContext, plan: &Plan, dir: &RunDir, boundary: BoundaryId) -> (Launch, Option<String>) {
    let who = &plan.who;
    let instance = ctx.instance_id.to_string();
    let mut env = vec![
        ("INSTANCE_ID".to_owned(), instance.clone()),
        ("PLATFORM_TASK_ID".to_owned(), who.platform_task_id.clone()),
        ("TRACE_ID".to_owned(), who.trace_id.clone().unwrap_or_default()),
        ("JOB_PARAMS".to_owned(), ctx.job_params.clone().unwrap_or_default()),
        ("INSTANCE_PARAMS".to_owned(), ctx.instance_params.clone().unwrap_or_default()),
    ];
    let port = plan.service_port.map(|port| port.to_string()).unwrap_or_default();
    if matches!(plan.target, Target::Process(_)) {
        env.push(("SERVICE_PORT".to_owned(), port.clone()));
        env.push(("MODEL_KEY".to_owned(), who.model_key.clone()));
        env.push(("LOG_DIR".to_owned(), dir.path.display().to_string()));
    }
    env.extend(plan.env_vars.clone());
    let too_long: Vec<String> =
        env.iter().filter(|(_, value)| value.len() > LONGEST_VALUE).map(|(name, _)| name.clone()).collect();
    env.retain(|(_, value)| value.len() <= LONGEST_VALUE);
    let warning = (!too_long.is_empty()).then(|| {
        format!(
            "the service does not get {} in its environment: longer than {LONGEST_VALUE} bytes",
            too_long.join(", ")
        )
    });
    let placeholders = vec![
        ("servicePort", port),
        ("modelKey", who.model_key.clone()),
        ("modelVersion", who.model_version.clone().unwrap_or_default()),
        ("logDir", dir.path.display().to_string()),
        ("env", who.env.clone()),
        ("date", dir.date.clone()),
        ("platformTaskId", who.platform_task_id.clone()),
        ("instanceId", instance),
        ("datasetId", plan.load.dataset_id.clone()),
        ("scenario", plan.load.scenario.to_string()),
    ];
    let launch = Launch {
        instance_id: ctx.instance_id,
        boundary,
        log_dir: dir.path.clone(),
        output: dir.service_log.clone(),
        env,
        labels: labels(ctx, plan),
        placeholders,
        service_port: plan.service_port,
        service_port_in: plan.service_port_in.clone(),
    };
    (launch, warning)
}

fn labels(ctx: &TaskContext, plan: &Plan) -> Vec<(String, String)> {
    let who = &plan.who;
    let mut labels: Vec<(String, String)> = who
        .tags
        .iter()
        .filter(|(name, _)| !name.starts_with("testrig."))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            labels.push((name.to_owned(), value.to_owned()));
        }
    };
    add(LABEL_INSTANCE, Some(&ctx.instance_id.to_string()));
    add(LABEL_PLATFORM_TASK, Some(&who.platform_task_id));
    add("testrig.env", Some(&who.env));
    add("testrig.modelKey", Some(&who.model_key));
    add("testrig.modelVersion", who.model_version.as_deref());
    add("testrig.testPlanId", who.test_plan_id.as_deref());
    add("testrig.triggerUser", who.trigger_user.as_deref());
    add("testrig.traceId", who.trace_id.as_deref());
    labels
}

#[cfg(test)]
mod tests;
