//! Script processors and tasks for them, without an agent.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Once},
    time::Duration,
};

use powerjob_worker::{JobLogger, ProcessResult, Processor, StopSignal, Task, TaskContext, WorkflowContext};
use testrig_host::accelerators::NoAccelerators;
use testrig_joblog::{Journals, Limits};
use testrig_processors::{Environment, Official, Root, official::Switch};
use testrig_store::Store;

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub journals: Journals,
    pub env: Arc<Environment>,
}

impl Rig {
    pub fn new() -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let dir = tempfile::tempdir().expect("dir");
        let migrations = [testrig_joblog::MIGRATIONS, testrig_processors::MIGRATIONS].concat();
        let store = Store::open_in_memory(&migrations).expect("store");
        let journals =
            Journals::open(&dir.path().join("journals"), Limits::default(), store.clone()).expect("journals");
        let env = Environment {
            state_dir: dir.path().join("state"),
            shim: env!("CARGO_BIN_EXE_testrig-processors-test-helper").into(),
            allowed_roots: vec![Root { path: dir.path().to_owned(), read_only: false }],
            datasets: None,
            docker_endpoint: None,
            allowed_images: None,
            allow_privileged: false,
            allowed_programs: None,
            allowed_hosts: Some(vec!["127.0.0.1".into()]),
            databases: Default::default(),
            object_stores: Default::default(),
            mail: Default::default(),
            people: Default::default(),
            secrets: Default::default(),
            template_dir: None,
            http: reqwest::Client::builder().no_proxy().build().expect("client"),
            platform_base_url: None,
            service: Default::default(),
            official: Official { enabled: Switch::ALL.to_vec(), ..Official::default() },
            accelerators: Arc::new(NoAccelerators),
        };
        Self { dir, store, journals, env: Arc::new(env) }
    }

    pub fn task(&self, instance: i64, params: &str) -> TaskContext {
        TaskContext {
            job_id: 1,
            instance_id: instance,
            wf_instance_id: None,
            processor: "under test".into(),
            job_params: Some(params.to_owned()),
            instance_params: None,
            task: Task::single(1, instance),
            attempt: 1,
            task_retry_num: 0,
            time_limit: None,
            resumed: false,
            worker_address: "127.0.0.1:1".into(),
            log: JobLogger::new(self.journals.journal(instance).expect("journal")),
            stop: StopSignal::new(),
            workflow: WorkflowContext::new(HashMap::new()),
        }
    }

    pub fn processor(&self, switch: Switch) -> Arc<dyn Processor> {
        let all = testrig_processors::registry(&self.env, &self.store);
        all.into_iter().find(|(name, _)| *name == switch.class()).expect("served").1
    }

    pub async fn run(&self, switch: Switch, ctx: &TaskContext) -> ProcessResult {
        tokio::time::timeout(PATIENCE, self.processor(switch).process(ctx.clone())).await.expect("it ends")
    }

    pub fn log(&self, ctx: &TaskContext) -> String {
        let lines = ctx.log.journal().read(0, 100_000, 1 << 26).expect("journal");
        lines.iter().map(|line| format!("{} {} {}\n", line.level.name(), line.source, line.text)).collect()
    }

    pub async fn logged(&self, ctx: &TaskContext, mark: &str) {
        let wait = async {
            while !self.log(ctx).contains(mark) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("`{mark}` did not come:\n{}", self.log(ctx));
        }
    }

    /// What is left below the folder of the scripts, but for the folder of the boundaries itself.
    pub fn left(&self) -> Vec<PathBuf> {
        let base = self.env.state_dir.join("official_script_processor");
        let list = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let boundaries = base.join("boundaries");
        list(base).filter(|path| *path != boundaries).chain(list(boundaries.clone())).collect()
    }
}

/// Whether a process lives (a zombie does not).
pub fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

/// The number that stands in a file, once it is there.
pub async fn pid_in(file: &std::path::Path) -> i32 {
    for _ in 0..3000 {
        if let Ok(text) = std::fs::read_to_string(file)
            && let Ok(pid) = text.trim().parse()
        {
            return pid;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no pid in {}", file.display());
}
