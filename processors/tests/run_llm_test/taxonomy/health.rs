//! Services that live and are not, or no longer, well.

use serde_json::json;

use super::row::{Row, play};

fn checks(kind: &str) -> serde_json::Value {
    json!({"type": kind, "intervalMillis": 50, "timeoutMillis": 300, "maxRetry": 4})
}

/// Enough tries for a slow host to become ready.
pub(super) fn patient(kind: &str) -> serde_json::Value {
    json!({"type": kind, "intervalMillis": 50, "timeoutMillis": 2000, "maxRetry": 2000, "failureThreshold": 2})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_lives_and_is_never_ready_is_told_by_every_kind_of_check() {
    let failed = "/health/checks/failed";
    let outcome = "/health/checks/entries/0/outcome";
    play(
        8400,
        vec![
            Row::new("HTTP 503", "never_ready", "health")
                .stub(&["--ready-after-ms", "600000"])
                .job("healthCheck", checks("HTTP"))
                .proof(failed, json!(4))
                .proof("/health/checks/passed", json!(0))
                .proof(outcome, json!("failed"))
                .says("not ready after 4 health checks")
                .says("4 health checks, 0 passed, the last one at "),
            Row::new("nobody listens", "never_ready", "health")
                .service("echo up; sleep 600")
                .job("healthCheck", checks("TCP"))
                .proof(failed, json!(4))
                .proof("/health/type", json!("TCP"))
                .proof("/health/checks/entries/0/count", json!(4))
                .proof("/failure/lastServiceLines/0", json!("up"))
                .says("refused"),
            Row::new("a page that is not there", "never_ready", "health")
                .job("healthCheck", checks("HTTP"))
                .job("healthCheck.path", json!("/no-such-page"))
                .proof(failed, json!(4))
                .says("/no-such-page"),
            Row::new("nobody listens on the port that portKey names", "never_ready", "health")
                .job("healthCheck", checks("TCP"))
                .job("healthCheck.portKey", json!("adminPort"))
                .run("adminPort", json!(1))
                .proof(failed, json!(4))
                .says("127.0.0.1:1: "),
            Row::new("a command that fails", "never_ready", "health")
                .job("healthCheck", checks("CMD"))
                .job("healthCheck.timeoutMillis", json!(20_000))
                .job("healthCheck.command", json!(["sh", "-c", "echo cold; exit 1"]))
                .proof(failed, json!(4))
                .says("exit code 1: cold"),
            Row::new("a command that hangs", "never_ready", "health")
                .job("healthCheck", checks("CMD"))
                .job("healthCheck.command", json!(["sleep", "600"]))
                .says("not done within 300 ms"),
            Row::new("no first token though it is healthy", "never_ready", "health")
                .stub(&["--fault", "http500"])
                .job("healthCheck", checks("READY_TOKEN"))
                .job("healthCheck.timeoutMillis", json!(20_000))
                .proof(failed, json!(4))
                .says("500")
                .proof("/startup/firstTokenMs", json!(null))
                .proof("/startup/readyMs", json!(null)),
            Row::new("a first token that stalls", "never_ready", "health")
                .stub(&["--fault", "stall"])
                .job("healthCheck", checks("READY_TOKEN"))
                .proof("/health/type", json!("READY_TOKEN"))
                .proof(failed, json!(4)),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_was_ready_and_is_no_longer_is_told_by_every_kind_of_check() {
    let load = "stage load: begins";
    let liveness = "/health/checks/entries/0/phase";
    play(
        8450,
        vec![
            Row::new("HTTP of a stopped process", "health_lost", "load")
                .job("healthCheck", patient("HTTP"))
                .signal_when(load, "STOP")
                .counted("/health/checks/failed")
                .counted("/health/checks/passed")
                .says("no answer within 2000 ms"),
            Row::new("TCP of a child that is gone", "health_lost", "load")
                .service("STUB & P=$!; WAIT; kill -KILL $P; sleep 600")
                .job("healthCheck", patient("TCP"))
                .go_when(load)
                .says("2 health checks in a row failed after the service had been ready"),
            Row::new("a command whose file is gone", "health_lost", "load")
                .job("healthCheck", patient("CMD"))
                .params(|rig, job, _| {
                    let file = rig.place.dir.path().join("alive");
                    std::fs::write(&file, "").expect("it works here");
                    job["healthCheck"]["type"] = json!("CMD");
                    let script = format!("test -e {} && exec 3<>/dev/tcp/127.0.0.1/{}", file.display(), rig.port);
                    job["healthCheck"]["command"] = json!(["bash", "-c", script]);
                })
                .when(load, |scene| {
                    std::fs::remove_file(scene.rig.place.dir.path().join("alive")).expect("it works here");
                    Box::pin(std::future::ready(()))
                })
                .says("exit code 1"),
            Row::new("READY_TOKEN once it was ready is a connection", "health_lost", "load")
                .service("STUB & P=$!; WAIT; kill -KILL $P; sleep 600")
                .job("healthCheck", patient("READY_TOKEN"))
                .go_when(load)
                .proof(liveness, json!("startup"))
                .counted("/startup/firstTokenMs")
                .counted("/startup/readyMs")
                .says("TCP 127.0.0.1:"),
            Row::new("ready only after five successes in a row", "completed", "load")
                .job("healthCheck", patient("HTTP"))
                .job("healthCheck.successThreshold", json!(5))
                .job("healthCheck.initialDelayMillis", json!(1))
                .run("runSeconds", json!(0.3))
                .when("the service is ready after ", |scene| {
                    // How many failed before depends on the host.
                    let log = scene.rig.log_text();
                    let after = log.split("the service is ready after ").nth(1).and_then(|rest| rest.split(' ').next());
                    let checks: u32 = after.and_then(|number| number.parse().ok()).expect("a number");
                    assert!(checks >= 5, "{log}");
                    Box::pin(std::future::ready(()))
                }),
            Row::new("every request fails though it is healthy", "test_failed", "load")
                .stub(&["--fault", "http500"])
                .run("runSeconds", json!(0.5))
                .proof("/failures/http_4xx", json!(null))
                .counted("/failures/http_5xx")
                .says("requests failed (error rate 100%"),
        ],
    )
    .await;
}
