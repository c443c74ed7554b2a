use serde_json::{Value, json};

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_starts_the_service_loads_it_keeps_everything_and_leaves_nothing() {
    let rig = Rig::new(1001);
    let ctx = rig.context(&rig.job(&[]), &rig.run());
    let result = rig.process(&ctx).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert!(
        result.message.contains("requests, 0 failed (error rate 0.00%)") && result.message.contains("TTFT"),
        "{}",
        result.message
    );
    assert_eq!(result.message.lines().count(), 1, "{}", result.message);

    let found = rig.result();
    assert_eq!(found["status"], "SUCCEED");
    assert_eq!(found["instanceId"], "1001");
    let stages: Vec<&str> = found["stages"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|stage| stage["name"].as_str().expect("a text"))
        .collect();
    assert_eq!(stages, ["plan", "lease", "pull", "create", "start", "health", "load", "teardown", "result"]);
    assert!(
        found["stages"]
            .as_array()
            .expect("an array")
            .iter()
            .all(|stage| stage["outcome"] == "ok" && stage["durationMs"].is_u64()),
        "{found}"
    );
    assert_eq!(found["service"]["kind"], "process");
    assert!(found["service"]["exit"].is_object(), "{found}");
    assert_eq!(found["load"]["concurrency"], 2);

    let records: Vec<Value> =
        rig.read("metrics-chat_completion.log").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(found["metrics"]["requests"].as_u64(), Some(records.len() as u64));
    assert!(records.len() > 2 && records.iter().all(|record| record["ok"] == true), "{records:?}");
    assert_eq!(records[0]["tags"]["bizLine"], "tests");
    assert_eq!(rig.read("client-req-chat_completion.log").lines().count(), records.len());
    assert!(
        rig.read("system-monitor.log")
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).expect("JSON")["host"].is_object())
    );
    assert!(!rig.read("system-monitor.log").is_empty());
    for empty in ["env-setup.log", "env-teardown.log"] {
        assert_eq!(rig.read(empty), "");
    }
    let output = rig.read(&format!("svc-m-{}.log", rig.port));
    assert!(output.contains("stub: listening on") && output.contains("for instance 1001"), "{output}");
    assert_eq!(rig.service_lines(), output.lines().collect::<Vec<_>>(), "file and journal hold the same");
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_gets_the_keys_that_its_next_nodes_need() {
    let rig = Rig::new(1002);
    let mut ctx = rig.context(&rig.job(&[]), &json!({}));
    let mut start = rig.run();
    start.as_object_mut().expect("an object").remove("logDirSuffix");
    start["warmupSeconds"] = json!(0.3);
    let context = json!({"initParams": start.to_string(), "relatedInstances": "[\"5\"]"});
    ctx.instance_params = Some(context.to_string());
    ctx.wf_instance_id = Some(77);
    ctx.workflow =
        powerjob_worker::WorkflowContext::new([("relatedInstances".to_owned(), "[\"5\"]".to_owned())].into());
    let result = rig.process(&ctx).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let left = ctx.workflow.appended();
    assert_eq!(left["upstreamInstanceId"], "1002");
    assert_eq!(left["env"], "dev");
    assert_eq!(left["logDirSuffix"], "task-T1-1002");
    assert_eq!(left["datasetId"], "builtin");
    assert_eq!(left["modelKey"], "m");
    assert_eq!(left["runStatus"], "SUCCEED");
    assert_eq!(left["relatedInstances"], "[\"5\",\"1002\"]");
    assert_eq!(
        left["logDir"],
        rig.place
            .dir
            .path()
            .canonicalize()
            .expect("the file system works")
            .join(format!("logs/dev/{}/task-T1-1002", left["date"]))
            .display()
            .to_string()
    );
    assert!(std::path::Path::new(&left["metricsFilePath"]).is_file());
    let summary: Value = serde_json::from_str(&left["metricsSummary"]).expect("JSON");
    assert!(summary["requests"].as_u64().expect("a number") > 0 && summary["ttft_p99"].is_number(), "{summary}");
    let range: Value = serde_json::from_str(&left["timeRange"]).expect("JSON");
    let records = std::fs::read_to_string(&left["metricsFilePath"]).expect("the file system works");
    assert!(records.contains("\"phase\":\"warmup\"") && records.contains("\"phase\":\"load\""));
    for record in records.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        let at = record["start_unix_ms"].as_i64().expect("a number");
        assert!(
            range["start"].as_i64().expect("a number") <= at && at <= range["end"].as_i64().expect("a number"),
            "{range} {record}"
        );
    }
    let total: usize = left.iter().map(|(key, value)| key.len() + value.len() + 6).sum();
    assert!(total < 4096, "{total} of the workflow's 8192 characters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_service_is_tested_without_starting_anything() {
    let rig = Rig::new(1003);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("it works");
    let address = listener.local_addr().expect("bound");
    let stop = tokio_util::sync::CancellationToken::new();
    let service = tokio::spawn(testrig_loadgen::stub::serve(listener, Default::default(), stop.clone()));
    let mut job = rig.job(&[]);
    job["service.command"] = Value::Null;
    job["monitor"] = Value::Null;
    job["service.reuse"] = json!(format!("http://{address}"));
    let mut run = rig.run();
    run["servicePort"] = Value::Null;
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.result()["service"]["kind"], "reuse");
    assert_eq!(rig.read("svc-m.log"), "", "without a port the name has none");
    stop.cancel();
    service.await.expect("it works").expect("it is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_up_and_teardown_scripts_run_on_the_host_with_the_runs_environment() {
    let rig = Rig::new(1004);
    for (name, text) in [
        ("setup.sh", "#!/bin/sh\necho setup for $INSTANCE_ID\n"),
        ("teardown.sh", "#!/bin/sh\necho teardown of $PLATFORM_TASK_ID\n"),
    ] {
        let path = rig.place.dir.path().join(name);
        std::fs::write(&path, text).expect("the file system works");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("the file system works");
    }
    let mut job = rig.job(&[]);
    job["env"] = json!({"setupScript": rig.place.dir.path().join("setup.sh"), "teardownScript": rig.place.dir.path().join("teardown.sh")});
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.read("env-setup.log"), "setup for 1004\n");
    assert_eq!(rig.read("env-teardown.log"), "teardown of T1\n");
}
