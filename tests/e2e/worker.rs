//! The worker under the real server: nothing lost, nothing twice, whatever the jobs are like.

use std::collections::HashMap;

use libtest_mimic::Trial;
use powerjob_worker::openapi::{ApiCall, InstanceStatus, JobSpec};
use serde_json::{Value, json};

use crate::{
    check,
    support::{App, ExampleWorker, Needs, TestResult, eventually, odd, times, trial},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("worker::two_hundred_jobs_that_end_at_once_are_neither_lost_nor_run_twice", Needs::Server, empty_jobs),
        trial("worker::five_thousand_odd_lines_are_the_same_at_the_server", Needs::Server, odd_lines),
        trial("worker::appended_context_reaches_the_next_node", Needs::Server, context),
        trial("worker::a_failed_instance_is_retried_by_the_server_and_starts_clean", Needs::Server, server_retry),
        trial(
            "worker::a_task_that_fails_is_tried_again_on_the_worker_as_often_as_the_job_says",
            Needs::Server,
            task_retry,
        ),
        trial("worker::the_time_limit_of_the_instance_is_kept_and_never_a_success", Needs::Server, time_limit),
        trial("worker::a_cron_job_is_run_by_the_servers_clock", Needs::Server, cron),
        trial("worker::a_daily_interval_job_is_run_again_and_again", Needs::Server, daily_interval),
        trial("worker::a_stop_stays_stopped", Needs::Server, stop),
        trial(
            "worker::a_stop_before_during_and_after_the_start_twice_and_of_nobody_all_end_right",
            Needs::Server,
            stops,
        ),
        trial("worker::a_final_result_survives_the_death_of_the_worker", Needs::Server, kill_and_restart),
    ]
}

async fn empty_jobs() -> TestResult {
    let app = App::new("empty").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let job = app.job("empty", &Value::Null, &[]).await?;
    let mut instances = Vec::new();
    for _ in 0..times(200, 2000) {
        instances.push(app.run(job, &Value::Null).await?);
    }
    for instance in instances {
        let info = app.ended(instance).await?;
        check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}");
        check!(info.running_times == Some(1), "ran {:?} times: {info:?}", info.running_times);
    }
    Ok(())
}

async fn odd_lines() -> TestResult {
    let app = App::new("lines").await?;
    let worker = ExampleWorker::start(&app).await?;
    let file = worker.dir.join("odd.txt");
    std::fs::write(&file, odd::text())?;
    let job = app.job("echo", &json!({ "file": file }), &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}");
    let journal = worker.journal(instance)?;
    check!(odd::within(&journal), "the journal does not hold the file's lines as they are");
    let at_server = app.server_log(instance, journal.len()).await?;
    check!(at_server == journal, "server and journal differ at line {:?}", odd::first_difference(&at_server, &journal));
    Ok(())
}

async fn context() -> TestResult {
    let app = App::new("context").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let chain =
        app.chain(&[("echo", json!({ "key": "first" }), false), ("echo", json!({ "key": "second" }), false)]).await?;
    let info = app.run_workflow(chain, &json!({ "batch": "7" })).await?;
    let context: HashMap<String, String> = serde_json::from_str(info.wf_context.as_deref().unwrap_or("{}"))?;
    check!(context.get("batch").map(String::as_str) == Some("7"), "{context:?}");
    check!(context.contains_key("first") && context.contains_key("second"), "{context:?}");
    Ok(())
}

async fn server_retry() -> TestResult {
    let app = App::new("retry").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let job = app.job("echo", &json!({ "lines": 2, "fail": true }), &[("instanceRetryNum", json!(1))]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Failed) && info.running_times == Some(2), "{info:?}");
    let log = app.server_log(instance, 4).await?;
    let firsts = log.iter().filter(|l| l.as_str() == "line 1 of 2: ").count()
        + log.iter().filter(|l| l.starts_with("line 1 of 2: ") && l.len() > 13).count();
    check!(firsts == 2, "the log of both attempts is wanted: {log:#?}");
    Ok(())
}

async fn task_retry() -> TestResult {
    let app = App::new("task-retry").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let job = app.job("echo", &json!({ "lines": 1, "fail": true }), &[("taskRetryNum", json!(2))]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Failed) && info.running_times == Some(1), "{info:?}");
    let log = app.server_log(instance, 5).await?;
    let tries = log.iter().filter(|l| l.starts_with("line 1 of 1: ")).count();
    check!(tries == 3, "{tries} tries: {log:#?}");
    Ok(())
}

async fn time_limit() -> TestResult {
    let app = App::new("limit").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let job = app.job("echo", &json!({ "lines": 1, "sleep": 600_000 }), &[("instanceTimeLimit", json!(1500))]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Failed), "{info:?}");
    check!(info.result.as_deref().is_some_and(|r| r.contains("instance execute timeout")), "{info:?}");
    Ok(())
}

async fn cron() -> TestResult {
    let app = App::new("cron").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let job = JobSpec::cron(app.id, "every-five-seconds", "empty", "0/5 * * * * ?");
    by_itself(&app, &job, 1).await
}

