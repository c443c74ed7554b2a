//! RunLLMTest: starts an LLM service, waits until it is healthy, loads it, keeps the raw logs.
//!
//! ```text
//! plan -> lease -> pull -> create -> start -> health -> warm-up -> load -> teardown -> result
//! ```
//!
//! Promises: each stage is in the store before anything of it happens. Whatever ends a run, its boundary is empty
//! afterwards (or the result says that it is not, and why), and the failure names its stage and the service's last lines.
//! A restarted agent goes on from the stored stage, or says once and honestly what was lost.

mod attached;
mod context;
mod dir;
mod disk;
mod ending;
mod evidence;
mod guard;
mod health;
mod interrupt;
mod leases;
mod monitor;
mod plan;
mod preview;
mod result;
mod run;
mod service;
mod state;
mod table;

use std::sync::Arc;

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext};
use testrig_store::Store;

pub use disk::{Removed, remove_old_runs};
pub use leases::free_forgotten_leases;
pub(crate) use preview::preview;
pub use state::MIGRATIONS;
pub use table::TABLE;

use crate::Environment;

/// The processor `RunLLMTest`.
pub struct RunLlmTest {
    shared: Arc<run::Shared>,
}

impl RunLlmTest {
    /// A processor whose runs are kept in this store, which must have been opened with [`MIGRATIONS`].
    pub fn new(env: Arc<Environment>, store: Store) -> Self {
        let shared = run::Shared { env, runs: state::Runs::new(store), host_load: Arc::default() };
        Self { shared: Arc::new(shared) }
    }
}

#[async_trait]
impl Processor for RunLlmTest {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        // Boxed: the whole run is one large future.
        Box::pin(run::process(Arc::clone(&self.shared), ctx)).await
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Resume
    }
}
