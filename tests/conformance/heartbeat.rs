//! Heartbeats and the worker list.

use serde_json::{Value, json};

use crate::check::{Outcome, holds, mask_times, same};
use crate::context::{Case, Context, Raw};
use crate::raw_worker::{RawWorker, now};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_heartbeat_without_metrics_or_app_id_is_a_500", strict),
        Case::new("the_transport_port_knows_only_post_on_its_own_paths", edges),
        Case::new("a_worker_is_listed_with_what_its_heartbeat_says", listed),
        Case::new("only_the_field_overload_marks_a_worker_overloaded", overload_field),
        Case::new("a_heartbeat_older_than_the_last_one_is_ignored", older),
        Case::new("workers_are_listed_best_score_first", order),
        Case::new("queries_of_a_worker_are_answered_in_base64", queries),
    ]
}

async fn strict(cx: Context) -> Outcome {
    let worker = RawWorker::start(&cx.app, cx.app_id, &cx.transport).await?;
    let mut whole = Value::Null;
    worker.change_heartbeat(|beat| whole = beat.clone());
    whole["heartbeatTime"] = json!(now());
    let without = |name: &str| {
        let mut body = whole.clone();
        if let Some(map) = body.as_object_mut() {
            map.remove(name);
        }
        body.to_string()
    };
    let mut null_app = whole.clone();
    null_app["appId"] = Value::Null;
    let broken = Raw { status: 500, content_type: None, body: "Internal Server Error".to_owned() };
    let cases = [
        without("systemMetrics"),
        without("appId"),
        null_app.to_string(),
        "[1]".to_owned(),
        "no json".to_owned(),
        String::new(),
    ];
    for body in cases {
        same(&format!("heartbeat {body}"), &cx.tell("/server/workerHeartbeat", &body).await?, &broken)?;
    }
    holds("nothing is listed", cx.api.list_workers(cx.app_id).await?.is_empty())?;
    whole["somethingNew"] = json!({"a": 1});
    let taken = Raw { status: 200, content_type: None, body: String::new() };
    same("an unknown field", &cx.tell("/server/workerHeartbeat", &whole.to_string()).await?, &taken)?;
    same("listed", &cx.api.list_workers(cx.app_id).await?.len(), &1)
}

