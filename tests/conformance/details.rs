//! The detail page, for which the server asks the worker.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::check::{Failure, Outcome, mask_times, same, same_json};
use crate::context::{Case, Context};

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_running_instance_is_shown_as_its_worker_describes_it", asked),
        Case::new("without_a_good_answer_of_the_worker_the_row_is_shown", row),
    ]
}

async fn detail(cx: &Context, instance: i64) -> Result<String, Failure> {
    let answer =
        cx.get("/instance/detail", &[("appId", &cx.app_id.to_string()), ("instanceId", &instance.to_string())]).await?;
    Ok(mask_times(&answer.body))
}

async fn asked(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("detail").with("jobParams", "jp")).await?;
    let instance = cx.run(job, Some("ip")).await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    worker.report(instance, 3).await?;
    let own = json!({
        "actualTriggerTime": 1_700_000_000_000_i64, "status": 3, "taskTrackerAddress": worker.address,
        "taskDetail": {"totalTaskNum": 1, "succeedTaskNum": 0, "failedTaskNum": 0},
    });
    let answer = json!({"success": true, "data": URL_SAFE_NO_PAD.encode(own.to_string())});
    worker.answer("/worker/queryInstanceStatus", 200, answer.to_string());
    let shown = detail(&cx, instance).await?;
    let expected = json!({"success": true, "data": {
        "expectedTriggerTime": "N/A", "actualTriggerTime": "0000-00-00 00:00:00", "finishedTime": "N/A", "status": 3, "result": null,
        "taskTrackerAddress": worker.address, "jobParams": null, "instanceParams": "ip",
        "taskDetail": {"totalTaskNum": 1, "succeedTaskNum": 0, "failedTaskNum": 0, "waitingDispatchTaskNum": null,
            "workerUnreceivedTaskNum": null, "receivedTaskNum": null, "runningTaskNum": null},
        "queriedTaskDetailInfoList": [], "subInstanceDetails": null, "runningTimes": 1,
    }, "message": null});
    same("detail", &shown, &expected.to_string())?;
    let question = worker.nth("/worker/queryInstanceStatus", instance, 1, SOON).await?;
    same("the question names the instance", &question.body["instanceId"], &json!(instance))
}

async fn row(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("detail").with("jobParams", "jp")).await?;
    let instance = cx.run(job, Some("ip")).await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    worker.report(instance, 3).await?;
    worker.answer("/worker/queryInstanceStatus", 200, r#"{"success":false,"message":"can't find TaskTracker"}"#);
    let expected = |status: i32, result: Value, finished: &str| {
        json!({"success": true, "data": {
            "expectedTriggerTime": "0000-00-00 00:00:00", "actualTriggerTime": "0000-00-00 00:00:00", "finishedTime": finished,
            "status": status, "result": result, "taskTrackerAddress": worker.address, "jobParams": "jp", "instanceParams": "ip",
            "taskDetail": null, "queriedTaskDetailInfoList": [], "subInstanceDetails": null, "runningTimes": 1,
        }, "message": null})
    };
    same("running", &detail(&cx, instance).await?, &expected(3, Value::Null, "N/A").to_string())?;
    worker.report(instance, 5).await?;
    same(
        "finished",
        &detail(&cx, instance).await?,
        &expected(5, json!("result 5"), "0000-00-00 00:00:00").to_string(),
    )?;
    same("a finished one is not asked about", &worker.received("/worker/queryInstanceStatus").len(), &1)?;
    let unknown = cx.get("/instance/detail", &[("appId", &cx.app_id.to_string()), ("instanceId", "5")]).await?;
    let text = "IllegalArgumentException: invalid instanceId: 5";
    same_json("unknown", &unknown.json()?, &json!({"success": false, "data": null, "message": text}))
}
