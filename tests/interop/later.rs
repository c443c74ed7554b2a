//! A worker that joins while the job runs: the task tracker asks the server for new workers once a minute.

use std::sync::Arc;

use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::job::Job;
use crate::site::{JAVA_LATE, OURS_LATE, Site, tags};
use crate::table::{Cell, Seen};
use crate::wait::holds;
use crate::workers::Kind;
use crate::{Case, Rows};

pub(crate) fn cases() -> Vec<Case> {
    [Kind::Java, Kind::Ours]
        .into_iter()
        .map(|tracker| {
            let title = format!("a_worker_that_joins_later_gets_tasks_of_{}", tracker.name().to_lowercase());
            Case::new(title, move |site| joins(site, tracker))
        })
        .collect()
}

async fn joins(site: Arc<Site>, tracker: Kind) -> Rows {
    let [tag, _] = tags(tracker);
    let late = if tracker == Kind::Java { OURS_LATE } else { JAVA_LATE };
    // Alone the task tracker needs longer than the minute after which it looks for others.
    let mut job = Job::new("MAP_REDUCE", tag, &[tag, late]).params(json!({"tasks": 48, "sleep": 2_000}));
    job.concurrency = 1;
    let instance = job.run(&site).await?;
    // The job knows its workers now; a new one takes a while to be listed.
    site.worker(late)?.spawn()?;
    let info = instance.ends(InstanceStatus::Succeed, Some("reduced 49")).await?;
    let log = instance.log(|log| log.tasks.len() == 48).await?;
    holds("the late worker had tasks", log.workers().contains(late))?;
    let cell = Cell::new("MAP_REDUCE", tracker.name(), "both");
    let cell = cell.event(&format!("{} joins after the start", tracker.other().name()));
    Ok(vec![(cell, Seen::of(&info))])
}
