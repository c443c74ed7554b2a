//! Runs that somebody or a time limit ends.

use powerjob_worker::StopReason;
use serde_json::json;

use super::{
    devices::{busy_card, with_cards},
    row::{ANY, Row, play},
};

fn hanging_setup(row: Row) -> Row {
    row.params(|rig, job, _| {
        let script = rig.place.dir.path().join("setup.sh");
        std::fs::write(&script, "#!/bin/sh\necho setting up\nsleep 600\n").expect("it works here");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it works here");
        job["env.setupScript"] = json!(script);
    })
}

fn waiting_for_a_card(row: Row) -> Row {
    busy_card(with_cards(row, 1)).run("resources.gpus", json!(1)).run("resources.queueTimeoutSeconds", json!(600))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_and_time_limits_are_told_as_what_they_are_in_every_stage() {
    let unready = &["--ready-after-ms", "600000"];
    let waiting = "waiting for 1 accelerator";
    play(
        8200,
        vec![
            Row::new("stopped before it was ready", "cancelled", "health")
                .stub(unready)
                .stop_when("stage health: begins", StopReason::Stopped)
                .proof("/status", json!("STOPPED"))
                .says("the instance was stopped"),
            Row::new("stopped under load", "cancelled", "load")
                .stop_when("stage load: begins", StopReason::Stopped)
                .proof("/failure/evidence", json!({})),
            Row::new("ended by the operator under load", "cancelled", "load")
                .stop_when("stage load: begins", StopReason::Cancelled)
                .says("the operator ended the agent and its runs"),
            hanging_setup(Row::new("stopped in its set-up script", "cancelled", "create"))
                .stop_when("stage create: begins", StopReason::Stopped),
            waiting_for_a_card(Row::new("stopped while it waited for a card", "cancelled", "lease"))
                .stop_when(waiting, StopReason::Stopped),
            Row::new("maxRunSeconds before it was ready", "time_limit", ANY)
                .stub(unready)
                .run("monitorOverrides.maxRunSeconds", json!(1))
                .says("monitorOverrides.maxRunSeconds (1 s)"),
            Row::new("maxRunSeconds of a service that is well", "time_limit", ANY)
                .run("monitorOverrides.maxRunSeconds", json!(3))
                .proof("/status", json!("FAILED")),
            Row::new("the job's time limit before it was ready", "time_limit", "health")
                .stub(unready)
                .stop_when("stage health: begins", StopReason::TimedOut)
                .says("instanceTimeoutMS"),
            Row::new("the job's time limit under load", "time_limit", "load")
                .stop_when("stage load: begins", StopReason::TimedOut)
                .proof("/failure/kind", json!("timed_out")),
            hanging_setup(Row::new("the job's time limit in its set-up script", "time_limit", "create"))
                .stop_when("stage create: begins", StopReason::TimedOut),
            waiting_for_a_card(Row::new("the job's time limit while it waited for a card", "time_limit", "lease"))
                .stop_when(waiting, StopReason::TimedOut),
        ],
    )
    .await;
}
