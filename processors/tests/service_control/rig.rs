//! Jobs of service control on this machine, without an agent.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Once,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use powerjob_worker::{JobLogger, ProcessResult, StopSignal, Task, TaskContext, WorkflowContext};
use serde_json::Value;
use testrig_host::accelerators::NoAccelerators;
use testrig_joblog::{Journals, Limits};
use testrig_processors::{Environment, Root, ServiceDefaults, registry};
use testrig_store::{Migration, Store};

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_testrig-processors-test-helper");
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) env: Environment,
    store: Store,
    journals: Journals,
    next: AtomicI64,
}

impl Rig {
    pub(crate) fn new() -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let dir = tempfile::tempdir().expect("dir");
        let migrations: Vec<Migration> =
            testrig_joblog::MIGRATIONS.iter().chain(testrig_processors::MIGRATIONS).copied().collect();
        let store = Store::open(&dir.path().join("state/state.db"), &migrations).expect("store");
        let journals =
            Journals::open(&dir.path().join("state/journals"), Limits::default(), store.clone()).expect("journals");
        let service = ServiceDefaults { log_dir: dir.path().join("logs"), ..ServiceDefaults::default() };
        let env = Environment {
            state_dir: dir.path().join("state"),
            shim: HELPER.into(),
            allowed_roots: vec![Root { path: dir.path().to_owned(), read_only: false }],
            datasets: None,
            docker_endpoint: None,
            allowed_images: None,
            allow_privileged: false,
            allowed_programs: None,
            allowed_hosts: None,
            databases: Default::default(),
            object_stores: Default::default(),
            mail: Default::default(),
            people: Default::default(),
            secrets: Default::default(),
            template_dir: None,
            http: reqwest::Client::builder().no_proxy().build().expect("client"),
            platform_base_url: None,
            official: Default::default(),
            service,
            accelerators: Arc::new(NoAccelerators),
        };
        // Ids that no other test of this process uses, because they mark processes.
        let begin = i64::from(std::process::id()) * 1_000_000 + (dir.path().as_os_str().len() as i64);
        Self { dir, env, store, journals, next: AtomicI64::new(begin) }
    }

    /// A job for a processor of this name; every call is an agent of its own on the same state.
    pub(crate) async fn run(&self, processor: &str, job: &Value) -> ProcessResult {
        self.run_with(processor, job, StopSignal::new()).await
    }

    pub(crate) async fn run_with(&self, processor: &str, job: &Value, stop: StopSignal) -> ProcessResult {
        let all = registry(&Arc::new(self.env.clone()), &self.store);
        let (_, found) = all.into_iter().find(|(name, _)| *name == processor).expect("it is served");
        let ctx = self.context(job, stop);
        tokio::time::timeout(PATIENCE, found.process(ctx)).await.expect("the job ends")
    }

    fn context(&self, job: &Value, stop: StopSignal) -> TaskContext {
        let instance = self.next.fetch_add(1, Ordering::Relaxed);
        TaskContext {
            job_id: 1,
            instance_id: instance,
            wf_instance_id: None,
            processor: "under test".into(),
            job_params: Some(job.to_string()),
            instance_params: None,
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

    /// The log of the newest job.
    pub(crate) fn log(&self) -> String {
        let journal = self.journals.journal(self.next.load(Ordering::Relaxed) - 1).expect("journal");
        let lines = journal.read(0, 10_000, 1 << 24).expect("readable");
        lines.iter().map(|line| format!("{} {}\n", line.source, line.text)).collect()
    }

    /// A file in the rig's directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Processes whose command line holds this mark.
    pub(crate) fn processes(&self, mark: &str) -> Vec<i32> {
        let own = std::process::id().to_string();
        std::fs::read_dir("/proc")
            .expect("proc")
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|pid| *pid != own)
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(mark)
            })
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address").port()
}
