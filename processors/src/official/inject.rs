//! `InjectWorkflowContextProcessor`: puts constants into the workflow's context.

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext};

use super::{fields::Fields, params};

/// Its class name.
pub(super) const CLASS: &str = "tech.powerjob.official.processors.impl.context.InjectWorkflowContextProcessor";

/// Reads `jobParams` alone, a JSON object; every entry of it is appended.
pub(super) struct InjectWorkflowContext;

#[async_trait]
impl Processor for InjectWorkflowContext {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let text = ctx.job_params.as_deref();
        params::tell(&ctx, text);
        let fields = match Fields::read(text) {
            Ok(Some(fields)) => fields,
            Ok(None) => return refuse(&ctx, "there are none"),
            Err(error) => return refuse(&ctx, &error),
        };
        if ctx.wf_instance_id.is_none() {
            ctx.log.warn("this instance is no node of a workflow: there is no context to put anything into");
        }
        for (name, value) in fields.all() {
            ctx.workflow.append(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        ProcessResult::success("")
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

fn refuse(ctx: &TaskContext, why: &str) -> ProcessResult {
    let text = format!("the jobParams of InjectWorkflowContextProcessor must be a JSON object: {why}");
    ctx.log.error(&text);
    ProcessResult::rejected(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task_rig::Rig;

    #[tokio::test]
    async fn every_entry_is_appended_strings_as_they_are_and_the_rest_as_json() {
        let rig = Rig::new();
        let mut ctx = rig.node(1, &json!({}), &json!({"a": "old"}));
        ctx.job_params = Some("{a:'x', n: 42, o: {'p': [1]}, z: null, /* all */ t: true,}".into());
        let result = InjectWorkflowContext.process(ctx.clone()).await;
        assert_eq!(result, ProcessResult::success(""));
        let wanted = [("a", "x"), ("n", "42"), ("o", r#"{"p":[1]}"#), ("t", "true"), ("z", "null")];
        let found = ctx.workflow.appended();
        assert_eq!(found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), wanted);
    }

    #[tokio::test]
    async fn instance_params_are_not_read_and_bad_ones_fail_with_the_reason() {
        let rig = Rig::new();
        let mut ctx = rig.task(2, &json!({}), &json!({"a": 1}));
        ctx.job_params = None;
        let result = InjectWorkflowContext.process(ctx.clone()).await;
        assert!(!result.success && result.message.contains("there are none"), "{result:?}");
        ctx.job_params = Some("{\"a\":".into());
        let result = InjectWorkflowContext.process(ctx.clone()).await;
        assert!(!result.success && result.message.contains("line 1"), "{result:?}");
        assert!(rig.log(&ctx).contains("ERROR the jobParams"), "{}", rig.log(&ctx));
    }
}
