//! What happens while no agent is there.

use serde_json::{Value, json};
use testrig_host::{
    BoundaryId, Signal,
    process::{ProcessRunner, ShimCommand},
};

use super::row::{Row, Scene, play};
use crate::common::HELPER;

fn runner(scene: &Scene) -> ProcessRunner {
    ProcessRunner::new(scene.env.state_dir.join("boundaries"), ShimCommand::of(HELPER)).expect("it works here")
}

/// Ends what the run left, as the end of the host would.
async fn end(scene: &Scene) {
    let boundary = BoundaryId::new(scene.rig.instance, 1);
    let left = runner(scene).adopt(&boundary).await.expect("it works here").expect("it was started");
    left.stop(Signal::KILL, std::time::Duration::ZERO).await.expect("it works here");
}

/// The host is booted: nothing runs, nobody wrote down how it ended, and the kernel has another boot id.
async fn reboot(scene: &Scene) {
    end(scene).await;
    let dir = scene.env.state_dir.join("boundaries").join(BoundaryId::new(scene.rig.instance, 1).as_str());
    let _ = std::fs::remove_file(dir.join("exit.json"));
    let start = dir.join("start.json");
    let mut started: Value =
        serde_json::from_str(&std::fs::read_to_string(&start).expect("it works here")).expect("it works here");
    assert!(started["boot_id"].is_string(), "{started}");
    started["boot_id"] = json!("another boot");
    std::fs::write(&start, started.to_string()).expect("it works here");
    another_boot_in_the_record(scene).await;
}

async fn another_boot_in_the_record(scene: &Scene) {
    let store = &scene.rig.place.store;
    let text: String = store
        .read(|conn| conn.query_row("SELECT record FROM llm_runs", [], |row| row.get(0)))
        .await
        .expect("it works here");
    let mut record: Value = serde_json::from_str(&text).expect("it works here");
    assert!(record["bootId"].is_string(), "{record}");
    record["bootId"] = json!("another boot");
    let text = record.to_string();
    store.write(move |conn| conn.execute("UPDATE llm_runs SET record = ?1", [text])).await.expect("it works here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_agent_tells_a_reboot_from_an_end_and_from_a_service_that_is_gone() {
    let before = "/failure/evidence/reboot/before";
    play(
        8700,
        vec![
            Row::new("reboot before it was ready", "host_reboot", "health")
                .stub(&["--ready-after-ms", "600000"])
                .cut_when("stage health: begins")
                .meanwhile(|scene| Box::pin(reboot(scene)))
                .proof(before, json!("another boot"))
                .proof("/failure/evidence/exit/unseen", json!("reboot"))
                .says("the host was rebooted"),
            Row::new("reboot under load", "host_reboot", "load")
                .cut_when("stage load: begins")
                .meanwhile(|scene| Box::pin(reboot(scene)))
                .proof("/restarts", json!(1))
                .says("the host was rebooted"),
            Row::new("reboot of a service whose directory is gone", "host_reboot", "load")
                .cut_when("stage load: begins")
                .meanwhile(|scene| {
                    Box::pin(async {
                        end(scene).await;
                        let boundary = BoundaryId::new(scene.rig.instance, 1);
                        let left = runner(scene).adopt(&boundary).await.expect("it works here").expect("it is there");
                        left.forget().await.expect("it works here");
                        another_boot_in_the_record(scene).await;
                    })
                })
                .proof(before, json!("another boot")),
            Row::new("killed while the agent was away", "signal", "load")
                .cut_when("stage load: begins")
                .meanwhile(|scene| Box::pin(end(scene)))
                .proof("/failure/evidence/exit/signal", json!(9)),
            Row::new("ended early while the agent was away", "early_exit", "health")
                .service("WAIT; echo last words; exit 9")
                .cut_when("stage health: begins")
                .meanwhile(|scene| {
                    Box::pin(async {
                        scene.go();
                        let boundary = BoundaryId::new(scene.rig.instance, 1);
                        let left =
                            runner(scene).adopt(&boundary).await.expect("it works here").expect("it was started");
                        assert_eq!(left.wait().await.expect("it works here").code, Some(9));
                    })
                })
                .proof("/failure/evidence/exit/code", json!(9))
                .says("| last words"),
            Row::new("gone without a trace", "unknown", "health")
                .stub(&["--ready-after-ms", "600000"])
                .cut_when("stage health: begins")
                .meanwhile(|scene| {
                    Box::pin(async {
                        end(scene).await;
                        let boundary = BoundaryId::new(scene.rig.instance, 1);
                        let left = runner(scene).adopt(&boundary).await.expect("it works here").expect("it is there");
                        left.forget().await.expect("it works here");
                    })
                })
                .says("is not there any more"),
        ],
    )
    .await;
}
