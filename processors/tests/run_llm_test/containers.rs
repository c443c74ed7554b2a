//! The same with a real container engine (`DOCKER_HOST`) and images (`TEST_IMAGE_STUB`, `TEST_IMAGE_BUSYBOX`). Without them
//! each test says so.

use std::time::Duration;

use powerjob_worker::{StopReason, TaskContext};
use serde_json::{Value, json};
use testrig_host::{LABEL_INSTANCE, Signal, docker::Docker};

use crate::rig::{Rig, skipped};

pub(crate) struct Engine {
    pub(crate) endpoint: String,
    pub(crate) docker: Docker,
    pub(crate) stub: String,
    pub(crate) busybox: String,
}

/// The engine, or a line that says why there is none, for people and for the summary of `scripts/test.sh`.
pub(crate) fn engine(name: &str) -> Option<Engine> {
    let var = |name: &str| std::env::var(name).ok();
    let found = (|| Some((var("DOCKER_HOST")?, var("TEST_IMAGE_STUB")?, var("TEST_IMAGE_BUSYBOX")?)))();
    let Some((endpoint, stub, busybox)) = found else {
        skipped(name, "DOCKER_HOST, TEST_IMAGE_STUB and TEST_IMAGE_BUSYBOX are not set");
        return None;
    };
    Some(Engine { docker: Docker::connect(&endpoint).expect("it is there"), endpoint, stub, busybox })
}

impl Engine {
    /// Ids that no other run of the tests on this engine uses.
    pub(crate) fn rig(&self, number: i64) -> Rig {
        let endpoint = self.endpoint.clone();
        Rig::with(i64::from(std::process::id()) * 1000 + number, |env| env.docker_endpoint = Some(endpoint))
    }

