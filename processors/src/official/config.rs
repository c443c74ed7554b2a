//! `ConfigProcessor`: hands a configuration out to the hosts.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use parking_lot::RwLock;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext};
use serde_json::Value;

use super::{fields::Fields, params};
use crate::{Access, Environment};

/// Its class name.
pub(super) const CLASS: &str = "tech.powerjob.official.processors.impl.ConfigProcessor";

/// What the last run on this agent handed out.
static CONFIG: RwLock<Option<Arc<Value>>> = RwLock::new(None);

/// The `config` that ConfigProcessor was last given on this agent, for code that runs inside it.
pub fn fetch_config() -> Option<Arc<Value>> {
    CONFIG.read().clone()
}

/// `{"config":{..},"persistentFileName":"/path"}`.
pub(super) struct Config {
    env: Arc<Environment>,
}

impl Config {
    pub(super) fn new(env: Arc<Environment>) -> Self {
        Self { env }
    }

    fn update(&self, ctx: &TaskContext, fields: &Fields) -> Result<(), String> {
        let config = fields.get("config").cloned().unwrap_or_default();
        if let Some(file) = fields.some_text("persistentFileName") {
            let path = self.env.allow_path(Path::new(&file), Access::Write);
            let path = path.map_err(|denied| format!("persistentFileName: {denied}"))?;
            let write = |doing: &str, result: std::io::Result<()>| {
                result.map_err(|error| format!("failed to {doing} `{}`: {error}", path.display()))
            };
            if let Some(dir) = path.parent() {
                write("create the folder of", std::fs::create_dir_all(dir))?;
            }
            // Readers see the old text or the new one, never a half.
            let new = path.with_extension(format!("{}.new", ctx.instance_id));
            write("write", std::fs::write(&new, config.to_string()))?;
            write("replace", std::fs::rename(&new, &path))?;
            ctx.log.info(format!("the configuration is in {}", path.display()));
        }
        *CONFIG.write() = Some(Arc::new(config));
        Ok(())
    }
}

#[async_trait]
impl Processor for Config {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let text = params::of(&ctx);
        params::tell(&ctx, text);
        let fields = match Fields::read(text) {
            Ok(fields) => fields,
            Err(error) => return ProcessResult::rejected(format!("the parameters of ConfigProcessor: {error}")),
        };
        let Some(fields) = fields.filter(|fields| fields.get("config").is_some_and(Value::is_object)) else {
            ctx.log
                .error("the parameters hold no `config`; accepted: {\"config\":{..},\"persistentFileName\":\"/path\"}");
            return ProcessResult::rejected("CONFIG_IS_NULL");
        };
        match self.update(&ctx, &fields) {
            Ok(()) => ProcessResult::success("UPDATE_SUCCESS"),
            Err(error) => {
                ctx.log.error(&error);
                ProcessResult::failed(error)
            }
        }
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task_rig::Rig;

    #[tokio::test]
    async fn a_config_is_kept_and_written_whole_inside_of_the_roots() {
        let rig = Rig::new();
        let processor = Config::new(Arc::new(rig.environment()));
        let file = rig.dir.path().join("etc/app.json");
        let params = json!({"config": {"k": ["v", 1]}, "persistentFileName": file});
        let mut ctx = rig.task(1, &params, &Value::Null);
        ctx.instance_params = None;
        assert_eq!(processor.process(ctx.clone()).await, ProcessResult::success("UPDATE_SUCCESS"));
        assert_eq!(std::fs::read_to_string(&file).expect("written"), r#"{"k":["v",1]}"#);
        assert_eq!(fetch_config().as_deref(), Some(&json!({"k": ["v", 1]})));
        assert_eq!(std::fs::read_dir(file.parent().expect("a folder")).expect("folder").count(), 1);
        ctx.job_params = Some(json!({"config": {}, "persistentFileName": "/etc/x"}).to_string());
        let result = processor.process(ctx).await;
        assert!(!result.success && result.message.contains("[paths] allowed_roots"), "{result:?}");
    }

    #[tokio::test]
    async fn without_a_config_it_fails_with_the_word_that_java_says() {
        let rig = Rig::new();
        let processor = Config::new(Arc::new(rig.environment()));
        for params in [None, Some("{}".to_owned()), Some("{'persistentFileName':'/x'}".to_owned())] {
            let mut ctx = rig.task(2, &Value::Null, &Value::Null);
            (ctx.job_params, ctx.instance_params) = (params, None);
            assert_eq!(processor.process(ctx).await, ProcessResult::rejected("CONFIG_IS_NULL"));
        }
    }
}
