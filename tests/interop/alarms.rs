//! Alarms of frequent jobs: the worker counts failures by the job's `alarmConfig` and says so in a report; the server then tells the
//! users of the job, here by the webhook of one.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, routing::post};
use libtest_mimic::Failed;
use parking_lot::Mutex;
use powerjob_worker::openapi::{ApiCall, InstanceStatus};
use serde_json::{Value, json};

use crate::frequent::started;
use crate::job::Job;
use crate::site::{Site, tags};
use crate::table::{Cell, Seen};
use crate::wait::{eventually, holds, same, stays};
use crate::workers::Kind;
use crate::{Case, Rows};

/// Failures that make an alarm.
const THRESHOLD: i64 = 3;
const WHY: &str = "no luck today";

pub(crate) fn cases() -> Vec<Case> {
    [Kind::Java, Kind::Ours]
        .map(|tracker| {
            let title = format!("alarm_of_failing_firings_by_{}", tracker.name()).to_lowercase();
            Case::new(title, move |site| alarm(site, tracker)).tracked_by(tracker)
        })
        .into()
}

/// Takes what a server posts.
struct Receiver {
    url: String,
    posted: Arc<Mutex<Vec<Value>>>,
    _serving: tokio_util::task::AbortOnDropHandle<()>,
}

impl Receiver {
    async fn start() -> Result<Self, Failed> {
        let posted = Arc::new(Mutex::new(Vec::new()));
        let take = |State(posted): State<Arc<Mutex<Vec<Value>>>>, Json(alarm): Json<Value>| async move {
            posted.lock().push(alarm);
        };
        let routes = Router::new().route("/alarm", post(take)).with_state(posted.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/alarm", listener.local_addr()?);
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("the receiver of alarms has ended: {error}");
            }
        });
        Ok(Self { url, posted, _serving: tokio_util::task::AbortOnDropHandle::new(serving) })
    }

    /// Alarms about this instance.
    fn about(&self, instance: i64) -> Vec<Value> {
        let id = |alarm: &Value| number(&alarm["instanceId"]) == Some(instance);
        self.posted.lock().iter().filter(|alarm| id(alarm)).cloned().collect()
    }
}

/// A user with this webhook.
async fn user(site: &Site, name: &str, hook: &str) -> Result<i64, Failed> {
    let user = json!({"username": name, "password": "alarm-pass", "webHook": hook});
    site.api.call::<Value>(ApiCall::json("/user/save", user)).await?;
    let list: Value = site.api.call(ApiCall::get("/user/list").query("name", name)).await?;
    let users = list.as_array().cloned().unwrap_or_default();
    let found = users.iter().find(|user| user["username"] == name);
    found.and_then(|user| number(&user["id"])).ok_or_else(|| format!("no user {name} in {list}").into())
}

/// A number, or a text of one.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

async fn alarm(site: Arc<Site>, tracker: Kind) -> Rows {
    let [tag, _] = tags(tracker);
    let receiver = Receiver::start().await?;
    let name = format!("alarm-{}-{}", tracker.name().to_lowercase(), std::process::id());
    let user = user(&site, &name, &receiver.url).await?;
    let mut job = Job::new("STANDALONE", tag, &[tag]).every("FIXED_RATE", 1000).params(json!({"fail": WHY}));
    job.more = vec![
        ("alarmConfig", json!({"alertThreshold": THRESHOLD, "statisticWindowLen": 300, "silenceWindowLen": 3600})),
        ("notifyUserIds", json!([user])),
    ];
    let job = job.save(&site).await?;
    let instance = started(&site, job).await?;
    // The newest ten firings are told, and each has a number.
    let fired = async || {
        let detail = instance.detail().await?;
        let all = detail["subInstanceDetails"].as_array().cloned().unwrap_or_default();
        let failed = all.iter().filter(|one| one["status"].as_i64() == Some(4));
        let numbers = failed.filter_map(|one| number(&one["subInstanceId"]));
        numbers.max().ok_or_else(|| format!("no firing has failed yet: {detail}"))
    };
    let about = eventually(Duration::from_secs(150), "the server posts an alarm", async || {
        let about = receiver.about(instance.id);
        if about.is_empty() { Err(format!("newest failure {:?}", fired().await)) } else { Ok(about) }
    })
    .await?;
    let told = about[0]["result"].as_str().unwrap_or_default().to_owned();
    holds(&format!("the alarm tells why: {}", about[0]), told.contains(WHY))?;
    same("job of the alarm", &number(&about[0]["jobId"]), &Some(job))?;
    // More failures, and silence.
    let enough = fired().await? + 2 * THRESHOLD;
    eventually(Duration::from_secs(150), "it goes on failing", async || {
        let now = fired().await?;
        if now >= enough { Ok(()) } else { Err(now.to_string()) }
    })
    .await?;
    stays(Duration::from_secs(12), "one alarm in the time of silence", async || {
        let about = receiver.about(instance.id);
        if about.len() == 1 { Ok(()) } else { Err(format!("{about:?}")) }
    })
    .await?;
    site.api.disable_job(site.app_id, job).await?;
    instance.reaches(InstanceStatus::Stopped).await?;
    let cell = Cell::new("FIXED_RATE STANDALONE, fails", tracker.name(), "–");
    Ok(vec![(cell, Seen::text("one alarm after 3 failures, posted to the webhook of the job's user; then silence"))])
}
