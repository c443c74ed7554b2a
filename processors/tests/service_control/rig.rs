//! Jobs of service control on this machine, without an agent.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use powerjob_worker::{ProcessResult, StopSignal, TaskContext};
use serde_json::Value;
use testrig_processors::{Environment, registry};

use crate::common::Place;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) place: Place,
    pub(crate) env: Environment,
    next: AtomicI64,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let mut env = place.environment();
        env.service.log_dir = place.dir.path().join("logs");
        // Ids that no other test of this process uses, because they mark processes.
        let begin = i64::from(std::process::id()) * 1_000_000 + (place.dir.path().as_os_str().len() as i64);
        Self { place, env, next: AtomicI64::new(begin) }
    }

    /// A job for a processor of this name; every call is an agent of its own on the same state.
    pub(crate) async fn run(&self, processor: &str, job: &Value) -> ProcessResult {
        self.run_with(processor, job, StopSignal::new()).await
    }

    pub(crate) async fn run_with(&self, processor: &str, job: &Value, stop: StopSignal) -> ProcessResult {
        let all = registry(&Arc::new(self.env.clone()), &self.place.store);
        let (_, found) = all.into_iter().find(|(name, _)| *name == processor).expect("it is served");
        let ctx = self.context(job, stop);
        tokio::time::timeout(PATIENCE, found.process(ctx)).await.expect("the job ends")
    }

    fn context(&self, job: &Value, stop: StopSignal) -> TaskContext {
        let instance = self.next.fetch_add(1, Ordering::Relaxed);
        self.place.task(instance, job.to_string(), None, stop)
    }

    /// The log of the newest job.
    pub(crate) fn log(&self) -> String {
        let journal = self.place.journals.journal(self.next.load(Ordering::Relaxed) - 1).expect("journal");
        let lines = journal.read(0, 10_000, 1 << 24).expect("readable");
        lines.iter().map(|line| format!("{} {}\n", line.source, line.text)).collect()
    }

    /// A file in the rig's directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.place.dir.path().join(name);
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
