//! Results of tasks, read from the table page by page.

use async_trait::async_trait;
use testrig_store::Store;

use crate::tasks::{
    api::{ResultSource, TaskResult},
    table,
};

/// The results of a run.
pub(super) struct StoredResults {
    pub(super) store: Store,
    pub(super) run: i64,
    pub(super) root: String,
}

#[async_trait]
impl ResultSource for StoredResults {
    async fn page(&self, after: Option<&TaskResult>, limit: usize) -> Result<Vec<TaskResult>, String> {
        let (run, root) = (self.run, self.root.clone());
        let after = after.map(|result| result.task_id.clone());
        let page = self.store.read(move |db| table::results(db, run, &root, after.as_deref(), limit)).await;
        page.map_err(|error| format!("the results of the tasks cannot be read: {error}"))
    }
}
