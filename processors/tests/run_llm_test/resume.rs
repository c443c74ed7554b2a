use std::time::Duration;

use powerjob_worker::{StopReason, TaskContext};
use serde_json::json;

use crate::{common::HELPER, rig::Rig};

fn resumed(ctx: &TaskContext) -> TaskContext {
    TaskContext { resumed: true, ..ctx.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_cut_before_the_start_goes_on_and_succeeds() {
    for (instance, stage) in [(3001, "lease"), (3002, "pull"), (3003, "create"), (3004, "start")] {
        let rig = Rig::new(instance);
        let ctx = rig.context(&rig.job(&[]), &rig.run());
        rig.cut_at(&ctx, &format!("stage {stage}: begins")).await;
        let result = rig.process(&resumed(&ctx)).await;
        assert!(result.success, "{stage}: {}\n{}", result.message, rig.log_text());
        assert_eq!(rig.result()["restarts"], 1);
        assert_eq!(
            rig.service_lines().iter().filter(|line| line.contains("listening")).count(),
            1,
            "{}",
            rig.log_text()
        );
        assert_eq!(rig.survivors(), [] as [String; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_cut_in_health_takes_its_service_over() {
    let rig = Rig::new(3010);
    let ctx = rig.context(&rig.job(&["--ready-after-ms", "1500"]), &rig.run());
    rig.cut_at(&ctx, "stage health: begins").await;
    assert!(!rig.survivors().is_empty(), "the service outlives the agent");
    let result = rig.process(&resumed(&ctx)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert!(rig.log_text().contains("runs and was taken over"), "{}", rig.log_text());
    let output = rig.read(&format!("svc-m-{}.log", rig.port));
    assert_eq!(rig.service_lines(), output.lines().collect::<Vec<_>>(), "every line once");
    assert_eq!(output.matches("listening").count(), 1, "started once");
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_was_cut_is_started_again_and_its_records_are_set_aside() {
    let rig = Rig::new(3020);
    let mut run = rig.run();
    run["runSeconds"] = json!(2);
    let ctx = rig.context(&rig.job(&[]), &run);
    let loaded = async {
        rig.logged("stage load: begins").await;
        while rig.read("metrics-chat_completion.log").lines().count() < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    rig.cut_when(&ctx, loaded).await;
    let result = rig.process(&resumed(&ctx)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let found = rig.result();
    assert_eq!(found["loadRestarts"], 1);
    let loads: Vec<_> =
        found["stages"].as_array().expect("an array").iter().filter(|stage| stage["name"] == "load").collect();
    assert_eq!(loads.len(), 2, "{found}");
    assert_eq!((loads[0]["outcome"].as_str(), loads[1]["restarted"].as_bool()), (Some("cut"), Some(true)));
    let records = rig.read("metrics-chat_completion.log");
    assert_eq!(found["metrics"]["requests"].as_u64(), Some(records.lines().count() as u64));
    assert!(records.lines().all(|line| line.contains("\"id\":\"3020-1-")), "only the new load's records");
    let cut = rig.read("metrics-chat_completion.cut-1.log");
    assert!(cut.lines().count() >= 5 && cut.lines().all(|line| line.contains("\"id\":\"3020-0-")), "{cut}");
    assert!(result.message.contains("load started again 1 times"), "{}", result.message);
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_was_cut_is_marked_even_if_the_agent_is_killed_again_before_it_goes_on() {
    let rig = Rig::new(3025);
    let healthy = rig.place.dir.path().join("healthy");
    std::fs::write(&healthy, "").expect("the file system works");
    let mut job = rig.job(&[]);
    job["healthCheck"]["type"] = json!("CMD");
    let script = format!("test -e {} && exec 3<>/dev/tcp/127.0.0.1/{}", healthy.display(), rig.port);
    job["healthCheck"]["command"] = json!(["bash", "-c", script]);
    let ctx = rig.context(&job, &rig.run());
    let loaded = async {
        rig.logged("stage load: begins").await;
        while rig.read("metrics-chat_completion.log").lines().count() < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    rig.cut_when(&ctx, loaded).await;
    // The second kill falls into the stage health, which does not end before.
    std::fs::remove_file(&healthy).expect("the file system works");
    let checked = async {
        while rig.log_text().matches("stage health: begins").count() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    rig.cut_when(&resumed(&ctx), checked).await;
    std::fs::write(&healthy, "").expect("the file system works");
    let result = rig.process(&resumed(&ctx)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let found = rig.result();
    assert_eq!((found["restarts"].as_u64(), found["loadRestarts"].as_u64()), (Some(2), Some(1)), "{found}");
    assert!(result.message.contains("load started again 1 times"), "{}", result.message);
    let records = rig.read("metrics-chat_completion.log");
    assert!(records.lines().all(|line| line.contains("\"id\":\"3025-1-")), "only the new load's records");
    let cut = rig.read("metrics-chat_completion.cut-1.log");
    assert!(cut.lines().count() >= 5 && cut.lines().all(|line| line.contains("\"id\":\"3025-0-")), "{cut}");
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_cut_in_teardown_is_finished_with_the_result_it_had() {
    let rig = Rig::new(3030);
    let mut job = rig.job(&[]);
    // Ends only when it is killed, so that teardown lasts.
    job["service.command"] =
        json!(["sh", "-c", format!("trap '' TERM; {HELPER} stub --port {{servicePort}} & while :; do sleep 1; done")]);
    job["monitor"]["stopTimeoutSeconds"] = json!(2);
    let ctx = rig.context(&job, &rig.run());
    rig.cut_at(&ctx, "stage teardown: begins").await;
    let result = rig.process(&resumed(&ctx)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let found = rig.result();
    assert_eq!(found["status"], "SUCCEED", "{found}");
    assert_eq!(
        found["metrics"]["requests"].as_u64(),
        Some(rig.read("metrics-chat_completion.log").lines().count() as u64)
    );
    let output = rig.read(&format!("svc-m-{}.log", rig.port));
    assert_eq!(rig.service_lines(), output.lines().collect::<Vec<_>>(), "every line once");
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_cut_before_its_result_was_written_writes_it() {
    let rig = Rig::new(3031);
    let ctx = rig.context(&rig.job(&[]), &rig.run());
    let first = rig.process(&ctx).await;
    // As the store was when the stage was entered: a kill there is too short to be hit.
    let text: String = rig
        .place
        .store
        .read(|conn| conn.query_row("SELECT record FROM llm_runs", [], |row| row.get(0)))
        .await
        .expect("it works");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    record["stage"] = json!("result");
    record["outcome"] = json!(null);
    let text = record.to_string();
    rig.place
        .store
        .write(move |conn| conn.execute("UPDATE llm_runs SET stage = 'result', record = ?1", [text]))
        .await
        .expect("it works");
    std::fs::write(rig.log_dir().join("result.json"), "{}").expect("the file system works");
    assert_eq!(rig.process(&resumed(&ctx)).await, first);
    assert_eq!(rig.result()["status"], "SUCCEED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_the_worker_did_not_store_is_given_again_without_a_second_run() {
    let rig = Rig::new(3040);
    let ctx = rig.context(&rig.job(&[]), &rig.run());
    let first = rig.process(&ctx).await;
    let lines = rig.lines().len();
    let again = resumed(&ctx);
    assert_eq!(rig.process(&again).await, first);
    assert_eq!(rig.lines().len(), lines, "nothing was done");
    assert_eq!(again.workflow.appended()["runStatus"], "SUCCEED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_ended_while_the_agent_was_away_is_told_with_its_code_and_whole_log() {
    let rig = Rig::new(3050);
    let mut job = rig.job(&[]);
    let script = format!(
        "{HELPER} stub --port {{servicePort}} --ready-after-ms 600000 & sleep 1; kill $!; wait; echo last words; exit 9"
    );
    job["service.command"] = json!(["sh", "-c", script]);
    let ctx = rig.context(&job, &rig.run());
    rig.cut_at(&ctx, "stage health: begins").await;
    let written = async {
        while !rig.read(&format!("svc-m-{}.log", rig.port)).contains("last words") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while !rig.survivors().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.expect("the service ends");
    let result = rig.process(&resumed(&ctx)).await;
    assert!(!result.success);
    assert!(
        result.message.starts_with("stage health failed: the service ended by itself: exit code 9"),
        "{}",
        result.message
    );
    assert!(result.message.contains("last words"), "{}", result.message);
    assert!(rig.service_lines().iter().any(|line| line == "last words"), "{}", rig.log_text());
    assert_eq!(rig.result()["service"]["exit"]["code"], 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_gone_without_a_trace_is_one_honest_failure() {
    let rig = Rig::new(3060);
    let ctx = rig.context(&rig.job(&["--ready-after-ms", "600000"]), &rig.run());
    rig.cut_at(&ctx, "stage health: begins").await;
    let runner = testrig_host::process::ProcessRunner::new(
        rig.place.dir.path().join("state/boundaries"),
        testrig_host::process::ShimCommand::of(HELPER),
    )
    .expect("it is there");
    let left = runner.adopt(&testrig_host::BoundaryId::new(3060, 1)).await.expect("it works").expect("it was started");
    left.stop(testrig_host::Signal::KILL, Duration::ZERO).await.expect("it works");
    left.forget().await.expect("it works");
    let result = rig.process(&resumed(&ctx)).await;
    assert!(!result.success);
    assert!(result.message.contains("is not there any more") && result.message.contains("lost"), "{}", result.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_attempt_ends_what_the_one_before_left_and_starts_clean() {
    let rig = Rig::new(3070);
    let ctx = rig.context(&rig.job(&[]), &rig.run());
    rig.cut_at(&ctx, "stage load: begins").await;
    let second = TaskContext { attempt: 2, ..ctx.clone() };
    let result = rig.process(&second).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert!(rig.log_text().contains("had left running was ended"), "{}", rig.log_text());
    assert!(rig.log_dir().with_file_name("task-3070.attempt-1").is_dir());
    assert_eq!(rig.result()["attempt"], 2);
    assert_eq!(rig.survivors(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_or_a_time_limit_that_came_while_the_agent_was_away_ends_what_it_left() {
    let rig = Rig::new(3080);
    let ctx = rig.context(&rig.job(&[]), &rig.run());
    rig.cut_at(&ctx, "stage load: begins").await;
    let stopped = resumed(&ctx);
    stopped.stop.raise(StopReason::Stopped);
    let result = rig.process(&stopped).await;
    assert!(result.message.contains("the instance was stopped"), "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.result()["status"], "STOPPED");
    assert_eq!(rig.survivors(), [] as [String; 0]);

    let rig = Rig::new(3081);
    let mut run = rig.run();
    run["monitorOverrides.maxRunSeconds"] = json!(2);
    let ctx = rig.context(&rig.job(&["--ready-after-ms", "600000"]), &run);
    rig.cut_at(&ctx, "stage health: begins").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let result = rig.process(&resumed(&ctx)).await;
    assert!(result.message.contains("longer than monitorOverrides.maxRunSeconds"), "{}", result.message);
    assert_eq!(rig.survivors(), [] as [String; 0]);
}
