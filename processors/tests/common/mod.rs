//! What a processor needs around it, without an agent.

use std::{collections::HashMap, sync::Once};

use powerjob_worker::{JobLogger, StopSignal, Task, TaskContext, WorkflowContext};
use testrig_joblog::{Journals, Limits};
use testrig_processors::{Environment, Root};
use testrig_store::Store;

/// The program that is shim and stand-in service of the tests.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_testrig-processors-test-helper");

/// A directory with a state store and journals.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) journals: Journals,
}

impl Place {
    pub(crate) fn new() -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| {
            // An error means that another test was faster.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let dir = tempfile::tempdir().expect("dir");
        let migrations = [testrig_joblog::MIGRATIONS, testrig_processors::MIGRATIONS].concat();
        let store = Store::open(&dir.path().join("state/state.db"), &migrations).expect("store");
        let journals =
            Journals::open(&dir.path().join("state/journals"), Limits::default(), store.clone()).expect("journals");
        Self { dir, store, journals }
    }

    /// An environment whose only allowed root is this directory.
    pub(crate) fn environment(&self) -> Environment {
        let http = reqwest::Client::builder().no_proxy().build().expect("client");
        let root = Root { path: self.dir.path().to_owned(), read_only: false };
        Environment::new(self.dir.path().join("state"), HELPER.into(), vec![root], http)
    }

    /// A task outside of a workflow.
    pub(crate) fn task(&self, instance: i64, job: String, run: Option<String>, stop: StopSignal) -> TaskContext {
        TaskContext {
            job_id: 1,
            instance_id: instance,
            wf_instance_id: None,
            processor: "under test".into(),
            job_params: Some(job),
            instance_params: run,
            task: Task::single(1, instance),
            attempt: 1,
            task_retry_num: 0,
            time_limit: None,
            resumed: false,
            worker_address: "127.0.0.1:1".into(),
            log: JobLogger::new(self.journals.journal(instance).expect("journal")),
            stop,
            workflow: WorkflowContext::new(HashMap::new()),
        }
    }
}
