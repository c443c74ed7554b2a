//! The rules that take half a minute or a whole one on a real server.

use std::time::{Duration, Instant};

use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::check::{Outcome, holds, same};
use crate::context::{Case, Context};
use crate::raw_worker::now;

const SOON: Duration = Duration::from_secs(10);
/// What messages and polling may add on a busy machine.
const SLACK: Duration = Duration::from_secs(8);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("an_instance_never_reported_is_dispatched_again_after_a_minute", never_reported),
        Case::new("a_running_instance_that_falls_silent_fails_after_a_minute", silent),
        Case::new("a_silent_instance_with_two_retries_is_dispatched_again", silent_with_retries),
        Case::new("while_all_workers_are_overloaded_an_instance_waits", overloaded),
        Case::new("a_reported_failure_is_retried_under_the_same_id", retried),
        Case::new("asking_for_a_log_too_early_destroys_it", poisoned_log),
        Case::new("a_log_is_archived_a_minute_after_the_end_and_late_lines_hide_it", archived_log),
    ]
}

fn within(cx: &Context, what: &str, waited: Duration, from: f64, to: f64) -> Outcome {
    let limits = cx.server_time(from)..cx.server_time(to) + SLACK;
    holds(format!("{what} after {waited:?}, expected {limits:?}"), limits.contains(&waited))
}

async fn never_reported(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    // From before the server's own beginning: messages that are late make the time longer and never shorter.
    let start = Instant::now();
    let (_, instance) = cx.run_plain().await?;
    let first = worker.dispatched(instance).await?;
    let second = worker.nth("/worker/runJob", instance, 2, cx.server_time(80.0) + SLACK).await?;
    within(&cx, "dispatched again", second.at.duration_since(start), 59.0, 76.0)?;
    same("the same request", &second.body.to_string(), &first.body.to_string())?;
    let info = cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    same("run count", &info.running_times, &Some(0))
}

async fn silent(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("silent").with("instanceRetryNum", 1)).await?;
    let instance = cx.run(job, None).await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let start = Instant::now();
    worker.report(instance, 3).await?;
    let info = cx.until(instance, InstanceStatus::Failed, cx.server_time(80.0) + SLACK).await?;
    within(&cx, "given up", start.elapsed(), 59.0, 76.0)?;
    same("result", &info.result.as_deref(), &Some("worker report timeout, maybe TaskTracker down"))?;
    same("one retry is none after silence", &worker.received("/worker/runJob").len(), &1)?;
    worker.report(instance, 3).await?;
    same("a late report brings it back", &cx.info(instance).await?.status(), &Some(InstanceStatus::Running))
}

async fn silent_with_retries(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("silent").with("instanceRetryNum", 2)).await?;
    let instance = cx.run(job, None).await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let start = Instant::now();
    worker.report(instance, 3).await?;
    let second = worker.nth("/worker/runJob", instance, 2, cx.server_time(90.0) + SLACK).await?;
    within(&cx, "dispatched again", second.at.duration_since(start), 59.0, 86.0)
}

async fn overloaded(cx: Context) -> Outcome {
    let worker = cx.worker_with(|beat| beat["overload"] = json!(true)).await?;
    let start = Instant::now();
    let (_, instance) = cx.run_plain().await?;
    let info = cx.info(instance).await?;
    same("waits", &(info.status(), info.result), &(Some(InstanceStatus::WaitingDispatch), None))?;
    tokio::time::sleep(cx.server_time(5.0)).await;
    worker.change_heartbeat(|beat| beat["overload"] = json!(false));
    worker.beat().await?;
    let request = worker.nth("/worker/runJob", instance, 1, cx.server_time(50.0) + SLACK).await?;
    within(&cx, "dispatched", request.at.duration_since(start), 29.0, 46.0)
}

async fn retried(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("retried").with("instanceRetryNum", 1)).await?;
    let instance = cx.run(job, Some("p")).await?;
    let first = worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let time = now();
    worker.send_report(&worker.report_body(instance, 4, time)).await?;
    let info = cx.info(instance).await?;
    let (status, result, times) = (info.status(), info.result, info.running_times);
    same("row", &(status, result, times), &(Some(InstanceStatus::WaitingDispatch), None, Some(1)))?;
    let second = worker.nth("/worker/runJob", instance, 2, cx.server_time(60.0) + SLACK).await?;
    within(&cx, "dispatched again", second.at.duration_since(first.at), 29.0, 51.0)?;
    same("the same request", &second.body.to_string(), &first.body.to_string())?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    worker.send_report(&worker.report_body(instance, 4, time + 1)).await?;
    let info = cx.info(instance).await?;
    same("the second failure is final", &(info.status(), info.running_times), &(Some(InstanceStatus::Failed), Some(2)))
}

async fn poisoned_log(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let stub = "SYSTEM: There is no online log for this job instance.\n";
    same("asked too early", &cx.api.log_page(cx.app_id, instance, 0).await?.data.as_str(), &stub)?;
    worker.log(instance, &[(1_700_000_000_000, 2, "real".to_owned())]).await?;
    worker.report(instance, 5).await?;
    let page = crate::check::eventually("the line", SOON, async || {
        let page = cx.api.log_page(cx.app_id, instance, 0).await?;
        Ok(page.data.ends_with("real\n").then_some(page))
    });
    same("for now all looks well", &page.await?.total_pages, &1)?;
    let limit = cx.server_time(85.0) + SLACK;
    crate::check::eventually("the stub in the place of the archived log", limit, async || {
        let page = cx.api.log_page(cx.app_id, instance, 0).await?;
        Ok((page.data == stub).then_some(()))
    })
    .await
}

async fn archived_log(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    worker.log(instance, &[(1_700_000_000_000, 2, "in time".to_owned())]).await?;
    worker.report(instance, 5).await?;
    tokio::time::sleep(cx.server_time(72.0)).await;
    let page = cx.api.log_page(cx.app_id, instance, 0).await?;
    holds(format!("archived: {:?}", page.data), page.data.ends_with("INFO in time\n"))?;
    worker.log(instance, &[(1_700_000_000_001, 2, "late".to_owned())]).await?;
    crate::check::eventually("the late line alone", SOON, async || {
        let page = cx.api.log_page(cx.app_id, instance, 0).await?;
        Ok((page.data.ends_with("INFO late\n") && !page.data.contains("in time")).then_some(()))
    })
    .await
}
