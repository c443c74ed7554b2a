use std::time::Duration;

use powerjob_worker::{ProcessResult, StopReason};
use serde_json::{Value, json};

use crate::{common::HELPER, rig::Rig};

fn assert_failed_in(rig: &Rig, result: &ProcessResult, stage: &str, why: &str) {
    assert!(!result.success, "{}", result.message);
    assert!(result.message.starts_with(&format!("stage {stage} ")), "{}\n{}", result.message, rig.log_text());
    assert!(result.message.contains(why), "`{why}` is not in {}\n{}", result.message, rig.log_text());
    let found = rig.result();
    assert_eq!(found["failure"]["stage"], stage, "{found}");
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_never_ready_fails_in_health_with_its_last_lines() {
    let rig = Rig::new(2001);
    let mut job = rig.job(&["--ready-after-ms", "600000"]);
    job["healthCheck"] = json!({"intervalMillis": 50, "maxRetry": 6});
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert_failed_in(
        &rig,
        &result,
        "health",
        "was not ready after 6 health checks; the last one: GET http://127.0.0.1",
    );
    assert!(result.message.contains("last lines of the service:\n  | stub: loading the model"), "{}", result.message);
    assert_eq!(rig.result()["status"], "FAILED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_exits_early_is_noticed_at_once_with_its_code_and_last_lines() {
    let rig = Rig::new(2002);
    let mut job = rig.job(&["--exit-code", "3"]);
    // By the checks alone it would take hours.
    job["healthCheck"] = json!({"intervalMillis": 3_000_000, "timeoutMillis": 2000});
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert_failed_in(&rig, &result, "health", "the service ended by itself: exit code 3");
    assert!(result.message.contains("CUDA out of memory"), "{}", result.message);
    assert_eq!(rig.result()["service"]["exit"]["code"], 3);
    assert_eq!(rig.result()["service"]["endedEarly"], true);
    assert_eq!(rig.service_lines(), ["stub: loading the model", "stub: CUDA out of memory"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_under_load_fails_the_load_with_its_code() {
    let rig = Rig::new(2003);
    let mut run = rig.run();
    run["runSeconds"] = json!(60);
    let result = rig.process(&rig.context(&rig.job(&["--exit-after", "20"]), &run)).await;
    assert_failed_in(&rig, &result, "load", "the service ended by itself: exit code 7");
    assert!(!rig.read("metrics-chat_completion.log").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_any_stage_ends_the_run_soon_and_leaves_nothing() {
    for (instance, stage, args) in [(2010, "health", vec!["--ready-after-ms", "600000"]), (2011, "load", vec![])] {
        let rig = Rig::new(instance);
        let mut run = rig.run();
        run["runSeconds"] = json!(600);
        let ctx = rig.context(&rig.job(&args), &run);
        let stop = async {
            rig.logged(&format!("stage {stage}: begins")).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            ctx.stop.raise(StopReason::Stopped);
        };
        let (result, ()) = tokio::join!(rig.process(&ctx), stop);
        assert_failed_in(&rig, &result, stage, "the instance was stopped");
        assert_eq!(rig.result()["status"], "STOPPED");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_also_ends_the_set_up_script_and_health_check_commands() {
    let rig = Rig::new(2012);
    let script = rig.place.dir.path().join("setup.sh");
    std::fs::write(&script, "#!/bin/sh\necho setting up\nsleep 600\n").expect("the file system works");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("the file system works");
    let mut job = rig.job(&[]);
    job["env.setupScript"] = json!(script);
    let ctx = rig.context(&job, &rig.run());
    let stop = async {
        rig.logged("stage create: begins").await;
        while !rig.read("env-setup.log").contains("setting up") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), stop);
    assert_failed_in(&rig, &result, "create", "the instance was stopped");

    let rig = Rig::new(2013);
    let mut job = rig.job(&[]);
    job["healthCheck"] = json!({"type": "CMD", "command": ["sleep", "600"], "timeoutMillis": 600_000});
    let ctx = rig.context(&job, &rig.run());
    let stop = async {
        rig.logged("stage health: begins").await;
        while !rig.survivors().iter().any(|process| process.contains("sleep 600")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), stop);
    assert_failed_in(&rig, &result, "health", "the instance was stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_limits_end_the_run_and_say_which_one_it_was() {
    let rig = Rig::new(2020);
    let mut run = rig.run();
    run["runSeconds"] = json!(600);
    run["monitorOverrides.maxRunSeconds"] = json!(1.5);
    let result = rig.process(&rig.context(&rig.job(&[]), &run)).await;
    assert!(result.message.contains("longer than monitorOverrides.maxRunSeconds (1.5 s)"), "{}", result.message);
    assert_eq!(rig.survivors(), [] as [String; 0]);

    let rig = Rig::new(2021);
    let ctx = rig.context(&rig.job(&["--ready-after-ms", "600000"]), &rig.run());
    let limit = async {
        rig.logged("stage health: begins").await;
        ctx.stop.raise(StopReason::TimedOut);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), limit);
    assert_failed_in(&rig, &result, "health", "instanceTimeoutMS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_kill_on_timeout_the_service_is_left_running_and_that_is_said() {
    let rig = Rig::new(2022);
    let mut job = rig.job(&["--ready-after-ms", "600000"]);
    job["monitor"]["killOnTimeout"] = json!(false);
    let mut run = rig.run();
    run["monitorOverrides.maxRunSeconds"] = json!(1);
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(!result.success, "{}", result.message);
    assert!(rig.result()["warnings"].to_string().contains("was left running"), "{}", rig.result());
    assert!(!rig.survivors().is_empty(), "it runs");
    let runner = testrig_host::process::ProcessRunner::new(
        rig.place.dir.path().join("state/boundaries"),
        testrig_host::process::ShimCommand::of(HELPER),
    )
    .expect("it is there");
    let left = runner.adopt(&testrig_host::BoundaryId::new(2022, 1)).await.expect("it works").expect("it was started");
    left.stop(testrig_host::Signal::KILL, Duration::ZERO).await.expect("it works");
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_graceful_signal_is_the_one_that_was_asked_for_and_kill_follows_it() {
    // One that hears SIGINT says so; the other hears nothing and is killed after the time that the run gives.
    for (instance, trap, heard) in
        [(2023, "trap 'echo heard INT; exit 0' INT", true), (2024, "trap '' INT TERM", false)]
    {
        let rig = Rig::new(instance);
        let mut job = rig.job(&[]);
        let script = format!("{trap}; {HELPER} stub --port {{servicePort}} & while :; do sleep 0.1; done");
        job["service.command"] = json!(["sh", "-c", script]);
        job["monitor"]["stopTimeoutSeconds"] = json!(3600);
        let mut run = rig.run();
        run["monitorOverrides.killSignal"] = json!("SIGINT");
        run["monitorOverrides.forceKillAfterSeconds"] = json!(if heard { 50.0 } else { 0.5 });
        let result = rig.process(&rig.context(&job, &run)).await;
        assert!(result.success, "{}\n{}", result.message, rig.log_text());
        let exit = rig.result()["service"]["exit"].clone();
        assert_eq!(rig.service_lines().contains(&"heard INT".to_owned()), heard, "{}", rig.log_text());
        assert_eq!((exit["code"] == 0, exit["signal"] == 9), (heard, !heard), "{exit}");
        assert_eq!(rig.survivors(), [] as [String; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_that_left_the_session_do_not_survive_the_run() {
    let rig = Rig::new(2030);
    let mut job = rig.job(&[]);
    let script = format!(
        "(setsid sh -c 'trap \"\" TERM; while :; do sleep 5; done' &) ; exec {HELPER} stub --port {{servicePort}}"
    );
    job["service.command"] = json!(["sh", "-c", script]);
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_in_which_every_request_fails_is_no_success() {
    let rig = Rig::new(2040);
    let mut job = rig.job(&[]);
    let page = rig.place.dir.path().join("page");
    std::fs::create_dir(&page).expect("the file system works");
    std::fs::write(page.join("healthz"), "ok").expect("the file system works");
    job["service.command"] =
        json!(["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", page, "{servicePort}"]);
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert_failed_in(&rig, &result, "load", "requests failed (error rate 100%");
    assert!(rig.result()["failures"].as_object().is_some_and(|classes| !classes.is_empty()), "{}", rig.result());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_parameters_are_all_told_and_leave_nothing_behind() {
    let rig = Rig::new(2050);
    let mut job = rig.job(&[]);
    job["hostLogBaseDir"] = json!("/etc/testrig-logs");
    job["healthCheck"]["type"] = json!("HTTPS");
    job["metricsPushEndpoint"] = json!("gateway:9091");
    let mut run = rig.run();
    run["servicePort"] = json!(99999);
    run["resources.gpus"] = json!("two");
    run["datasetPath"] = json!(rig.place.dir.path().join("missing.jsonl"));
    run["test.driver"] = json!("script");
    run["monitorOverrides.killSignal"] = json!("SIGNOPE");
    run["surprise"] = json!(1);
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(!result.success && !result.retryable);
    for expected in [
        "stage plan failed: the parameters of RunLLMTest are not usable, 8 problems:",
        "jobParams.hostLogBaseDir: `/etc/testrig-logs` is outside of the allowed roots",
        "jobParams.healthCheck.type: found the text \"HTTPS\"; accepted: one of HTTP, TCP, CMD, READY_TOKEN, NONE; did you mean \"HTTP\"?",
        "jobParams.metricsPushEndpoint: found the text \"gateway:9091\"",
        "instanceParams.servicePort: found the number 99999; accepted: a whole number from 1 to 65535",
        "instanceParams.resources.gpus: found the text \"two\"",
        "missing.jsonl` does not exist on this host",
        "instanceParams.test.script: is missing",
        "instanceParams.monitorOverrides.killSignal: `SIGNOPE` is no signal",
    ] {
        assert!(result.message.contains(expected), "`{expected}` is not in:\n{}", result.message);
    }
    assert!(rig.log_text().contains("instanceParams.surprise is not a parameter of RunLLMTest"), "{}", rig.log_text());
    assert!(!rig.place.dir.path().join("logs").exists());
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_host_cannot_give_fails_in_its_stage_before_the_start() {
    let rig = Rig::new(2060);
    let mut run = rig.run();
    run["resources.gpus"] = json!(2);
    let result = rig.process(&rig.context(&rig.job(&[]), &run)).await;
    assert_failed_in(&rig, &result, "lease", "asked were 2 accelerators, there is none");
    assert!(!result.retryable);

    let rig = Rig::new(2061);
    let taken = std::net::TcpListener::bind(("127.0.0.1", rig.port)).expect("a free port");
    let result = rig.process(&rig.context(&rig.job(&[]), &rig.run())).await;
    assert_failed_in(&rig, &result, "create", "is in use on this host already");
    drop(taken);

    let rig = Rig::new(2062);
    let mut job = rig.job(&[]);
    job["service.command"] = json!(["/no/such/program"]);
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert_failed_in(&rig, &result, "start", "/no/such/program");

    let rig = Rig::new(2063);
    let mut job = rig.job(&[]);
    job["monitor"] = Value::Null;
    job["service.command"] = Value::Null;
    let mut run = rig.run();
    run["image"] = json!("busybox:1");
    let result = rig.process(&rig.context(&job, &run)).await;
    assert_failed_in(&rig, &result, "pull", "no-engine.sock");
}
