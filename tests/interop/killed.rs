//! Workers that are killed in the middle, and do not come back or do.

use std::{collections::BTreeSet, sync::Arc};

use libtest_mimic::Failed;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::job::{Instance, Job};
use crate::site::{JAVA_KILLED, OURS_BACK, OURS_KILLED, Site, tags};
use crate::table::{Cell, Seen};
use crate::wait::same;
use crate::workers::Kind;
use crate::{Case, Rows};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_java_worker_is_killed_in_the_middle", |site| killed(site, Kind::Java)),
        Case::new("a_worker_of_ours_is_killed_in_the_middle", |site| killed(site, Kind::Ours)),
        Case::new("a_worker_of_ours_is_killed_and_comes_back", back),
    ]
}

/// 40 tasks of two seconds, two at once on each worker: enough of a middle.
fn long(execute: &'static str, tracker: &'static str, workers: &[&'static str]) -> Job {
    let params = match execute {
        "BROADCAST" => json!({"sleep": 30_000}),
        _ => json!({"tasks": 40, "sleep": 2_000}),
    };
    let mut job = Job::new(execute, tracker, workers).params(params);
    job.concurrency = 2;
    job
}

/// One worker dies; at that moment it is processor tracker of a MAP_REDUCE and of a BROADCAST, both of a task tracker of the other
/// kind, and itself task tracker of a MAP_REDUCE.
async fn killed(site: Arc<Site>, kind: Kind) -> Rows {
    let victim = if kind == Kind::Java { JAVA_KILLED } else { OURS_KILLED };
    let [other, second] = tags(kind.other());
    let mut as_worker = long("MAP_REDUCE", other, &[victim, second]);
    as_worker.apart = true;
    let as_listener = long("BROADCAST", other, &[other, victim]);
    let mut as_tracker = long("MAP_REDUCE", victim, &[victim, other]);
    // The server sends an instance again only while it has run less often than this.
    as_tracker.retries = 2;
    let jobs = [&as_worker, &as_listener, &as_tracker];
    let [as_worker, as_listener, as_tracker] = in_the_middle(&site, jobs).await?;
    site.worker(victim)?.kill();
    let dead = format!("{} killed", kind.name());
    let (worker, listener, tracker) = tokio::try_join!(as_worker.ended(), as_listener.ended(), as_tracker.ended())?;
    let mut rows = Vec::new();

    let cell = Cell::new("MAP_REDUCE", kind.other().name(), "both").event(&format!("{dead} (processor tracker)"));
    rows.push((cell, Seen::of(&worker)));

    let cell = Cell::new("BROADCAST", kind.other().name(), "both").event(&format!("{dead} (processor tracker)"));
    rows.push((cell, Seen::of(&listener)));

    same("the new task tracker", &as_tracker.tracker(&tracker)?, &other)?;
    let cell = Cell::new("MAP_REDUCE", kind.name(), "both").event(&format!("{dead} (task tracker)"));
    let seen = format!("{}, run again by {}", Seen::of(&tracker).0, kind.other().name());
    rows.push((cell, Seen::text(&seen)));
    Ok(rows)
}

/// All three in their middle at once. A Java task tracker on a busy machine may take a worker for dead before that: again then.
async fn in_the_middle(site: &Arc<Site>, jobs: [&Job; 3]) -> Result<[Instance; 3], Failed> {
    let mut attempt = 1;
    loop {
        let instances = Job::run_all(jobs, site).await?;
        let [worker, listener, tracker] = &instances;
        let middle =
            tokio::try_join!(worker.in_the_middle(4, 1), listener.in_the_middle(1, 2), tracker.in_the_middle(3, 1));
        match middle {
            Ok(_) => return Ok(instances),
            Err(failed) if attempt < 3 => eprintln!("attempt {attempt}: {}", failed.message().unwrap_or_default()),
            Err(failed) => return Err(failed),
        }
        for instance in &instances {
            // Some have ended.
            let _ = site.api.stop_instance(site.app_id, instance.id).await;
        }
        attempt += 1;
    }
}

/// A worker of ours dies and is there again at once: what it stored goes on, nothing begins anew.
async fn back(site: Arc<Site>) -> Rows {
    let ([java, _], [_, ours]) = (tags(Kind::Java), tags(Kind::Ours));
    // What was at work in it has failed, for a processor that does not say otherwise.
    let job = |workers: &[&'static str]| {
        let mut job = long("MAP_REDUCE", OURS_BACK, workers);
        job.task_retries = 1;
        job
    };
    let [alone, mixed] = Job::run_all([&job(&[OURS_BACK]), &job(&[OURS_BACK, java, ours])], &site).await?;
    tokio::try_join!(alone.in_the_middle(4, 1), mixed.in_the_middle(4, 1))?;
    let worker = site.worker(OURS_BACK)?;
    worker.kill();
    worker.spawn()?;
    let mut rows = Vec::new();
    for (instance, workers) in [(alone, "ours"), (mixed, "both")] {
        rows.push((
            Cell::new("MAP_REDUCE", "ours", workers).event("ours killed and started again (task tracker)"),
            same_run(&instance).await?,
        ));
    }
    Ok(rows)
}

async fn same_run(instance: &Instance) -> Result<Seen, Failed> {
    let info = instance.ends(InstanceStatus::Succeed, Some("reduced 41")).await?;
    same("task tracker", &instance.tracker(&info)?, &OURS_BACK)?;
    let log = instance.log(|log| log.tasks.len() == 40).await?;
    // Only what was at work on the killed worker may begin again.
    let again: BTreeSet<&String> = log.tasks.iter().filter(|(_, began)| began.len() > 1).map(|(id, _)| id).collect();
    if again.len() > 4 {
        return Err(format!("begun again: {again:?}; at most what was at work (2) and on its way may be").into());
    }
    Ok(Seen::text(&format!("{}, the same run goes on", Seen::of(&info).0)))
}
