//! Tasks and receivers for the tests of processors.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, http::HeaderMap, routing::post};
use parking_lot::Mutex;
use powerjob_worker::{JobLogger, StopSignal, TaskContext, WorkflowContext};
use serde_json::Value;
use testrig_joblog::{Journals, Limits};
use testrig_store::Store;

/// What a task needs around it.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    journals: Journals,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let migrations = [testrig_joblog::MIGRATIONS, crate::MIGRATIONS].concat();
        let store = Store::open_in_memory(&migrations).expect("store");
        let journals =
            Journals::open(&dir.path().join("journals"), Limits::default(), store.clone()).expect("journals");
        Self { dir, store, journals }
    }

    /// An environment whose only allowed root is the rig's directory, and a database `default` in it.
    pub(crate) fn environment(&self) -> crate::Environment {
        let mut env = crate::testing::environment(self.dir.path());
        let url = format!("sqlite://{}", self.database().display());
        env.databases.insert("default".into(), crate::Database { url, ..Default::default() });
        env
    }

    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.dir.path().join("state/results.db")
    }

    /// A task outside of a workflow.
    pub(crate) fn task(&self, id: i64, job: &Value, instance: &Value) -> TaskContext {
        self.context(id, job, Some(instance.to_string()), None, HashMap::new())
    }

    /// A node of a workflow whose context is this flat object.
    pub(crate) fn node(&self, id: i64, job: &Value, context: &Value) -> TaskContext {
        let values = context.as_object().expect("a flat object").iter();
        let values =
            values.map(|(k, v)| (k.clone(), v.as_str().map_or_else(|| v.to_string(), str::to_owned))).collect();
        self.context(id, job, Some(context.to_string()), Some(1), values)
    }

    fn context(
        &self,
        id: i64,
        job: &Value,
        instance: Option<String>,
        wf: Option<i64>,
        values: HashMap<String, String>,
    ) -> TaskContext {
        TaskContext {
            job_id: 1,
            instance_id: id,
            wf_instance_id: wf,
            processor: "under test".into(),
            job_params: Some(job.to_string()),
            instance_params: instance,
            task: powerjob_worker::Task::single(1, id),
            attempt: 1,
            task_retry_num: 0,
            time_limit: None,
            resumed: false,
            worker_address: "127.0.0.1:1".into(),
            log: JobLogger::new(self.journals.journal(id).expect("journal")),
            stop: StopSignal::new(),
            workflow: WorkflowContext::new(values),
        }
    }

    /// The instance's log so far as one text.
    pub(crate) fn log(&self, ctx: &TaskContext) -> String {
        let lines = ctx.log.journal().read(0, 10_000, 1 << 24).expect("journal");
        lines.iter().map(|line| format!("{} {}\n", line.level.name(), line.text)).collect()
    }
}

/// One request that a receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// A webhook that answers as told and keeps what it got.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    got: Mutex<Vec<Got>>,
    answers: Vec<(u16, &'static str)>,
    next: AtomicUsize,
}

impl Receiver {
    /// Gives these answers in order, the last one for ever.
    pub(crate) async fn answering(answers: &[(u16, &'static str)]) -> Self {
        let shared = Arc::new(Shared { got: Mutex::default(), answers: answers.to_vec(), next: AtomicUsize::new(0) });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("listener");
        let address = listener.local_addr().expect("address");
        let app = Router::new().route("/{*path}", post(keep)).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        Self { address, shared, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: String,
) -> (axum::http::StatusCode, &'static str) {
    let body = serde_json::from_str(&body).unwrap_or(Value::Null);
    shared.got.lock().push(Got { headers, body });
    let at = shared.next.fetch_add(1, Ordering::Relaxed).min(shared.answers.len() - 1);
    let (status, text) = shared.answers[at];
    (axum::http::StatusCode::from_u16(status).expect("a status"), text)
}

#[cfg(test)]
mod tests {
    use crate::{schema, tables};

    /// Every name that the specification gives to the nodes behind a run, and where it is documented to stand.
    const NAMES: [(&str, &[&str]); 3] = [
        (
            "CollectLogs",
            &[
                "logBaseDir",
                "uploadBase",
                "archiveTempDir",
                "uploaderType",
                "retentionDays",
                "archiveNamePattern",
                "platformTaskId",
                "upstreamInstanceId",
                "env",
                "date",
                "logDirSuffix",
                "uploadTarget",
                "objectStoreKey",
                "archiveTable",
                "resultDbKey",
                "extraFiles",
                "skipPatterns",
                "notifyArchiveToPlatform",
                "platformCallbackUrl",
                "testPlatformBaseUrl",
                "traceId",
            ],
        ),
        (
            "AggregateMetrics",
            &[
                "metricsSource",
                "resultDbKey",
                "outputTable",
                "defaultTimeWindowSeconds",
                "fileBaseDir",
                "sourceTable",
                "sourceQuery",
                "objectStorageBase",
                "metricDefinitions",
                "aggStrategy",
                "platformTaskId",
                "upstreamInstanceId",
                "env",
                "modelKey",
                "datasetId",
                "timeRange",
                "metricsFilePath",
                "filterTags",
                "outputTableOverride",
                "extraTags",
            ],
        ),
        (
            "NotifyResult",
            &[
                "defaultChannels",
                "channelConfig.feishu.webhookUrl",
                "channelConfig.feishu.secretRef",
                "channelConfig.dingtalk.webhookUrl",
                "channelConfig.dingtalk.secretRef",
                "channelConfig.wecom.webhookUrl",
                "channelConfig.wecom.secretRef",
                "channelConfig.email.smtpKey",
                "channelConfig.email.to",
                "channelConfig.im.webhookUrl",
                "defaultTemplateId",
                "severityRules",
                "fallbackChannels",
                "notifyOnSuccess",
                "platformTaskId",
                "env",
                "relatedInstances",
                "finalStatus",
                "summaryUrl",
                "metricsSummary",
                "receiversOverride",
                "channelsOverride",
                "templateIdOverride",
                "alertLevel",
            ],
        ),
    ];

    #[test]
    fn every_specified_parameter_of_the_nodes_behind_a_run_is_in_table_and_schema() {
        for (processor, names) in NAMES {
            let table = tables().iter().find(|table| table.processor == processor).expect(processor);
            let schema = schema(processor).expect("a schema").to_string();
            for name in names {
                assert!(table.field(name).is_some(), "{processor} lacks {name}");
                assert!(schema.contains(&format!("\"{name}\"")), "the schema of {processor} lacks {name}");
            }
            for field in table.fields {
                if let Some(default) = field.default {
                    serde_json::from_str::<serde_json::Value>(default).expect(field.name);
                }
            }
        }
    }
}
