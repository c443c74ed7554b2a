//! Processes that the kernel kills for want of memory.

use serde_json::json;
use testrig_host::{
    BoundaryId,
    process::{ProcessError, ProcessRunner, ProcessSpec, ShimCommand},
};

use super::{
    health::patient,
    row::{Row, play},
};
use crate::{
    common::{HELPER, Place},
    rig::skipped,
};

const LIMIT: &str = "96m";

/// Why no memory can be limited here, if that is so.
async fn no_memory_cgroup() -> Option<String> {
    let place = Place::new();
    let runner =
        ProcessRunner::new(place.dir.path().join("boundaries"), ShimCommand::of(HELPER)).expect("it works here");
    let mut spec = ProcessSpec::new(BoundaryId::new(8100, 1), "true", place.dir.path().join("out"));
    spec.memory = Some(64 << 20);
    match runner.spawn(spec).await {
        Ok(handle) => {
            handle.wait().await.expect("it works here");
            handle.forget().await.expect("it works here");
            None
        }
        Err(ProcessError::NotStarted { detail, .. }) if detail.contains("no memory cgroup") => Some(detail),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_kernel_kills_for_want_of_memory_is_told_apart_by_main_process_and_child() {
    if let Some(reason) = no_memory_cgroup().await {
        skipped(
            "taxonomy::memory::what_the_kernel_kills_for_want_of_memory_is_told_apart_by_main_process_and_child",
            &reason,
        );
        return;
    }
    let kills = "/failure/evidence/oom/kills";
    let killed = "/failure/evidence/exit/oom_killed";
    let load = "stage load: begins";
    let rows = vec![
        Row::new("the main process before it was ready", "oom_main", "health")
            .service("echo loading; exec HELPER eat")
            .counted(kills)
            .proof(killed, json!(true))
            .proof("/failure/evidence/exit/signal", json!(9))
            .proof("/failure/lastServiceLines/0", json!("loading"))
            .says("killed by the kernel for want of memory"),
        Row::new("the main process under load", "oom_main", "load")
            .service("STUB & WAIT; exec HELPER eat")
            .go_when(load)
            .proof(killed, json!(true)),
        Row::new("a child, whose parent ends then", "oom_child", "health")
            .service("HELPER eat; exit 5")
            .counted(kills)
            .proof("/failure/evidence/exit/code", json!(5)),
        Row::new("a child under load, whose parent ends then", "oom_child", "load")
            .service("STUB & WAIT; HELPER eat; exit 137")
            .go_when(load)
            .proof(killed, json!(true))
            .proof("/failure/evidence/exit/signal", json!(null)),
        Row::new("a child of a service that goes on and is loaded to the end", "oom_child", "load")
            .service("HELPER eat; exec STUB")
            .run("runSeconds", json!(0.5))
            .counted(kills)
            .says("resources.memory"),
        Row::new("a child of a service that hangs then", "oom_child", "load")
            .service("STUB & P=$!; WAIT; HELPER eat; kill -STOP $P; wait")
            .job("healthCheck", patient("HTTP"))
            .go_when(load)
            .counted(kills)
            .says("health checks in a row failed"),
    ];
    let rows = rows.into_iter().map(|row| row.run("resources.memory", json!(LIMIT))).collect();
    play(8110, rows).await;
}
