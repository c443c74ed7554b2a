//! One agent's worth of surroundings for a run, without an agent.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Duration,
};

use powerjob_worker::{JobLogger, ProcessResult, Processor, StopSignal, TaskContext, WorkflowContext};
use serde_json::{Value, json};
use testrig_host::accelerators::NoAccelerators;
use testrig_joblog::{Journals, Limits, Line};
use testrig_processors::{Environment, Root, run_llm_test::RunLlmTest};
use testrig_store::{Migration, Store};

/// How long a test waits for what it knows will come.
const PATIENCE: Duration = Duration::from_secs(60);

pub const HELPER: &str = env!("CARGO_BIN_EXE_testrig-processors-test-helper");

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub store: Store,
    journals: Journals,
    pub processor: Arc<RunLlmTest>,
    pub instance: i64,
    pub port: u16,
}

impl Rig {
    pub fn new(instance: i64) -> Self {
        Self::with(instance, |_| {})
    }

    pub fn with(instance: i64, change: impl FnOnce(&mut Environment)) -> Self {
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
        let mut env = Environment {
            state_dir: dir.path().join("state"),
            shim: HELPER.into(),
            allowed_roots: vec![Root { path: dir.path().to_owned(), read_only: false }],
            datasets: None,
            docker_endpoint: Some(format!("unix://{}/no-engine.sock", dir.path().display())),
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
            service: Default::default(),
            official: Default::default(),
            accelerators: Arc::new(NoAccelerators),
        };
        change(&mut env);
        let processor = Arc::new(RunLlmTest::new(Arc::new(env), store.clone()));
        let port = free_port();
        Self { dir, store, journals, processor, instance, port }
    }

    /// Job parameters for a stub service as a host process.
    pub fn job(&self, stub_args: &[&str]) -> Value {
        let mut command = vec![HELPER.to_owned(), "stub".into(), "--port".into(), "{servicePort}".into()];
        command.extend(stub_args.iter().map(|arg| (*arg).to_owned()));
        json!({
            "jobType": "RUN_LLM_TEST",
            "hostLogBaseDir": self.dir.path().join("logs"),
            "monitor": {"trackMode": "PROCESS", "stopTimeoutSeconds": 5, "statsSampleIntervalSeconds": 0.3},
            "healthCheck": {"intervalMillis": 50, "timeoutMillis": 2000, "maxRetry": 400},
            "service.command": command,
        })
    }

    /// Parameters of a short run.
    pub fn run(&self) -> Value {
        json!({
            "platformTaskId": "T1", "modelKey": "m", "scenario": "chat_completion", "servicePort": self.port,
            "concurrency": 2, "runSeconds": 1, "extraTags": {"bizLine": "tests"}, "logDirSuffix": format!("task-{}", self.instance),
        })
    }

    pub fn context(&self, job: &Value, run: &Value) -> TaskContext {
        TaskContext {
            job_id: 1,
            instance_id: self.instance,
            wf_instance_id: None,
            processor: "RunLLMTest".into(),
            job_params: Some(job.to_string()),
            instance_params: Some(run.to_string()),
            task: powerjob_worker::Task::single(1, self.instance),
            attempt: 1,
            task_retry_num: 0,
            time_limit: None,
            resumed: false,
            worker_address: "127.0.0.1:1".into(),
            log: JobLogger::new(self.journals.journal(self.instance).expect("journal")),
            stop: StopSignal::new(),
            workflow: WorkflowContext::new(HashMap::new()),
        }
    }

    pub async fn process(&self, ctx: &TaskContext) -> ProcessResult {
        tokio::time::timeout(PATIENCE, self.processor.process(ctx.clone())).await.expect("the run ends")
    }

    /// Starts a run, waits until its log holds `mark`, and forgets it as a killed agent would.
    pub async fn cut_at(&self, ctx: &TaskContext, mark: &str) {
        self.cut_when(ctx, self.logged(mark)).await;
    }

    /// The same at any moment.
    pub async fn cut_when(&self, ctx: &TaskContext, moment: impl Future<Output = ()>) {
        let run = self.processor.process(ctx.clone());
        tokio::select! {
            result = run => panic!("the run ended before it was cut: {result:?}\n{}", self.log_text()),
            () = moment => {}
        }
        // Tasks that were aborted are gone at their next chance.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Waits until the log holds a text.
    pub async fn logged(&self, mark: &str) {
        let journal = self.journals.journal(self.instance).expect("journal");
        let mut changed = journal.subscribe();
        let wait = async {
            while !self.log_text().contains(mark) {
                let _ = tokio::time::timeout(Duration::from_millis(200), changed.changed()).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("`{mark}` did not come:\n{}", self.log_text());
        }
    }

    pub fn lines(&self) -> Vec<Line> {
        let journal = self.journals.journal(self.instance).expect("journal");
        let (mut lines, mut from) = (Vec::new(), 0);
        loop {
            let more = journal.read(from, 10_000, 64 << 20).expect("readable");
            let Some(last) = more.last() else { return lines };
            from = last.index + 1;
            lines.extend(more);
        }
    }

    pub fn log_text(&self) -> String {
        self.lines().iter().map(|line| format!("{} {}", line.source, line.text)).collect::<Vec<_>>().join("\n")
    }

    /// Lines of the service in the journal.
    pub fn service_lines(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.source == "svc").map(|line| line.text).collect()
    }

    pub fn log_dir(&self) -> PathBuf {
        let day = std::fs::read_dir(self.dir.path().join("logs/dev"))
            .expect("one day")
            .next()
            .expect("one day")
            .expect("readable");
        day.path().join(format!("task-{}", self.instance))
    }

    pub fn result(&self) -> Value {
        let text = std::fs::read_to_string(self.log_dir().join("result.json")).expect("result.json");
        serde_json::from_str(&text).expect("JSON")
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.log_dir().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Processes that carry this instance's marker and are alive.
    pub fn survivors(&self) -> Vec<String> {
        let mark = format!("TESTRIG_BOUNDARY=testrig-{}-", self.instance);
        let own = |pid: &Path| {
            std::fs::read(pid.join("environ")).is_ok_and(|env| String::from_utf8_lossy(&env).contains(&mark))
        };
        std::fs::read_dir("/proc")
            .expect("proc")
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|pid| own(pid))
            .map(|pid| {
                format!(
                    "{} {}",
                    pid.display(),
                    std::fs::read_to_string(pid.join("cmdline")).unwrap_or_default().replace('\0', " ")
                )
            })
            .collect()
    }
}

/// A port that nobody uses now. Ports are not given twice while one is kept apart by the instance ids of the tests.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
    listener.local_addr().expect("bound").port()
}