async fn edges(cx: Context) -> Outcome {
    let page = "<html><body><h1>Resource not found</h1></body></html>";
    let unknown = cx.tell("/server/nope", "{}").await?;
    let expected =
        Raw { status: 404, content_type: Some("text/html; charset=utf-8".to_owned()), body: page.to_owned() };
    same("unknown path", &unknown, &expected)?;
    same("web path", &cx.tell("/server/assert", "{}").await?.status, &404)?;
    for path in
        ["/server/workerHeartbeat", "/server/reportInstanceStatus", "/server/reportLog", "/server/queryJobCluster"]
    {
        let (wrong, allow) = cx.transport_get(path).await?;
        same("GET", &wrong, &Raw { status: 405, content_type: None, body: String::new() })?;
        same("allow", &allow.as_deref(), &Some("POST"))?;
    }
    let no_list = cx.tell("/server/reportLog", r#"{"workerAddress":"a"}"#).await?;
    same("a log report without its list", &(no_list.status, no_list.body.as_str()), &(500, "Internal Server Error"))
}

async fn listed(cx: Context) -> Outcome {
    let worker = cx.worker_with(|beat| beat["tag"] = json!("gpu")).await?;
    let rows = cx.get("/system/listWorker", &[("appId", &cx.app_id.to_string())]).await?;
    let expected = json!({"success": true, "data": [{
        "address": worker.address, "cpuLoad": "1.2 / 8 cores", "memoryLoad": "3.6%（0.1 / 3.6 GB）", "diskLoad": "12.4%（108.6 / 875 GB）",
        "protocol": "HTTP", "tag": "gpu", "lastActiveTime": "0000-00-00 00:00:00", "lightTaskTrackerNum": 2, "heavyTaskTrackerNum": 1,
        "lastOverloadTime": 0, "overloading": false, "status": 1,
    }], "message": null});
    same("worker list", &mask_times(&rows.json()?.to_string()), &expected.to_string())?;
    let missing = cx.get("/system/listWorker", &[]).await?;
    holds(missing.message()?, missing.message()?.starts_with("NumberFormatException"))
}

async fn overload_field(cx: Context) -> Outcome {
    let worker = cx.worker_with(|beat| beat["isOverload"] = json!(true)).await?;
    let row = async |what: &str, overloading: bool, status: i32| -> Outcome {
        let rows = cx.api.list_workers(cx.app_id).await?;
        let row = rows.first().ok_or_else(|| crate::check::Failure("no worker is listed".to_owned()))?;
        same(what, &(row.overloading, row.status), &(Some(overloading), status))
    };
    row("isOverload", false, 1).await?;
    worker.change_heartbeat(|beat| beat["overload"] = json!(true));
    worker.beat().await?;
    row("overload", true, 3).await?;
    worker.change_heartbeat(|beat| beat["overload"] = json!(false));
    worker.beat().await?;
    row("no longer", false, 1).await
}

async fn older(cx: Context) -> Outcome {
    let worker = RawWorker::start(&cx.app, cx.app_id, &cx.transport).await?;
    worker.beat().await?;
    let mut old = Value::Null;
    worker.change_heartbeat(|beat| old = beat.clone());
    old["heartbeatTime"] = json!(now() - 20_000);
    old["overload"] = json!(true);
    same("it is answered like any other", &worker.post("/server/workerHeartbeat", &old).await?, &(200, String::new()))?;
    let rows = cx.api.list_workers(cx.app_id).await?;
    same("but ignored", &rows.first().and_then(|row| row.overloading), &Some(false))?;
    let late = RawWorker::start(&cx.app, cx.app_id, &cx.transport).await?;
    late.change_heartbeat(|beat| old = beat.clone());
    old["heartbeatTime"] = json!(now() - 61_000);
    late.post("/server/workerHeartbeat", &old).await?;
    let rows = cx.api.list_workers(cx.app_id).await?;
    let row = rows.into_iter().find(|row| row.address == late.address);
    same("a clock a minute behind is a dead worker", &row.map(|row| row.status), &Some(9999))
}

async fn order(cx: Context) -> Outcome {
    let worst = cx.worker_with(|beat| beat["systemMetrics"]["score"] = json!(2)).await?;
    let best = cx.worker_with(|beat| beat["systemMetrics"]["score"] = json!(99)).await?;
    let middle = cx.worker_with(|beat| beat["systemMetrics"]["score"] = json!(50)).await?;
    let rows = cx.api.list_workers(cx.app_id).await?;
    let addresses: Vec<String> = rows.into_iter().map(|row| row.address).collect();
    same("order", &addresses, &vec![best.address.clone(), middle.address.clone(), worst.address.clone()])
}

async fn queries(cx: Context) -> Outcome {
    use base64::Engine as _;
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("cluster")).await?;
    let (status, text) = worker.post("/server/queryJobCluster", &json!({"appId": cx.app_id, "jobId": job})).await?;
    let data = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json!([worker.address]).to_string());
    same("cluster", &(status, text), &(200, json!({"success": true, "data": data}).to_string()))?;
    let (_, text) = worker.post("/server/queryJobCluster", &json!({"appId": cx.app_id + 1, "jobId": job})).await?;
    same("another app's job", &text, &json!({"success": false, "message": "Permission Denied!"}).to_string())?;
    let (_, text) = worker.post("/server/queryJobCluster", &json!({"appId": cx.app_id, "jobId": 99_999_999})).await?;
    same(
        "unknown job",
        &text,
        &json!({"success": false, "message": "can't find jobInfo by jobId: 99999999"}).to_string(),
    )?;
    let (_, text) = worker.post("/server/queryContainer", &json!({"containerId": 3_000_000})).await?;
    same(
        "unknown container",
        &text,
        &json!({"success": false, "message": "can't find container by id: 3000000"}).to_string(),
    )
}
