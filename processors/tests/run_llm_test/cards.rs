//! Runs with accelerators, which are declared here: no hardware is needed.

use std::{path::PathBuf, sync::Arc, time::Duration};

use powerjob_worker::TaskContext;
use serde_json::{Value, json};
use testrig_host::{
    BoundaryId, Signal,
    accelerators::{Availability, Book, Declared, DeclaredCard, LeaseRequest, Pool, Settings, Vendor},
    process::{ProcessRunner, ShimCommand},
};
use testrig_processors::{Environment, run_llm_test::free_forgotten_leases};

use crate::{common::HELPER, rig::Rig};

/// A rig whose host has this many cards, and the environment with them.
fn rig(instance: i64, cards: usize) -> (Rig, Environment) {
    let mut kept = None;
    let rig = Rig::with(instance, |env| {
        let card = |_| DeclaredCard {
            uuid: None,
            vendor: Vendor::Other,
            kind: "stub-card".into(),
            memory_bytes: 16 << 30,
            node: None,
            numa_node: None,
            group: None,
            devices: Vec::new(),
            visible_env: Some("STUB_VISIBLE_DEVICES".into()),
        };
        let provider = Declared::new((0..cards).map(card).collect());
        let book = Book::open(&env.state_dir.join("leases.db"), env.state_dir.display().to_string())
            .expect("the file system works");
        env.accelerators = Arc::new(Pool::new(Arc::new(provider), book, Settings::default()));
        kept = Some(env.clone());
    });
    (rig, kept.expect("it is there"))
}

/// A job whose service says what it sees of the cards.
fn job(rig: &Rig, stub_args: &str) -> Value {
    let mut job = rig.job(&[]);
    let script = format!("env | grep VISIBLE; exec {HELPER} stub --port {{servicePort}} {stub_args}");
    job["service.command"] = json!(["/bin/sh", "-c", script]);
    job
}

async fn free(env: &Environment) -> usize {
    env.accelerators.view().await.expect("it works").free()
}

