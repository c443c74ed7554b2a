//! Stop, cancel and run again.

use std::time::Duration;

use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::check::{Outcome, holds, same, same_json};
use crate::context::{Case, Context};
use crate::raw_worker::now;

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_stop_marks_first_and_tells_the_worker_once", stop),
        Case::new("reports_after_a_stop_overwrite_it", after_stop),
        Case::new("only_what_is_not_dispatched_can_be_cancelled", cancel),
        Case::new("a_finished_instance_runs_again_under_its_id", retry),
        Case::new("orders_for_what_they_do_not_fit_are_refused", refused),
    ]
}

async fn stop(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    worker.report(instance, 3).await?;
    let answer = cx
        .form("/openApi/stopInstance", &[("instanceId", &instance.to_string()), ("appId", &cx.app_id.to_string())])
        .await?;
    same_json("answer", &answer.json()?, &json!({"success": true, "data": null, "message": null}))?;
    let info = cx.info(instance).await?;
    same("row", &(info.status(), info.result.as_deref()), &(Some(InstanceStatus::Stopped), Some("stopped by user")))?;
    holds("it has a finish time", info.finished_time.is_some())?;
    let told = worker.nth("/worker/stopInstance", instance, 1, SOON).await?;
    same_json("told", &told.body, &json!({"instanceId": instance}))?;
    let again = cx
        .form("/openApi/stopInstance", &[("instanceId", &instance.to_string()), ("appId", &cx.app_id.to_string())])
        .await?;
    same("again", &again.message()?.as_str(), &"IllegalArgumentException: can't stop finished instance!")?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    same("told once", &worker.received("/worker/stopInstance").len(), &1)
}

async fn after_stop(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let time = now();
    worker.send_report(&worker.report_body(instance, 3, time)).await?;
    cx.api.stop_instance(cx.app_id, instance).await?;
    worker.send_report(&worker.report_body(instance, 3, time + 1)).await?;
    same("RUNNING after STOPPED", &cx.info(instance).await?.status(), &Some(InstanceStatus::Running))?;
    worker.send_report(&worker.report_body(instance, 5, time + 2)).await?;
    let info = cx.info(instance).await?;
    same(
        "SUCCEED after that",
        &(info.status(), info.result.as_deref()),
        &(Some(InstanceStatus::Succeed), Some("result 5")),
    )
}

async fn cancel(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("cancel")).await?;
    let waiting = cx.api.run_job(cx.app_id, job, None, 3_000).await?;
    cx.api.cancel_instance(cx.app_id, waiting).await?;
    let info = cx.info(waiting).await?;
    same("row", &(info.status(), info.result.as_deref()), &(Some(InstanceStatus::Canceled), Some("canceled by user")))?;
    let running = cx.run(job, None).await?;
    worker.dispatched(running).await?;
    cx.until(running, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let fields = [("instanceId", running.to_string()), ("appId", cx.app_id.to_string())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = cx.form("/openApi/cancelInstance", &fields).await?;
    same("refused", &refused.message()?.as_str(), &"PowerJobException: instance already up and running")?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let dispatched =
        worker.received("/worker/runJob").iter().any(|request| request.body["instanceId"] == json!(waiting));
    holds("a cancelled one is never dispatched", !dispatched)
}

async fn retry(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (job, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let fields = [("instanceId", instance.to_string()), ("appId", cx.app_id.to_string())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = cx.form("/openApi/retryInstance", &fields).await?;
    same("an open one", &refused.message()?.as_str(), &"PowerJobException: Only stopped instance can be retry!")?;
    let time = now();
    worker.send_report(&worker.report_body(instance, 4, time)).await?;
    cx.api.retry_instance(cx.app_id, instance).await?;
    let second = worker.nth("/worker/runJob", instance, 2, SOON).await?;
    same("the same job", &second.body["jobId"], &json!(job))?;
    let info = cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    same("cleared", &(info.result, info.finished_time), &(None, None))?;
    worker.send_report(&worker.report_body(instance, 5, time)).await?;
    same(
        "the last report time stays",
        &cx.info(instance).await?.status(),
        &Some(InstanceStatus::WaitingWorkerReceive),
    )?;
    worker.send_report(&worker.report_body(instance, 5, time + 1)).await?;
    let info = cx.info(instance).await?;
    same("row", &(info.status(), info.running_times), &(Some(InstanceStatus::Succeed), Some(2)))
}

async fn refused(cx: Context) -> Outcome {
    let _worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    let (instance, own, other) = (instance.to_string(), cx.app_id.to_string(), (cx.app_id + 1).to_string());
    for path in ["/openApi/stopInstance", "/openApi/cancelInstance", "/openApi/retryInstance"] {
        let unknown = cx.form(path, &[("instanceId", "5"), ("appId", &own)]).await?;
        let text = "IllegalArgumentException: can't find instance by instanceId: 5";
        same_json(path, &unknown.json()?, &json!({"success": false, "data": Value::Null, "message": text}))?;
        let foreign = cx.form(path, &[("instanceId", &instance), ("appId", &other)]).await?;
        let text = format!("IllegalArgumentException: instance is not belong to the app whose appId is {other}");
        same(path, &foreign.message()?, &text)?;
    }
    Ok(())
}
