//! Lists and single rows of the database: instances, jobs.

use std::time::Duration;

use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::check::{Outcome, mask_fields, mask_times, same, same_json};
use crate::context::{Case, Context};

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("instances_are_listed_newest_change_first_with_ids_as_text", instances),
        Case::new("a_job_is_shown_with_codes_and_defaults", job),
        Case::new("an_update_resets_plain_fields_and_keeps_configurations", update),
        Case::new("a_job_can_be_disabled_enabled_deleted_and_still_run", switches),
    ]
}

async fn instances(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("listed")).await?;
    let first = cx.run(job, None).await?;
    worker.dispatched(first).await?;
    cx.until(first, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    let second = cx.run(job, None).await?;
    worker.dispatched(second).await?;
    cx.until(second, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    worker.report(first, 5).await?;
    let row = |id: i64, result: Option<&str>, times: i32, status: i32, finished: &str| {
        json!({
            "jobId": job.to_string(), "jobName": "listed", "instanceId": id.to_string(), "wfInstanceId": "N/A", "result": result,
            "taskTrackerAddress": worker.address, "runningTimes": times, "status": status, "actualTriggerTime": "0000-00-00 00:00:00",
            "finishedTime": finished,
        })
    };
    let list = async |request: serde_json::Value| cx.json("/instance/list", &request).await;
    let (done, open) = (row(first, Some("result 5"), 1, 5, "0000-00-00 00:00:00"), row(second, None, 0, 2, "N/A"));
    let all = list(json!({"appId": cx.app_id, "index": 0, "pageSize": 10, "type": "NORMAL"})).await?;
    let page = json!({"index": 0, "pageSize": 10, "totalPages": 1, "totalItems": 2, "data": [done, open]});
    same("all", &mask_times(&all.body), &json!({"success": true, "data": page, "message": null}).to_string())?;
    let some = list(
        json!({"appId": cx.app_id, "index": 0, "pageSize": 1, "type": "NORMAL", "status": "WAITING_WORKER_RECEIVE"}),
    )
    .await?;
    let page = json!({"index": 0, "pageSize": 1, "totalPages": 1, "totalItems": 1, "data": [open]});
    same("by status", &mask_times(&some.body), &json!({"success": true, "data": page, "message": null}).to_string())?;
    let tail = list(json!({"appId": cx.app_id, "index": 1, "pageSize": 1, "type": "NORMAL"})).await?;
    let page = json!({"index": 1, "pageSize": 1, "totalPages": 2, "totalItems": 2, "data": [open]});
    same("second page", &mask_times(&tail.body), &json!({"success": true, "data": page, "message": null}).to_string())?;
    let untyped = list(json!({"appId": cx.app_id, "index": 0, "pageSize": 10})).await?;
    crate::check::holds("the type is mandatory", untyped.message()?.starts_with("NullPointerException"))
}

async fn job(cx: Context) -> Outcome {
    let id = cx.save(cx.job("shown")).await?;
    let answer = cx.form("/openApi/fetchJob", &[("jobId", &id.to_string()), ("appId", &cx.app_id.to_string())]).await?;
    let expected = json!({
        "id": id, "jobName": "shown", "jobDescription": null, "appId": cx.app_id, "jobParams": null, "timeExpressionType": 1,
        "timeExpression": null, "executeType": 1, "processorType": 1, "processorInfo": "echo", "maxInstanceNum": 0, "concurrency": 5,
        "instanceTimeLimit": 0, "instanceRetryNum": 0, "taskRetryNum": 0, "status": 1, "nextTriggerTime": null, "minCpuCores": 0.0,
        "minMemorySpace": 0.0, "minDiskSpace": 0.0, "designatedWorkers": null, "maxWorkerCount": 0, "notifyUserIds": null,
        "gmtCreate": "*", "gmtModified": "*", "extra": null, "dispatchStrategy": 1, "dispatchStrategyConfig": null, "lifecycle": "{}",
        "alarmConfig": null, "tag": null, "logConfig": null, "advancedRuntimeConfig": null,
    });
    same_json("job", &mask_fields(&answer.json()?["data"], &["gmtCreate", "gmtModified"]), &expected)?;
    let all = cx.form("/openApi/fetchAllJob", &[("appId", &cx.app_id.to_string())]).await?;
    same_json("all jobs", &mask_fields(&all.json()?["data"], &["gmtCreate", "gmtModified"]), &json!([expected]))
}

async fn update(cx: Context) -> Outcome {
    let job = cx.job("before").with("jobParams", "p").with("tag", "t").with("instanceRetryNum", 3);
    let job = job
        .with("logConfig", json!({"type": 1, "level": 3}))
        .with("advancedRuntimeConfig", json!({"taskTrackerBehavior": 11}));
    let id = cx.save(job).await?;
    let mut changed = cx.job("after");
    changed.id = Some(id);
    changed.enable = false;
    same("the id stays", &cx.save(changed).await?, &id)?;
    let job = cx.api.fetch_job(cx.app_id, id).await?;
    same("reset", &(job.job_name.as_str(), job.job_params, job.status), &("after", None, Some(2)))?;
    same("reset number", &job.more["instanceRetryNum"], &json!(0))?;
    same("reset text", &job.more["tag"], &json!(null))?;
    same("kept log configuration", &job.more["logConfig"], &json!({"type": 1, "level": 3, "loggerName": null}))?;
    same("kept runtime configuration", &job.more["advancedRuntimeConfig"], &json!({"taskTrackerBehavior": 11}))
}

async fn switches(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let id = cx.save(cx.job("switched")).await?;
    let status = async || Ok::<_, crate::check::Failure>(cx.api.fetch_job(cx.app_id, id).await?.status);
    cx.api.disable_job(cx.app_id, id).await?;
    same("disabled", &status().await?, &Some(2))?;
    cx.api.enable_job(cx.app_id, id).await?;
    same("enabled", &status().await?, &Some(1))?;
    cx.api.delete_job(cx.app_id, id).await?;
    same("deleted softly", &status().await?, &Some(99))?;
    let instance = cx.run(id, None).await?;
    worker.dispatched(instance).await?;
    Ok(())
}
