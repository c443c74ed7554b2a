//! Sub-tasks that end at once, many runs: a Java task tracker loses the result of such a task now and then, if its worker is Java as
//! well. Ours must not, whoever the other side is.

use std::sync::Arc;

use futures_util::future::try_join_all;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::job::Job;
use crate::site::{Site, tags};
use crate::table::{Cell, Seen};
use crate::workers::Kind;
use crate::{Case, Rows};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("instant_tasks_by_ours_over_both", |site| instant(site, Kind::Ours, true)),
        Case::new("instant_tasks_by_ours_over_java", |site| instant(site, Kind::Ours, false)),
        Case::new("instant_tasks_by_java_over_ours", |site| instant(site, Kind::Java, false)).tracked_by(Kind::Java),
    ]
}

/// Runs in all.
fn runs() -> usize {
    if std::env::var("TESTRIG_LONG").is_ok_and(|long| long == "1") { 100 } else { 10 }
}

async fn instant(site: Arc<Site>, tracker: Kind, both: bool) -> Rows {
    let ([tag, _], [other, _]) = (tags(tracker), tags(tracker.other()));
    let workers: &[&'static str] = if both { &[tag, other] } else { &[other] };
    // First and last step of a Java task tracker run on its own worker and take their time.
    let mut job = Job::new("MAP_REDUCE", tag, workers).params(json!({"tasks": 20, "pause": 50}));
    job.apart = !both;
    for _ in 0..runs() / 10 {
        let instances = try_join_all((0..10).map(|_| job.run(&site))).await?;
        try_join_all(instances.iter().map(|instance| instance.ends(InstanceStatus::Succeed, Some("reduced 21"))))
            .await?;
    }
    let cell = Cell::new(
        "MAP_REDUCE, tasks that end at once",
        tracker.name(),
        if both { "both" } else { tracker.other().name() },
    );
    Ok(vec![(cell, Seen::text("SUCCEED `reduced 21`, every run"))])
}
