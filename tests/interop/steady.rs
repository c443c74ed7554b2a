//! Nobody dies: every execute type with every mix of workers.

use std::{collections::BTreeSet, sync::Arc};

use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::job::{Job, Log, kinds};
use crate::site::{Site, tags};
use crate::table::{Cell, Seen};
use crate::wait::same;
use crate::workers::Kind;
use crate::{Case, Rows};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for tracker in [Kind::Java, Kind::Ours] {
        let name = tracker.name().to_lowercase();
        cases.push(
            Case::new(format!("standalone_on_{name}"), move |site| standalone(site, tracker)).tracked_by(tracker),
        );
        for both in [false, true] {
            let with = if both { "both" } else { &name };
            let title = format!("broadcast_by_{name}_over_{with}");
            cases.push(Case::new(title, move |site| broadcast(site, tracker, both)).tracked_by(tracker));
        }
        for execute in ["MAP", "MAP_REDUCE"] {
            for workers in [Workers::Same, Workers::Other, Workers::Both] {
                let title =
                    format!("{}_by_{name}_over_{}", execute.to_lowercase(), workers.name(tracker).to_lowercase());
                cases.push(Case::new(title, move |site| mapped(site, execute, tracker, workers)).tracked_by(tracker));
            }
        }
    }
    for tracker in [Kind::Java, Kind::Ours] {
        let title =
            format!("sub_tasks_of_{}_map_further_into_{}", tracker.other().name(), tracker.name()).to_lowercase();
        cases.push(Case::new(title, move |site| deeper(site, tracker)).tracked_by(tracker));
    }
    cases.push(Case::new("objects_of_java_fail_on_our_workers_with_a_reason", objects).tracked_by(Kind::Java));
    cases
}

/// Who runs sub-tasks, seen from the task tracker.
#[derive(Clone, Copy)]
enum Workers {
    Same,
    Other,
    Both,
}

impl Workers {
    fn name(self, tracker: Kind) -> &'static str {
        match self {
            Self::Same => tracker.name(),
            Self::Other => tracker.other().name(),
            Self::Both => "both",
        }
    }
}

async fn standalone(site: Arc<Site>, tracker: Kind) -> Rows {
    let [tag, _] = tags(tracker);
    let instance = Job::new("STANDALONE", tag, &[]).run(&site).await?;
    let info = instance.ends(InstanceStatus::Succeed, Some("0 lines")).await?;
    same("task tracker", &instance.tracker(&info)?, &tag)?;
    Ok(vec![(Cell::new("STANDALONE", tracker.name(), "–"), Seen::of(&info))])
}

async fn broadcast(site: Arc<Site>, tracker: Kind, both: bool) -> Rows {
    let [tag, second] = tags(tracker);
    let [other, _] = tags(tracker.other());
    let workers = BTreeSet::from([tag, if both { other } else { second }]);
    let instance = Job::new("BROADCAST", tag, &workers.iter().copied().collect::<Vec<_>>()).run(&site).await?;
    // The last step's list has the first step and one task a worker.
    let info = instance.ends(InstanceStatus::Succeed, Some("post 3")).await?;
    same("task tracker", &instance.tracker(&info)?, &tag)?;
    let log = instance.log(|log| log.tasks.len() == 2).await?;
    same("workers", &log.workers(), &workers)?;
    log.once()?;
    Ok(vec![(Cell::new("BROADCAST", tracker.name(), kinds(&site, &workers)?), Seen::of(&info))])
}

async fn mapped(site: Arc<Site>, execute: &'static str, tracker: Kind, workers: Workers) -> Rows {
    let [tag, second] = tags(tracker);
    let [other, _] = tags(tracker.other());
    let (expected, apart) = match workers {
        Workers::Same => (BTreeSet::from([tag, second]), false),
        Workers::Other => (BTreeSet::from([other]), true),
        Workers::Both => (BTreeSet::from([tag, other]), false),
    };
    let mut job = Job::new(execute, tag, &expected.iter().copied().collect::<Vec<_>>());
    job.apart = apart;
    let instance = job.run(&site).await?;
    // 20 sub-tasks and the root task.
    let result = if execute == "MAP" { "total:21,succeed:21,failed:0" } else { "reduced 21" };
    let info = instance.ends(InstanceStatus::Succeed, Some(result)).await?;
    same("task tracker", &instance.tracker(&info)?, &tag)?;
    let log = instance.log(|log| log.tasks.len() == 20).await?;
    same("workers", &log.workers(), &expected)?;
    log.once()?;
    Ok(vec![(Cell::new(execute, tracker.name(), kinds(&site, &expected)?), Seen::of(&info))])
}

/// Sub-tasks that make sub-tasks of their own, on workers of the other kind.
async fn deeper(site: Arc<Site>, tracker: Kind) -> Rows {
    let ([tag, _], [other, _]) = (tags(tracker), tags(tracker.other()));
    let mut job = Job::new("MAP_REDUCE", tag, &[other]).params(json!({"tasks": 5, "deeper": 3, "sleep": 50}));
    job.apart = true;
    let instance = job.run(&site).await?;
    // The root task, 5 sub-tasks, and 3 of each of them.
    let info = instance.ends(InstanceStatus::Succeed, Some("reduced 21")).await?;
    let log = instance.log(|log| log.tasks.len() == 20).await?;
    same("workers", &log.workers(), &BTreeSet::from([other]))?;
    same("tasks of the third generation", &log.tasks.keys().filter(|id| id.matches('.').count() == 2).count(), &15)?;
    let cell = Cell::new("MAP_REDUCE, sub-tasks that map", tracker.name(), tracker.other().name());
    Ok(vec![(cell, Seen::of(&info))])
}

/// Sub-tasks whose content is an object of a Java class. The Java root makes them; our workers cannot read them.
async fn objects(site: Arc<Site>) -> Rows {
    let ([java, _], [ours, _]) = (tags(Kind::Java), tags(Kind::Ours));
    let mut job = Job::new("MAP_REDUCE", java, &[ours]).processor("jw.MrObject");
    job.apart = true;
    let instance = job.run(&site).await?;
    instance.ends(InstanceStatus::Failed, Some("reduced 21")).await?;
    let told = |log: &Log| log.texts.iter().filter(|text| text.starts_with("failed: ")).cloned().collect::<Vec<_>>();
    let log = instance.log(|log| told(log).len() == 20).await?;
    match told(&log).iter().find(|text| !text.contains("Java")) {
        Some(text) => return Err(format!("it does not say that only Java can read the content: {text}").into()),
        None => eprintln!("{}", told(&log)[0]),
    }
    let seen = Seen::text("FAILED `reduced 21`; every sub-task says that only Java can read its content");
    Ok(vec![(Cell::new("MAP_REDUCE, objects of Java", "Java", "ours"), seen)])
}
