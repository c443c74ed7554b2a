//! Status reports: what is taken, what is dropped though acknowledged, and how it is answered.

use std::time::Duration;

use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::check::{Outcome, holds, mask_fields, same, same_json};
use crate::context::{Case, Context};
use crate::raw_worker::now;

const SOON: Duration = Duration::from_secs(10);
const ACKNOWLEDGED: &str = r#"{"success":true}"#;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("the_life_of_an_instance_from_dispatch_to_success", life),
        Case::new("a_failure_without_retries_is_final", failure),
        Case::new("old_and_repeated_reports_are_dropped_but_acknowledged", stale),
        Case::new("reports_of_another_worker_are_dropped_but_acknowledged", foreign),
        Case::new("reports_that_cannot_be_read_or_matched", unreadable),
        Case::new("a_report_before_the_answer_to_the_dispatch_is_taken", early),
        Case::new("a_running_report_resurrects_a_finished_instance", resurrected),
    ]
}

async fn life(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("life").with("jobParams", "jp")).await?;
    let before = now();
    let instance = cx.run(job, Some("ip")).await?;
    worker.dispatched(instance).await?;
    let row = |status: i32, result: Value, finished: Value, times: i32| {
        json!({
            "jobId": job, "appId": cx.app_id, "instanceId": instance, "wfInstanceId": null, "jobParams": "jp", "instanceParams": "ip",
            "status": status, "type": 1, "result": result, "expectedTriggerTime": "*", "actualTriggerTime": "*",
            "finishedTime": finished, "taskTrackerAddress": worker.address, "runningTimes": times, "gmtCreate": "*", "gmtModified": "*",
        })
    };
    let shown = async || {
        let answer = cx.form("/openApi/fetchInstanceInfo", &[("instanceId", &instance.to_string())]).await?;
        let names = ["expectedTriggerTime", "actualTriggerTime", "finishedTime", "gmtCreate", "gmtModified"];
        Ok::<_, crate::check::Failure>(mask_fields(&answer.json()?["data"], &names))
    };
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    same_json("dispatched", &shown().await?, &row(2, Value::Null, Value::Null, 0))?;
    same("RUNNING is answered with nothing", &worker.report(instance, 3).await?, &(200, String::new()))?;
    same_json("running", &shown().await?, &row(3, Value::Null, Value::Null, 1))?;
    worker.report(instance, 3).await?;
    same_json("running still", &shown().await?, &row(3, Value::Null, Value::Null, 1))?;
    let mut last = worker.report_body(instance, 5, now());
    last["endTime"] = json!(before);
    same("the end is acknowledged", &worker.send_report(&last).await?, &(200, ACKNOWLEDGED.to_owned()))?;
    same_json("succeeded", &shown().await?, &row(5, json!("result 5"), json!("*"), 1))?;
    same("endTime is the finish time", &cx.info(instance).await?.finished_time, &Some(before))?;
    let code = cx.form("/openApi/fetchInstanceStatus", &[("instanceId", &instance.to_string())]).await?;
    same_json("status", &code.json()?, &json!({"success": true, "data": 5, "message": null}))
}

async fn failure(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let mut report = worker.report_body(instance, 4, now());
    if let Some(map) = report.as_object_mut() {
        map.remove("endTime");
    }
    let before = now();
    same("acknowledged", &worker.send_report(&report).await?, &(200, ACKNOWLEDGED.to_owned()))?;
    let info = cx.info(instance).await?;
    let (status, result, times) = (info.status(), info.result.as_deref(), info.running_times);
    same("row", &(status, result, times), &(Some(InstanceStatus::Failed), Some("result 4"), Some(1)))?;
    holds(
        "without endTime the server's clock counts",
        info.finished_time.is_some_and(|time| (before - 2_000..before + 10_000).contains(&time)),
    )
}

