//! Who gets an instance and what it is told.

use std::time::Duration;

use powerjob_worker::openapi::{InstanceStatus, JobSpec};
use serde_json::json;

use crate::check::{Outcome, eventually, holds, same, same_json};
use crate::context::{Case, Context};

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_cron_job_is_dispatched_with_its_expression", cron),
        Case::new("a_dispatch_carries_exactly_the_documented_fields", full),
        Case::new("a_dispatch_leaves_out_what_has_no_value", minimal),
        Case::new("all_workers_that_fit_are_named_and_the_best_one_is_told", candidates),
        Case::new("no_worker_is_a_final_failure_at_once", no_worker),
        Case::new("filters_by_tag_address_and_resources", filters),
        Case::new("too_many_instances_fail_at_once", too_many),
        Case::new("an_unknown_protocol_makes_the_run_fail_inside_the_server", unknown_protocol),
        Case::new("a_delayed_run_waits_its_time", delayed),
        Case::new("what_a_worker_answers_to_a_dispatch_plays_no_part", answer_ignored),
        Case::new("specify_chooses_by_tag_and_falls_back_to_any", specify),
    ]
}

async fn cron(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = JobSpec::cron(cx.app_id, "every second", "echo", "* * * * * ?").with("jobParams", "p");
    let job = cx.save(job).await?;
    let first = eventually("a dispatch", Duration::from_secs(60), async || {
        Ok(worker.received("/worker/runJob").into_iter().find(|request| request.body["jobId"] == json!(job)))
    })
    .await?;
    cx.api.disable_job(cx.app_id, job).await?;
    let expected = json!({
        "allWorkerAddress": [worker.address], "maxWorkerCount": 0, "jobId": job, "instanceId": first.body["instanceId"],
        "executeType": "STANDALONE", "processorType": "BUILT_IN", "processorInfo": "echo", "instanceTimeoutMS": 0, "jobParams": "p",
        "threadConcurrency": 5, "taskRetryNum": 0, "timeExpressionType": "CRON", "timeExpression": "* * * * * ?", "maxInstanceNum": 0,
    });
    same_json("dispatch", &first.body, &expected)
}

async fn full(cx: Context) -> Outcome {
    let worker = cx.worker_with(|beat| beat["tag"] = json!("gpu")).await?;
    let job = cx
        .job("full")
        .with("jobParams", "{\"a\":1}")
        .with("concurrency", 3)
        .with("taskRetryNum", 2)
        .with("instanceTimeLimit", 60_000)
        .with("maxInstanceNum", 7)
        .with("designatedWorkers", "gpu")
        .with("maxWorkerCount", 4)
        .with("logConfig", json!({"type": 1, "level": 2, "loggerName": null}))
        .with("advancedRuntimeConfig", json!({"taskTrackerBehavior": 1}))
        .with("alarmConfig", json!({"alertThreshold": 1, "statisticWindowLen": 2, "silenceWindowLen": 3}));
    let job = cx.save(job).await?;
    let instance = cx.run(job, Some("{\"b\":\"ä\"}")).await?;
    let request = worker.dispatched(instance).await?;
    let expected = json!({
        "allWorkerAddress": [worker.address], "maxWorkerCount": 4, "jobId": job, "instanceId": instance, "executeType": "STANDALONE",
        "processorType": "BUILT_IN", "processorInfo": "echo", "instanceTimeoutMS": 60_000, "jobParams": "{\"a\":1}",
        "instanceParams": "{\"b\":\"ä\"}", "threadConcurrency": 3, "taskRetryNum": 2, "timeExpressionType": "API", "maxInstanceNum": 7,
        "alarmConfig": "{\"alertThreshold\":1,\"silenceWindowLen\":3,\"statisticWindowLen\":2}", "logConfig": "{\"level\":2,\"type\":1}",
        "advancedRuntimeConfig": "{\"taskTrackerBehavior\":1}",
    });
    same_json("dispatch", &request.body, &expected)?;
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    same("content type", &header("content-type").as_deref(), &Some("application/json"))?;
    same("host", &header("host"), &Some(worker.address.clone()))?;
    holds("instance ids are beyond 2^53", instance > 1 << 53)
}

async fn minimal(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("minimal")).await?;
    for params in [None, Some("")] {
        let instance = cx.run(job, params).await?;
        let expected = json!({
            "allWorkerAddress": [worker.address], "maxWorkerCount": 0, "jobId": job, "instanceId": instance,
            "executeType": "STANDALONE", "processorType": "BUILT_IN", "processorInfo": "echo", "instanceTimeoutMS": 0,
            "threadConcurrency": 5, "taskRetryNum": 0, "timeExpressionType": "API", "maxInstanceNum": 0,
        });
        same_json("dispatch", &worker.dispatched(instance).await?.body, &expected)?;
    }
    Ok(())
}

