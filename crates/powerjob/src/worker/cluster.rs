//! The server as the one who names workers.

use std::sync::Arc;

use async_trait::async_trait;

use super::shared::Shared;
use crate::{
    client::Web,
    server::Cluster,
    tasks::{ServerCluster, api::ClusterQuery},
};

/// Asks the owner of the app.
pub(super) struct AskOwner {
    shared: Arc<Shared>,
    query: ServerCluster,
    web: Web,
}

impl AskOwner {
    pub(super) fn new(shared: Arc<Shared>, http: reqwest::Client) -> Self {
        let query = ServerCluster::new(shared.transport.clone(), shared.owner.subscribe());
        Self { shared, query, web: Web { http } }
    }
}

#[async_trait]
impl Cluster for AskOwner {
    /// The workers that the server counts for the job, and with them all others of the app: the first list is cut to the
    /// job's `maxWorkerCount` in no particular order, so a task tracker may be missing in it.
    async fn workers_of(&self, job_id: i64) -> Result<Vec<String>, String> {
        let mut named = self.query.workers(job_id).await?;
        let owner = self.shared.owner.borrow().clone();
        if let Some(owner) = owner
            && let Ok(web) = owner.web.parse()
            && let Ok(listed) = self.web.workers(&web, owner.app_id).await
        {
            named.extend(listed.workers.into_iter().map(|worker| worker.address));
        }
        Ok(named)
    }
}
