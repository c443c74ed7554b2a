//! The worker that is measured: one processor that does nothing, and journals that are removed like an agent removes them,
//! only sooner.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use powerjob_worker::{MIGRATIONS, ProcessResult, Processor, TaskContext, Worker, WorkerConfig};
use testrig_joblog::{Journals, Limits};
use testrig_store::Store;

use crate::{APP, Failure};

/// Journals of this age go.
const KEPT: Duration = Duration::from_secs(30);

struct Empty;

#[async_trait]
impl Processor for Empty {
    async fn process(&self, _: TaskContext) -> ProcessResult {
        ProcessResult::success("ok")
    }
}

pub(crate) async fn run(server: &str, state: &Path) -> Result<(), Failure> {
    let store = Store::open(&state.join("worker.db"), &[MIGRATIONS, testrig_joblog::MIGRATIONS].concat())?;
    let journals = Journals::open(&state.join("journals"), Limits::default(), store.clone())?;
    let config = WorkerConfig { listen: "127.0.0.1:0".to_owned(), backlog: 10_000, ..WorkerConfig::new([server], APP) };
    let worker = Worker::builder(config)
        .store(store)
        .journals(journals.clone())
        .processor("empty", Arc::new(Empty))
        .start()
        .await?;
    loop {
        tokio::select! {
            () = worker.ended() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
        journals.remove_older(KEPT, |_| false).await?;
    }
}