async fn candidates(cx: Context) -> Outcome {
    let low = cx.worker_with(|beat| beat["systemMetrics"]["score"] = json!(3)).await?;
    let high = cx.worker_with(|beat| beat["systemMetrics"]["score"] = json!(30)).await?;
    let busy = cx
        .worker_with(|beat| {
            beat["systemMetrics"]["score"] = json!(300);
            beat["overload"] = json!(true);
        })
        .await?;
    let (_, instance) = cx.run_plain().await?;
    let request = high.dispatched(instance).await?;
    let mut named: Vec<String> = request.body["allWorkerAddress"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect();
    named.sort();
    let mut expected = vec![low.address.clone(), high.address.clone()];
    expected.sort();
    same("named workers", &named, &expected)?;
    let told = low.received("/worker/runJob").len() + busy.received("/worker/runJob").len();
    same("others are told nothing", &told, &0)
}

async fn no_worker(cx: Context) -> Outcome {
    let job = cx.save(cx.job("alone").with("instanceRetryNum", 3)).await?;
    let instance = cx.run(job, Some("x")).await?;
    let info = cx.until(instance, InstanceStatus::Failed, SOON).await?;
    same("result", &info.result.as_deref(), &Some("no worker available"))?;
    same("address", &info.task_tracker_address.as_deref(), &Some("N/A"))?;
    same("run count", &info.running_times, &Some(0))?;
    holds("times are set", info.actual_trigger_time.is_some() && info.finished_time.is_some())
}

async fn filters(cx: Context) -> Outcome {
    let worker = cx.worker_with(|beat| beat["tag"] = json!("a,b")).await?;
    let status = async |name: &str, value: serde_json::Value| {
        let job = cx.save(cx.job(name).with(name, value)).await?;
        let instance = cx.run(job, None).await?;
        cx.info(instance).await
    };
    for (name, value) in [
        ("designatedWorkers", json!("a")),
        ("designatedWorkers", json!(" a,b")),
        ("minMemorySpace", json!(100)),
        ("minDiskSpace", json!(100_000)),
        ("minCpuCores", json!(6.75)),
    ] {
        let info = status(name, value.clone()).await?;
        same(&format!("{name} {value}"), &info.result.as_deref(), &Some("no worker available"))?;
    }
    // The list is split at commas, the tag is not.
    let by_address = format!("x,{}", worker.address);
    for (name, value) in
        [("designatedWorkers", json!(by_address)), ("minMemorySpace", json!(3.4)), ("minCpuCores", json!(6.7))]
    {
        let info = status(name, value.clone()).await?;
        same(&format!("{name} {value}"), &info.status(), &Some(InstanceStatus::WaitingWorkerReceive))?;
    }
    let info = status("designatedWorkers", json!("a,b")).await?;
    same("a tag with a comma is never equal to an entry", &info.result.as_deref(), &Some("no worker available"))
}

async fn too_many(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("one at a time").with("maxInstanceNum", 1).with("instanceRetryNum", 3)).await?;
    let first = cx.run(job, None).await?;
    worker.dispatched(first).await?;
    let second = cx.run(job, None).await?;
    let info = cx.until(second, InstanceStatus::Failed, SOON).await?;
    same("result", &info.result.as_deref(), &Some("too many instances(1>1)"))?;
    same("the first goes on", &cx.info(first).await?.status(), &Some(InstanceStatus::WaitingWorkerReceive))
}

async fn unknown_protocol(cx: Context) -> Outcome {
    let _worker = cx.worker_with(|beat| beat["protocol"] = json!("http")).await?;
    let job = cx.save(cx.job("lost")).await?;
    let answer = cx.form("/openApi/runJob", &[("appId", &cx.app_id.to_string()), ("jobId", &job.to_string())]).await?;
    same(
        "message",
        &answer.message()?.as_str(),
        &"IllegalArgumentException: can't find Transporter by protocol :http",
    )?;
    let list = json!({"appId": cx.app_id, "index": 0, "pageSize": 10, "type": "NORMAL"});
    let rows = cx.json("/instance/list", &list).await?.json()?;
    let row = &rows["data"]["data"][0];
    same("it stays where it was", &row["status"], &json!(1))?;
    // Left alone it would keep a real server's check from every instance behind it, those of other apps included.
    let instance = row["instanceId"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    Ok(cx.api.cancel_instance(cx.app_id, instance).await?)
}

async fn delayed(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let job = cx.save(cx.job("later")).await?;
    let asked = std::time::Instant::now();
    let instance = cx.api.run_job(cx.app_id, job, None, 2_000).await?;
    same("waits", &cx.info(instance).await?.status(), &Some(InstanceStatus::WaitingDispatch))?;
    let request = worker.dispatched(instance).await?;
    let waited = request.at.duration_since(asked);
    holds(
        format!("dispatched after {waited:?}"),
        (Duration::from_millis(1_700)..Duration::from_secs(6)).contains(&waited),
    )
}

async fn answer_ignored(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    worker.answer("/worker/runJob", 500, "no");
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    let info = cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    same("address", &info.task_tracker_address, &Some(worker.address.clone()))
}

async fn specify(cx: Context) -> Outcome {
    let tagged = cx.worker_with(|beat| beat["tag"] = json!("alpha-1")).await?;
    let better = cx.worker_with(|beat| beat["systemMetrics"]["score"] = json!(1_000)).await?;
    for (config, to_tagged) in [("tagIn:alpha", true), ("tagEquals:alpha-1", true), (tagged.address.as_str(), true)] {
        let job = cx
            .save(cx.job("specify").with("dispatchStrategy", "SPECIFY").with("dispatchStrategyConfig", config))
            .await?;
        let instance = cx.run(job, None).await?;
        let address = cx.info(instance).await?.task_tracker_address;
        same(config, &(address == Some(tagged.address.clone())), &to_tagged)?;
    }
    let job = cx
        .save(cx.job("specify").with("dispatchStrategy", "SPECIFY").with("dispatchStrategyConfig", "tagEquals:none"))
        .await?;
    let instance = cx.run(job, None).await?;
    let address = cx.info(instance).await?.task_tracker_address.unwrap_or_default();
    holds(
        format!("nobody matches, so {address} is one of both"),
        [&tagged.address, &better.address].contains(&&address),
    )
}