    /// Job parameters for a container that runs this script.
    pub(crate) fn job(&self, rig: &Rig, image: &str, script: &str) -> Value {
        let scripts = rig.place.dir.path().join("scripts");
        std::fs::create_dir_all(&scripts).expect("the file system works");
        let entry = scripts.join("entry.sh");
        std::fs::write(&entry, format!("#!/bin/sh\n{script}\n")).expect("the file system works");
        std::fs::set_permissions(&entry, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("the file system works");
        let bridge = std::env::var("DOCKER_BRIDGE").as_deref() != Ok("no");
        json!({
            "jobType": "RUN_LLM_TEST",
            "hostLogBaseDir": rig.place.dir.path().join("logs"),
            "hostScriptDir": scripts,
            "containerEntryScript": "/scripts/entry.sh",
            "docker": {"baseImage": image, "networkMode": if bridge { "bridge" } else { "host" }},
            "healthCheck": {"intervalMillis": 100, "timeoutMillis": 5000, "maxRetry": 300},
            "monitor": {"stopTimeoutSeconds": 5, "statsSampleIntervalSeconds": 0.5},
        })
    }

    pub(crate) fn stub_job(&self, rig: &Rig, flags: &str) -> Value {
        let script = format!(
            "echo model $MODEL_KEY for $INSTANCE_ID\nexec /usr/bin/testrig llm-stub --listen 0.0.0.0:{} --tokens 4 --ttft-ms 5 {flags}",
            rig.port
        );
        self.job(rig, &self.stub, &script)
    }

    /// A container of this image that runs a line of shell and waits, without a health check.
    pub(crate) fn waiting_job(&self, rig: &Rig, image: &str, first: &str) -> Value {
        let mut job = self.job(rig, image, &format!("{first}; while :; do sleep 1; done"));
        job["healthCheck"] = json!({"type": "NONE"});
        job["monitor"]["stopTimeoutSeconds"] = json!(0);
        job
    }

    /// A run whose test is a command in the container, which is over at once.
    pub(crate) fn quick_run(&self, rig: &Rig) -> Value {
        let mut run = self.run(rig);
        run["test"] = json!({"driver": "container", "command": ["true"]});
        run
    }

    pub(crate) fn run(&self, rig: &Rig) -> Value {
        let mut run = rig.run();
        run["platformTaskId"] = json!(format!("T-{}", rig.instance));
        run["envVars"] = json!({"MODEL_KEY": "qwen"});
        run
    }

    pub(crate) async fn containers(&self, rig: &Rig) -> Vec<testrig_host::docker::ContainerInfo> {
        self.docker.find_by_label(LABEL_INSTANCE, Some(&rig.instance.to_string())).await.expect("it works")
    }
}

fn resumed(ctx: &TaskContext) -> TaskContext {
    TaskContext { resumed: true, ..ctx.clone() }
}

fn assert_log_is_whole(rig: &Rig) {
    let output = rig.read(&format!("svc-m-{}.log", rig.port));
    assert_eq!(
        rig.service_lines(),
        output.lines().collect::<Vec<_>>(),
        "file and journal hold the same, every line once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_started_loaded_and_removed() {
    let Some(engine) = engine("containers::a_container_is_started_loaded_and_removed") else { return };
    let rig = engine.rig(1);
    let mut run = engine.run(&rig);
    run["resources"] = json!({"cpu": "1.5", "memory": "512m"});
    // The engine takes a second for a sample.
    run["runSeconds"] = json!(4);
    let result = rig.process(&rig.context(&engine.stub_job(&rig, ""), &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let found = rig.result();
    assert_eq!((found["service"]["kind"].as_str(), found["status"].as_str()), (Some("container"), Some("SUCCEED")));
    assert!(found["service"]["imageId"].as_str().is_some_and(|id| id.starts_with("sha256:")), "{found}");
    assert!(found["service"]["hostPort"].is_u64() && found["service"]["exit"].is_object(), "{found}");
    assert!(rig.service_lines().contains(&format!("model qwen for {}", rig.instance)), "{}", rig.log_text());
    assert!(rig.read("system-monitor.log").contains("\"cpu_total_ns\""), "{}", rig.read("system-monitor.log"));
    assert_log_is_whole(&rig);
    assert_eq!(engine.containers(&rig).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_container_is_kept_or_removed_as_the_policy_says() {
    let Some(engine) = engine("containers::an_ended_container_is_kept_or_removed_as_the_policy_says") else { return };
    let rig = engine.rig(10);
    let mut job = engine.job(&rig, &engine.busybox, "echo no model here; exit 5");
    job["monitor"]["cleanupPolicy"] = json!("REMOVE_ON_SUCCESS");
    let ctx = rig.context(&job, &engine.run(&rig));
    let result = rig.process(&ctx).await;
    assert!(
        result.message.starts_with("stage health failed: the service ended by itself: exit code 5"),
        "{}\n{}",
        result.message,
        rig.log_text()
    );
    assert!(result.message.contains("no model here"), "{}", result.message);
    assert_log_is_whole(&rig);
    let kept = engine.containers(&rig).await;
    assert_eq!(kept.len(), 1, "a failed run's container is kept");
    // The leftover of the same task is replaced.
    let again = TaskContext { attempt: 2, ..ctx };
    rig.process(&again).await;
    let left = engine.containers(&rig).await;
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].id, kept[0].id);
    engine.docker.remove(&left[0].id).await.expect("it works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_container_of_the_wanted_name_is_an_error_and_stays() {
    let Some(engine) = engine("containers::a_foreign_container_of_the_wanted_name_is_an_error_and_stays") else {
        return;
    };
    let rig = engine.rig(20);
    let name = format!("foreign-{}", rig.instance);
    let spec = testrig_host::docker::ContainerSpec::new(
        testrig_host::BoundaryId::new(rig.instance + 1, 1),
        &name,
        &engine.busybox,
    );
    let foreign = engine.docker.create(&spec).await.expect("it works");
    let mut run = engine.run(&rig);
    run["containerName"] = json!(name);
    let result = rig.process(&rig.context(&engine.stub_job(&rig, ""), &run)).await;
    assert!(result.message.starts_with("stage create failed: a container named"), "{}", result.message);
    assert!(result.message.contains("was not made by this agent"), "{}", result.message);
    assert!(engine.docker.inspect(&foreign).await.is_ok(), "it is still there");
    engine.docker.remove(&foreign).await.expect("it works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_killed_for_want_of_memory_is_told_as_that() {
    let Some(engine) = engine("containers::a_container_that_is_killed_for_want_of_memory_is_told_as_that") else {
        return;
    };
    let rig = engine.rig(30);
    let job =
        engine.job(&rig, &engine.busybox, "echo loading; x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo done");
    let mut run = engine.run(&rig);
    run["resources.memory"] = json!("32m");
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(!result.success);
    let exit = &rig.result()["service"]["exit"];
    assert!(result.message.starts_with("stage health failed: the service ended by itself"), "{}", result.message);
    assert_eq!(exit["oom_killed"], true, "{exit} {}", result.message);
    assert_eq!(engine.containers(&rig).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_in_the_container_says_whether_it_is_healthy_and_a_stop_leaves_nothing() {
    let Some(engine) =
        engine("containers::a_command_in_the_container_says_whether_it_is_healthy_and_a_stop_leaves_nothing")
    else {
        return;
    };
    let rig = engine.rig(40);
    let mut job = engine.stub_job(&rig, "--ready-after-ms 700");
    job["healthCheck"]["type"] = json!("CMD");
    job["healthCheck"]["command"] =
        json!(["sh", "-c", format!("wget -q -O /dev/null http://127.0.0.1:{}/health", rig.port)]);
    let mut run = engine.run(&rig);
    run["runSeconds"] = json!(600);
    let ctx = rig.context(&job, &run);
    let stop = async {
        rig.logged("stage load: begins").await;
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), stop);
    assert!(result.message.starts_with("stage load was stopped"), "{}\n{}", result.message, rig.log_text());
    assert!(rig.log_text().contains("passed: `sh -c"), "{}", rig.log_text());
    assert_eq!(engine.containers(&rig).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_is_one_clear_failure_before_the_start() {
    let Some(engine) = engine("containers::a_missing_image_is_one_clear_failure_before_the_start") else { return };
    let rig = engine.rig(50);
    let mut job = engine.job(&rig, "testrig/not-there:1", "exit 0");
    job["docker.pullPolicy"] = json!("Never");
    let result = rig.process(&rig.context(&job, &engine.run(&rig))).await;
    assert!(
        result.message.starts_with("stage pull failed: image `testrig/not-there:1` is not on this host"),
        "{}",
        result.message
    );
    assert!(result.message.contains("docker.pullPolicy"), "{}", result.message);
    assert!(!result.retryable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_run_that_was_cut_in_any_stage_goes_on() {
    let Some(engine) = engine("containers::a_container_run_that_was_cut_in_any_stage_goes_on") else { return };
    for (number, stage) in [(60, "pull"), (61, "create"), (62, "start"), (63, "health"), (64, "load"), (65, "teardown")]
    {
        let rig = engine.rig(number);
        let mut run = engine.run(&rig);
        run["runSeconds"] = json!(2);
        let ctx = rig.context(&engine.stub_job(&rig, "--ready-after-ms 1000"), &run);
        rig.cut_at(&ctx, &format!("stage {stage}: begins")).await;
        let result = rig.process(&resumed(&ctx)).await;
        assert!(result.success, "{stage}: {}\n{}", result.message, rig.log_text());
        assert_eq!(rig.result()["loadRestarts"], i32::from(stage == "load"), "{stage}");
        assert_eq!(
            rig.service_lines().iter().filter(|line| line.starts_with("model qwen")).count(),
            1,
            "{stage}: {}",
            rig.log_text()
        );
        assert_log_is_whole(&rig);
        assert_eq!(engine.containers(&rig).await.len(), 0, "{stage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ended_while_the_agent_was_away_is_told_with_code_and_whole_log() {
    let Some(engine) =
        engine("containers::a_container_that_ended_while_the_agent_was_away_is_told_with_code_and_whole_log")
    else {
        return;
    };
    let rig = engine.rig(70);
    let job = engine.job(
        &rig,
        &engine.busybox,
        "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; sleep 2; echo last words >&2; exit 9",
    );
    let ctx = rig.context(&job, &engine.run(&rig));
    rig.cut_at(&ctx, "line 100").await;
    let id = engine.containers(&rig).await[0].id.clone();
    let exit = tokio::time::timeout(Duration::from_secs(30), engine.docker.wait(&id, |_| {}))
        .await
        .expect("it ends")
        .expect("it is there");
    assert_eq!(exit.code, Some(9));
    let result = rig.process(&resumed(&ctx)).await;
    assert!(
        result.message.starts_with("stage health failed: the service ended by itself: exit code 9"),
        "{}",
        result.message
    );
    let lines = rig.service_lines();
    assert_eq!(lines.len(), 201, "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("last words"));
    assert_log_is_whole(&rig);
    assert_eq!(engine.containers(&rig).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_somebody_removed_is_one_honest_failure() {
    let Some(engine) = engine("containers::a_container_that_somebody_removed_is_one_honest_failure") else { return };
    let rig = engine.rig(80);
    let ctx = rig.context(&engine.stub_job(&rig, "--ready-after-ms 600000"), &engine.run(&rig));
    rig.cut_at(&ctx, "stage health: begins").await;
    let id = engine.containers(&rig).await[0].id.clone();
    engine.docker.kill(&id, Signal::KILL).await.expect("it works");
    engine.docker.remove(&id).await.expect("it works");
    let result = rig.process(&resumed(&ctx)).await;
    assert!(
        result.message.starts_with("stage health failed: the agent was restarted in this stage and the container"),
        "{}",
        result.message
    );
}