fn resumed(ctx: &TaskContext) -> TaskContext {
    TaskContext { resumed: true, ..ctx.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_gets_its_cards_shows_them_and_gives_them_back() {
    let (rig, env) = rig(7001, 3);
    let mut run = rig.run();
    run["resources.gpus"] = json!(2);
    run["envVars"] = json!({"CUDA_VISIBLE_DEVICES": "0,1,2", "OWN": "1"});
    let result = rig.process(&rig.context(&job(&rig, ""), &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert!(result.message.contains("on stub-card 0, 1"), "{}", result.message);
    let lines = rig.service_lines();
    assert!(lines.contains(&"STUB_VISIBLE_DEVICES=0,1".to_owned()), "{lines:?}");
    assert!(lines.contains(&"CUDA_VISIBLE_DEVICES=".to_owned()), "its own value is dropped: {lines:?}");
    let written = rig.result();
    let indices: Vec<&Value> =
        written["accelerators"].as_array().expect("an array").iter().map(|card| &card["index"]).collect();
    assert_eq!(indices, [0, 1]);
    assert!(written["warnings"].to_string().contains("envVars.CUDA_VISIBLE_DEVICES is not used"), "{written}");
    for text in ["accelerators of this run: 0 (stub-card), 1 (stub-card)", "the accelerators were given back"] {
        assert!(rig.log_text().contains(text), "`{text}` is not in:\n{}", rig.log_text());
    }
    let samples = rig.read("system-monitor.log");
    let sample: Value = serde_json::from_str(samples.lines().last().expect("a sample")).expect("JSON");
    assert_eq!(sample["accelerators"].as_array().map(Vec::len), Some(2), "{sample}");
    assert_eq!(free(&env).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_cards_of_the_wanted_type_memory_and_name_are_given() {
    let (rig, env) = rig(7040, 3);
    let asks = |resources: Value| {
        let mut run = rig.run();
        run["resources"] = resources;
        run["runSeconds"] = json!(0.3);
        rig.context(&job(&rig, ""), &run)
    };
    for (resources, said) in [
        (json!({"gpus": 1, "gpuType": "910B"}), "910B"),
        (json!({"gpus": 1, "gpuMemory": "17g"}), "17"),
        (json!({"deviceIds": ["9"]}), "9"),
    ] {
        let result = rig.process(&asks(resources.clone())).await;
        let first = result.message.lines().next().unwrap_or_default();
        assert!(first.starts_with("stage lease failed: "), "{resources}: {}", result.message);
        assert!(first.contains(said) && !result.retryable, "{resources}: {}", result.message);
    }
    let result = rig.process(&asks(json!({"deviceIds": ["2"], "gpuType": "stub-card", "gpuMemory": "16g"}))).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let cards = rig.result()["accelerators"].clone();
    assert_eq!((cards.as_array().map(Vec::len), cards[0]["index"].as_u64()), (Some(1), Some(2)), "{cards}");
    // The template's number counts where the run names none.
    let mut template = job(&rig, "");
    template["docker.defaultGpuCount"] = json!(2);
    let mut run = rig.run();
    run["runSeconds"] = json!(0.3);
    let result = rig.process(&rig.context(&template, &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(rig.result()["accelerators"].as_array().map(Vec::len), Some(2));
    assert_eq!(free(&env).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lease_a_process_on_a_host_with_cards_sees_none() {
    let (rig, _env) = rig(7002, 1);
    let result = rig.process(&rig.context(&job(&rig, ""), &rig.run())).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let lines = rig.service_lines();
    assert!(lines.contains(&"CUDA_VISIBLE_DEVICES=".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("STUB_VISIBLE_DEVICES")), "{lines:?}");
    assert!(!result.message.contains("stub-card"), "{}", result.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_who_has_the_cards_and_gives_up_at_its_time() {
    let (rig, env) = rig(7003, 1);
    let other = LeaseRequest {
        holder: BoundaryId::new(1, 1),
        count: 1,
        kind: None,
        min_memory_bytes: None,
        device_ids: Vec::new(),
        words: "instance 1, task other".into(),
        waits: false,
    };
    env.accelerators.lease(&other).await.expect("it works");
    let mut run = rig.run();
    run["resources.gpus"] = json!(1);
    let result = rig.process(&rig.context(&job(&rig, ""), &run)).await;
    assert!(result.message.contains("busy are 0 (stub-card): leased to instance 1, task other"), "{}", result.message);
    assert!(result.retryable, "another host, or another time");
    run["resources.queueTimeoutSeconds"] = json!(2);
    let result = rig.process(&rig.context(&job(&rig, ""), &run)).await;
    assert!(result.message.contains("(resources.queueTimeoutSeconds)"), "{}", result.message);
    assert!(rig.log_text().contains("waiting for 1 accelerator"), "{}", rig.log_text());
    run["resources.queueTimeoutSeconds"] = json!(60);
    let ctx = rig.context(&job(&rig, ""), &run);
    let before = rig.log_text().matches("waiting for 1 accelerator").count();
    let freed = async {
        while rig.log_text().matches("waiting for 1 accelerator").count() == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        env.accelerators.release(&other.holder).await.expect("it works");
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), freed);
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_cut_keeps_its_cards_until_its_end() {
    for (instance, mark) in
        [(7011, "stage lease: begins"), (7012, "accelerators of this run"), (7013, "stage load: begins")]
    {
        let (rig, env) = rig(instance, 2);
        let mut run = rig.run();
        run["resources.gpus"] = json!(1);
        let ctx = rig.context(&job(&rig, ""), &run);
        rig.cut_at(&ctx, mark).await;
        let freed = free_forgotten_leases(&env, &rig.place.store).await.expect("it works");
        assert_eq!(freed, [] as [String; 0], "{mark}: the run is at work");
        if mark != "stage lease: begins" {
            assert_eq!(free(&env).await, 1, "{mark}");
        }
        let result = rig.process(&resumed(&ctx)).await;
        assert!(result.success, "{mark}: {}\n{}", result.message, rig.log_text());
        assert_eq!(rig.result()["accelerators"].as_array().map(Vec::len), Some(1), "{mark}");
        assert_eq!(free(&env).await, 2, "{mark}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_left_running_keeps_its_cards_until_it_ends() {
    let (rig, env) = rig(7020, 1);
    let mut job = job(&rig, "--ready-after-ms 600000");
    job["monitor"]["killOnTimeout"] = json!(false);
    let mut run = rig.run();
    run["resources.gpus"] = json!(1);
    run["monitorOverrides.maxRunSeconds"] = json!(1);
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(!result.success, "{}", result.message);
    assert!(rig.result()["warnings"].to_string().contains("its accelerators stay leased"), "{}", rig.result());
    assert_eq!(free_forgotten_leases(&env, &rig.place.store).await.expect("it works"), [] as [String; 0], "it runs");
    let runner =
        ProcessRunner::new(rig.place.dir.path().join("state/boundaries"), ShimCommand::of(PathBuf::from(HELPER)))
            .expect("it is there");
    let left = runner.adopt(&BoundaryId::new(7020, 1)).await.expect("it works").expect("it was started");
    left.stop(Signal::KILL, Duration::ZERO).await.expect("it works");
    assert_eq!(free_forgotten_leases(&env, &rig.place.store).await.expect("it works"), ["those of testrig-7020-1"]);
    assert_eq!(free(&env).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_go_together_with_cards_is_refused_before_anything_starts() {
    let (rig, env) = rig(7030, 2);
    let mut run = rig.run();
    run["resources.gpus"] = json!(2);
    run["resources.deviceIds"] = json!(["0"]);
    let result = rig.process(&rig.context(&job(&rig, ""), &run)).await;
    assert!(
        result.message.contains("instanceParams.resources.gpus: is 2, but resources.deviceIds names 1"),
        "{}",
        result.message
    );
    let mut run = rig.run();
    run["resources.gpus"] = json!(1);
    run["service.reuse"] = json!("http://127.0.0.1:9");
    let result = rig.process(&rig.context(&rig.job(&[]), &run)).await;
    assert!(result.message.contains("cannot be leased for a service that already runs"), "{}", result.message);
    let view = env.accelerators.view().await.expect("it works");
    assert!(view.cards.iter().all(|card| card.availability == Availability::Free));
}