async fn daily_interval() -> TestResult {
    let app = App::new("daily").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let daily =
        json!({ "interval": 5, "startTimeOfDay": "00:00:00", "endTimeOfDay": "23:59:59", "intervalUnit": "SECONDS" });
    let job = JobSpec {
        time_expression_type: "DAILY_TIME_INTERVAL".to_owned(),
        time_expression: Some(daily.to_string()),
        ..JobSpec::api(app.id, "every-five-seconds-of-the-day", "empty")
    };
    by_itself(&app, &job, 2).await
}

/// Saves a job and waits until the server has run it so often to a good end without being told to.
async fn by_itself(app: &App, job: &JobSpec, times: usize) -> TestResult {
    let job = app.api.save_job(job).await?;
    // The server plans every 15 s.
    eventually("the server has run the job by itself", || async {
        let call = ApiCall::json(
            "/instance/list",
            json!({ "appId": app.id, "index": 0, "pageSize": 10, "type": "NORMAL", "jobId": job }),
        );
        let page: Value = app.api.call(call).await.map_err(|e| e.to_string())?;
        let done = page["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|i| i["status"] == InstanceStatus::Succeed.code())
            .count();
        if done >= times { Ok(()) } else { Err(page.to_string()) }
    })
    .await?;
    app.api.disable_job(app.id, job).await?;
    Ok(())
}

async fn stop() -> TestResult {
    let app = App::new("stop").await?;
    let worker = ExampleWorker::start(&app).await?;
    let job = app.job("echo", &json!({ "lines": 1, "sleep": 600_000 }), &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    app.api.stop_instance(app.id, instance).await?;
    // Longer than a reporting period: whoever goes on reporting turns STOPPED back into RUNNING.
    tokio::time::sleep(std::time::Duration::from_secs(13)).await;
    let info = app.info(instance).await?;
    check!(info.status() == Some(InstanceStatus::Stopped), "{info:?}\n{}", worker.log());
    Ok(())
}

async fn stops() -> TestResult {
    let app = App::new("stops").await?;
    let worker = ExampleWorker::start_with(&app, &["--slots", "1"]).await?;
    let job = app.job("echo", &json!({ "lines": 1, "sleep": 600_000 }), &[]).await?;
    let running = app.run(job, &Value::Null).await?;
    app.reaches(running, InstanceStatus::Running).await?;
    // Before its start: it waits for the only slot. The others are stopped in the moment of their arrival.
    let mut stopped = vec![app.run(job, &Value::Null).await?];
    app.reaches(stopped[0], InstanceStatus::Running).await?;
    app.api.stop_instance(app.id, stopped[0]).await?;
    for _ in 0..5 {
        let instance = app.run(job, &Value::Null).await?;
        app.api.stop_instance(app.id, instance).await?;
        stopped.push(instance);
    }
    // Twice, and for an instance that nobody knows: as a server would tell it.
    let client = reqwest::Client::builder().no_proxy().build()?;
    for instance in [stopped[0], stopped[0], 5] {
        let url = format!("http://127.0.0.1:{}/worker/stopInstance", worker.port);
        let answer = client.post(url).body(json!({ "instanceId": instance }).to_string()).send().await?;
        check!(answer.status() == 200 && answer.bytes().await?.is_empty(), "stop of {instance}");
    }
    check!(app.info(running).await?.status() == Some(InstanceStatus::Running), "stops of others do not touch it");
    app.api.stop_instance(app.id, running).await?;
    // The slot is free again.
    let short = app.job("empty", &Value::Null, &[]).await?;
    let after = app.ended(app.run(short, &Value::Null).await?).await?;
    check!(after.status() == Some(InstanceStatus::Succeed), "{after:?}");
    // Longer than a reporting period: whoever goes on reporting turns STOPPED back into RUNNING.
    tokio::time::sleep(std::time::Duration::from_secs(13)).await;
    for instance in [stopped[0], running] {
        let info = app.info(instance).await?;
        check!(info.status() == Some(InstanceStatus::Stopped), "{info:?}\n{}", worker.log());
    }
    for &instance in &stopped[1..] {
        // A RUNNING report that the server had begun to read when it was told to stop sets the row back, and nothing in the
        // protocol prevents that. Whoever went on reporting would be found by the two above.
        let info = app.info(instance).await?;
        let set_back = info.status() == Some(InstanceStatus::Running) && info.running_times == Some(0);
        check!(info.status() == Some(InstanceStatus::Stopped) || set_back, "{info:?}\n{}", worker.log());
    }
    for instance in stopped {
        let ran = worker.lines(instance)?.unwrap_or_default().iter().any(|line| line.text.starts_with("line 1 of 1"));
        check!(!ran, "instance {instance} was stopped before it had a slot");
    }
    Ok(())
}

async fn kill_and_restart() -> TestResult {
    let app = App::new("reborn").await?;
    let mut worker = ExampleWorker::start(&app).await?;
    let job = app.job("echo", &json!({ "lines": 3, "sleep": 600_000 }), &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    worker.kill();
    worker.spawn()?;
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Failed) && info.running_times == Some(1), "{info:?}");
    check!(info.result.as_deref().is_some_and(|r| r.contains("restart")), "the result says what was lost: {info:?}");
    Ok(())
}