async fn stale(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let time = now();
    worker.send_report(&worker.report_body(instance, 3, time)).await?;
    for old in [time, time - 1] {
        let answer = worker.send_report(&worker.report_body(instance, 5, old)).await?;
        same("dropped, yet", &answer, &(200, ACKNOWLEDGED.to_owned()))?;
        same("row", &cx.info(instance).await?.status(), &Some(InstanceStatus::Running))?;
    }
    worker.send_report(&worker.report_body(instance, 5, time + 1)).await?;
    let mut repeat = worker.report_body(instance, 5, time + 1);
    repeat["result"] = json!("another");
    same("a repeat", &worker.send_report(&repeat).await?, &(200, ACKNOWLEDGED.to_owned()))?;
    same("is not processed", &cx.info(instance).await?.result.as_deref(), &Some("result 5"))
}

async fn foreign(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let mut report = worker.report_body(instance, 5, now());
    report["sourceAddress"] = json!("localhost:1");
    same("dropped, yet", &worker.send_report(&report).await?, &(200, ACKNOWLEDGED.to_owned()))?;
    same("row", &cx.info(instance).await?.status(), &Some(InstanceStatus::WaitingWorkerReceive))?;
    let mut running = worker.report_body(instance, 3, now());
    running["sourceAddress"] = json!("localhost:1");
    same("RUNNING is answered with nothing", &worker.send_report(&running).await?, &(200, String::new()))?;
    same("a dropped report has set no time", &worker.report(instance, 3).await?, &(200, String::new()))?;
    same("the right one is taken", &cx.info(instance).await?.status(), &Some(InstanceStatus::Running))
}

async fn unreadable(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let broken = (500, "Internal Server Error".to_owned());
    let mut report = worker.report_body(instance, 77, now());
    same("a number that is no status", &worker.send_report(&report).await?, &broken)?;
    same("an empty object", &worker.send_report(&json!({})).await?, &broken)?;
    same("no object", &worker.send_report(&json!([1])).await?, &broken)?;
    for status in [3, 5] {
        report = worker.report_body(5, status, now());
        let text =
            "UncheckedExecutionException: java.lang.IllegalArgumentException: can't find Instance by instanceId: 5";
        let expected = json!({"success": false, "message": text}).to_string();
        same("an unknown instance", &worker.send_report(&report).await?, &(200, expected))?;
    }
    report = worker.report_body(instance, 3, now());
    report["sourceAddress"] = Value::Null;
    let (status, text) = worker.send_report(&report).await?;
    holds(&text, status == 200 && text.starts_with("{\"success\":false,\"message\":\"NullPointerException"))?;
    report["sourceAddress"] = json!(worker.address);
    report["unknownField"] = json!({"x": [1]});
    report["reportTime"] = json!(now().to_string());
    same("unknown fields and numbers in texts", &worker.send_report(&report).await?, &(200, String::new()))?;
    same("taken", &cx.info(instance).await?.status(), &Some(InstanceStatus::Running))
}

async fn early(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    worker.report_at_once(5, "quick");
    let job = cx.save(cx.job("quick")).await?;
    for _ in 0..5 {
        let instance = cx.run(job, None).await?;
        let info = cx.until(instance, InstanceStatus::Succeed, SOON).await?;
        same("row", &(info.result.as_deref(), info.running_times), &(Some("quick"), Some(1)))?;
    }
    Ok(())
}

async fn resurrected(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let time = now();
    worker.send_report(&worker.report_body(instance, 5, time)).await?;
    same("finished", &cx.info(instance).await?.status(), &Some(InstanceStatus::Succeed))?;
    worker.send_report(&worker.report_body(instance, 3, time + 1)).await?;
    let info = cx.info(instance).await?;
    same("running again", &info.status(), &Some(InstanceStatus::Running))?;
    same("with the old result", &info.result.as_deref(), &Some("result 5"))?;
    worker.send_report(&worker.report_body(instance, 4, time + 2)).await?;
    same("and overwritten", &cx.info(instance).await?.status(), &Some(InstanceStatus::Failed))
}
