//! Script processors and tasks for them, without an agent.

use std::{path::PathBuf, sync::Arc, time::Duration};

use powerjob_worker::{ProcessResult, Processor, StopSignal, TaskContext};
use testrig_processors::{Environment, Official, official::Switch};

use crate::common::Place;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) place: Place,
    pub(crate) env: Arc<Environment>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let env = Environment {
            allowed_hosts: Some(vec!["127.0.0.1".into()]),
            official: Official { enabled: Switch::ALL.to_vec(), ..Official::default() },
            ..place.environment()
        };
        Self { place, env: Arc::new(env) }
    }

    pub(crate) fn task(&self, instance: i64, params: &str) -> TaskContext {
        self.place.task(instance, params.to_owned(), None, StopSignal::new())
    }

    pub(crate) fn processor(&self, switch: Switch) -> Arc<dyn Processor> {
        let all = testrig_processors::registry(&self.env, &self.place.store);
        all.into_iter().find(|(name, _)| *name == switch.class()).expect("served").1
    }

    pub(crate) async fn run(&self, switch: Switch, ctx: &TaskContext) -> ProcessResult {
        tokio::time::timeout(PATIENCE, self.processor(switch).process(ctx.clone())).await.expect("it ends")
    }

    pub(crate) fn log(&self, ctx: &TaskContext) -> String {
        let lines = ctx.log.journal().read(0, 100_000, 1 << 26).expect("journal");
        lines.iter().map(|line| format!("{} {} {}\n", line.level.name(), line.source, line.text)).collect()
    }

    pub(crate) async fn logged(&self, ctx: &TaskContext, mark: &str) {
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
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let base = self.env.state_dir.join("official_script_processor");
        let list = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let boundaries = base.join("boundaries");
        list(base).filter(|path| *path != boundaries).chain(list(boundaries.clone())).collect()
    }
}

/// Whether a process lives (a zombie does not).
pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

/// The number that stands in a file, once it is there.
pub(crate) async fn pid_in(file: &std::path::Path) -> i32 {
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
