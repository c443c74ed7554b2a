//! FIXED_RATE and FIXED_DELAY: the worker itself fires.

use std::{sync::Arc, time::Duration};

use libtest_mimic::Failed;
use powerjob_worker::openapi::{ApiCall, InstanceStatus};
use serde_json::{Value, json};

use crate::job::{Instance, Job};
use crate::site::{Site, tags};
use crate::stopped::stays_stopped;
use crate::table::{Cell, Seen};
use crate::wait::{eventually, same};
use crate::workers::Kind;
use crate::{Case, Rows};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for tracker in [Kind::Java, Kind::Ours] {
        for (time, execute, ms) in [
            ("FIXED_RATE", "STANDALONE", 1000),
            ("FIXED_DELAY", "STANDALONE", 1000),
            ("FIXED_RATE", "BROADCAST", 5000),
            ("FIXED_RATE", "MAP_REDUCE", 5000),
        ] {
            let title = format!("{time}_{execute}_by_{}", tracker.name()).to_lowercase();
            cases.push(Case::new(title, move |site| fires(site, time, execute, ms, tracker)));
        }
    }
    cases
}

async fn fires(site: Arc<Site>, time: &'static str, execute: &'static str, ms: u32, tracker: Kind) -> Rows {
    let ([tag, _], [other, _]) = (tags(tracker), tags(tracker.other()));
    let alone = execute == "STANDALONE";
    let workers: &[&'static str] = if alone { &[tag] } else { &[tag, other] };
    let job = Job::new(execute, tag, workers).every(time, ms).save(&site).await?;
    let instance = started(&site, job).await?;
    let result = match execute {
        "BROADCAST" => "post 3",
        "MAP_REDUCE" => "reduced 21",
        _ => "0 lines",
    };
    for one in ended(&instance, 2, tracker, result).await? {
        same("result of a firing", &one["result"].as_str(), &Some(result))?;
        same("status of a firing", &one["status"].as_i64(), &Some(5))?;
    }
    let info = instance.info().await?;
    same("task tracker", &instance.tracker(&info)?, &tag)?;
    site.api.disable_job(site.app_id, job).await?;
    instance.reaches(InstanceStatus::Stopped).await?;
    stays_stopped(&instance, tracker).await?;
    let cell = Cell::new(&format!("{time} {execute}"), tracker.name(), if alone { "–" } else { "both" });
    Ok(vec![(cell, Seen::text(&format!("fires, each SUCCEED `{result}`; STOPPED when disabled")))])
}

/// The server starts the job in one of its rounds of 15 s.
pub(crate) async fn started(site: &Arc<Site>, job: i64) -> Result<Instance, Failed> {
    let body = json!({"appId": site.app_id, "index": 0, "pageSize": 10, "type": "NORMAL", "jobId": job});
    let id = eventually(Duration::from_secs(90), "the server starts the job", async || {
        let page: Value =
            site.api.call(ApiCall::json("/instance/list", body.clone())).await.map_err(|e| e.to_string())?;
        let id = page["data"][0]["instanceId"].as_str().and_then(|id| id.parse::<i64>().ok());
        id.ok_or_else(|| page.to_string())
    })
    .await?;
    Ok(Instance::found(site, id))
}

/// At least so many firings that have ended, as the task tracker tells them. Of a Java one only the good ones count: it takes a
/// worker for dead that is late with its first answer, and fails or leaves out what that was to do.
async fn ended(instance: &Instance, count: usize, tracker: Kind, result: &str) -> Result<Vec<Value>, Failed> {
    let good = |one: &Value| one["status"].as_i64() == Some(5) && one["result"].as_str() == Some(result);
    let counts = |one: &Value| matches!(one["status"].as_i64(), Some(4 | 5)) && (tracker == Kind::Ours || good(one));
    eventually(Duration::from_secs(150), &format!("{count} firings have ended"), async || {
        let detail = instance.detail().await?;
        let all = detail["subInstanceDetails"].as_array().cloned().unwrap_or_default();
        let ended: Vec<Value> = all.into_iter().filter(counts).collect();
        if ended.len() >= count { Ok(ended) } else { Err(detail.to_string()) }
    })
    .await
}
