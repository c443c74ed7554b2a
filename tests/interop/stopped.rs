//! Jobs that are stopped in the middle.

use std::{sync::Arc, time::Duration};

use libtest_mimic::Failed;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::job::{Instance, Job};
use crate::site::{Site, tags};
use crate::table::{Cell, Seen};
use crate::wait::{same, stays};
use crate::workers::Kind;
use crate::{Case, Rows};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for tracker in [Kind::Java, Kind::Ours] {
        for execute in ["STANDALONE", "BROADCAST", "MAP_REDUCE"] {
            let title =
                format!("{}_by_{}_is_stopped_in_the_middle", execute.to_lowercase(), tracker.name().to_lowercase());
            cases.push(Case::new(title, move |site| stopped(site, execute, tracker)).tracked_by(tracker));
        }
    }
    cases
}

async fn stopped(site: Arc<Site>, execute: &'static str, tracker: Kind) -> Rows {
    let ([tag, _], [other, _]) = (tags(tracker), tags(tracker.other()));
    let alone = execute == "STANDALONE";
    let workers: &[&'static str] = if alone { &[tag] } else { &[tag, other] };
    let sleep = if execute == "MAP_REDUCE" { 500 } else { 60_000 };
    let mut job = Job::new(execute, tag, workers).params(json!({"tasks": 400, "sleep": sleep}));
    job.concurrency = 2;
    let instance = job.run(&site).await?;
    match execute {
        "STANDALONE" => drop(instance.reaches(InstanceStatus::Running).await?),
        "BROADCAST" => instance.in_the_middle(1, 2).await?,
        _ => instance.in_the_middle(5, 1).await?,
    }
    // The server takes a report that reaches it between its own stop and the worker's as that of a running instance, whoever sends
    // it. The first reports are close to each other, later ones far.
    tokio::time::sleep(Duration::from_secs(3)).await;
    site.api.stop_instance(site.app_id, instance.id).await?;
    let stopped_row = instance.reaches(InstanceStatus::Stopped).await?;
    stays_stopped(&instance, tracker).await?;
    if execute == "MAP_REDUCE" {
        // Nobody goes on with the tasks that were left, neither on this worker nor on the other.
        let begun = instance.log(|log| log.tasks.len() >= 5).await?.tasks.len();
        tokio::time::sleep(Duration::from_secs(12)).await;
        same("tasks begun, 12 s later", &instance.log(|_| true).await?.tasks.len(), &begun)?;
    }
    let cell = Cell::new(execute, tracker.name(), if alone { "–" } else { "both" }).event("stopped in the middle");
    Ok(vec![(cell, Seen::of(&stopped_row))])
}

/// Whoever still reports after a stop sets the row back to RUNNING. A task tracker of ours never does; a report of Java's may have
/// been on its way.
pub(crate) async fn stays_stopped(instance: &Instance, tracker: Kind) -> Result<(), Failed> {
    if tracker == Kind::Java {
        return Ok(());
    }
    // Longer than any time between two reports.
    stays(Duration::from_secs(17), "the instance is STOPPED", async || {
        let info = instance.info().await?;
        if info.status() == Some(InstanceStatus::Stopped) { Ok(()) } else { Err(format!("{info:?}")) }
    })
    .await
}
