//! One agent's worth of surroundings for a run, without an agent.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use powerjob_worker::{ProcessResult, Processor, StopSignal, TaskContext};
use serde_json::{Value, json};
use testrig_joblog::Line;
use testrig_processors::{Environment, run_llm_test::RunLlmTest};

use crate::common::{HELPER, Place};

/// How long a test waits for what it knows will come.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) place: Place,
    pub(crate) env: Arc<Environment>,
    pub(crate) processor: Arc<RunLlmTest>,
    pub(crate) instance: i64,
    pub(crate) port: u16,
}

impl Rig {
    pub(crate) fn new(instance: i64) -> Self {
        Self::with(instance, |_| {})
    }

    /// Without an engine, unless `change` names one.
    pub(crate) fn with(instance: i64, change: impl FnOnce(&mut Environment)) -> Self {
        let place = Place::new();
        let mut env = place.environment();
        env.docker_endpoint = Some(format!("unix://{}/no-engine.sock", place.dir.path().display()));
        // Where there is none, none will come.
        env.pulls.engine_patience = Duration::from_secs(1);
        change(&mut env);
        let env = Arc::new(env);
        let processor = Arc::new(RunLlmTest::new(Arc::clone(&env), place.store.clone()));
        Self { place, env, processor, instance, port: free_port() }
    }

    /// Job parameters for a stub service as a host process.
    pub(crate) fn job(&self, stub_args: &[&str]) -> Value {
        let mut command = vec![HELPER.to_owned(), "stub".into(), "--port".into(), "{servicePort}".into()];
        command.extend(stub_args.iter().map(|arg| (*arg).to_owned()));
        json!({
            "jobType": "RUN_LLM_TEST",
            "hostLogBaseDir": self.place.dir.path().join("logs"),
            "monitor": {"trackMode": "PROCESS", "stopTimeoutSeconds": 5, "statsSampleIntervalSeconds": 0.3},
            "healthCheck": {"intervalMillis": 50, "timeoutMillis": 2000, "maxRetry": 400},
            "service.command": command,
        })
    }

    /// Parameters of a short run.
    pub(crate) fn run(&self) -> Value {
        json!({
            "platformTaskId": "T1", "modelKey": "m", "scenario": "chat_completion", "servicePort": self.port,
            "concurrency": 2, "runSeconds": 1, "extraTags": {"bizLine": "tests"}, "logDirSuffix": format!("task-{}", self.instance),
        })
    }

    pub(crate) fn context(&self, job: &Value, run: &Value) -> TaskContext {
        self.place.task(self.instance, job.to_string(), Some(run.to_string()), StopSignal::new())
    }

    pub(crate) async fn process(&self, ctx: &TaskContext) -> ProcessResult {
        let done = tokio::time::timeout(PATIENCE, self.processor.process(ctx.clone())).await;
        done.unwrap_or_else(|_| panic!("the run does not end:\n{}", self.log_text()))
    }

    /// Starts a run, waits until its log holds `mark`, and forgets it as a killed agent would.
    pub(crate) async fn cut_at(&self, ctx: &TaskContext, mark: &str) {
        self.cut_when(ctx, self.logged(mark)).await;
    }

    /// The same at any moment.
    pub(crate) async fn cut_when(&self, ctx: &TaskContext, moment: impl Future<Output = ()>) {
        let run = self.processor.process(ctx.clone());
        tokio::select! {
            result = run => panic!("the run ended before it was cut: {result:?}\n{}", self.log_text()),
            () = moment => {}
        }
        // Tasks that were aborted are gone at their next chance.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Waits until the log holds a text.
    pub(crate) async fn logged(&self, mark: &str) {
        let journal = self.place.journals.journal(self.instance).expect("journal");
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

    pub(crate) fn lines(&self) -> Vec<Line> {
        let journal = self.place.journals.journal(self.instance).expect("journal");
        let (mut lines, mut from) = (Vec::new(), 0);
        loop {
            let more = journal.read(from, 10_000, 64 << 20).expect("readable");
            let Some(last) = more.last() else { return lines };
            from = last.index + 1;
            lines.extend(more);
        }
    }

    pub(crate) fn log_text(&self) -> String {
        self.lines().iter().map(|line| format!("{} {}", line.source, line.text)).collect::<Vec<_>>().join("\n")
    }

    /// Lines of the service in the journal.
    pub(crate) fn service_lines(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.source == "svc").map(|line| line.text).collect()
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        let day = std::fs::read_dir(self.place.dir.path().join("logs/dev"))
            .expect("one day")
            .next()
            .expect("one day")
            .expect("readable");
        day.path().join(format!("task-{}", self.instance))
    }

    pub(crate) fn result(&self) -> Value {
        let text = std::fs::read_to_string(self.log_dir().join("result.json")).expect("result.json");
        serde_json::from_str(&text).expect("JSON")
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.log_dir().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Processes that carry this instance's marker and are alive.
    pub(crate) fn survivors(&self) -> Vec<String> {
        // By the directory, not the name alone: another program of these tests may run beside this one.
        let dir = self.place.dir.path().canonicalize().expect("it is there").join("state/boundaries");
        let mark = format!("TESTRIG_BOUNDARY_DIR={}/testrig-{}-", dir.display(), self.instance);
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

/// Says that a test cannot be made here: one line for people, one for the summary of `scripts/test.sh`.
pub(crate) fn skipped(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
    if let Some(file) = std::env::var_os("TESTRIG_SKIPS_FILE") {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(file).expect("it works here");
        writeln!(file, "{}", json!({"name": name, "reason": reason})).expect("it works here");
    }
}

/// A port that nobody listens on, given once in this process. Below the ports that the system gives to connections, which
/// would else take it before the service does.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    // Programs that run beside this one begin elsewhere.
    let begin = std::process::id().wrapping_mul(7919) % COUNT;
    (0..COUNT)
        .map(|_| FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .expect("a free port")
}
