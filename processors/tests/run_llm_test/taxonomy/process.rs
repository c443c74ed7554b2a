//! Main processes that end by themselves.

use serde_json::json;

use super::row::{Row, play};

const LOAD: &str = "stage load: begins";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_ends_by_itself_is_told_by_code_or_signal_and_by_whether_it_had_been_ready() {
    let code = "/failure/evidence/exit/code";
    let signal = "/failure/evidence/exit/signal";
    let last = "/failure/lastServiceLines/0";
    play(
        8000,
        vec![
            Row::new("code 1 under load", "exit_code", "load")
                .service("STUB & WAIT; exit 1")
                .go_when(LOAD)
                .proof(code, json!(1))
                .counted("/health/checks/passed")
                .says("ended by itself: exit code 1"),
            Row::new("code 42 under load", "exit_code", "load")
                .service("echo loaded the weights; STUB & WAIT; exit 42")
                .go_when(LOAD)
                .proof(code, json!(42))
                .proof(last, json!("loaded the weights"))
                .says("| loaded the weights"),
            Row::new("code 255 under load", "exit_code", "load")
                .service("STUB & WAIT; exit 255")
                .go_when(LOAD)
                .proof(code, json!(255)),
            Row::new("code 0 under load", "exit_code", "load")
                .service("STUB & WAIT; exit 0")
                .go_when(LOAD)
                .proof(code, json!(0))
                .proof("/service/endedEarly", json!(true)),
            Row::new("code 3 in the warm-up", "exit_code", "warm-up")
                .service("STUB & WAIT; exit 3")
                .run("warmupSeconds", json!(600))
                .go_when("stage warm-up: begins")
                .proof(code, json!(3)),
            Row::new("its own end after some requests", "exit_code", "load")
                .stub(&["--exit-after", "20"])
                .proof(code, json!(7))
                .says("| stub: giving up"),
            Row::new("killed from outside under load", "signal", "load")
                .signal_when(LOAD, "KILL")
                .proof(signal, json!(9))
                .proof("/failure/evidence/exit/oom_killed", json!(false))
                .says("killed by signal 9 (SIGKILL)"),
            Row::new("terminated from outside under load", "signal", "load")
                .signal_when(LOAD, "TERM")
                .proof(signal, json!(15)),
            Row::new("segmentation fault under load", "signal", "load")
                .service("STUB & WAIT; kill -SEGV $$")
                .go_when(LOAD)
                .proof(signal, json!(11))
                .says("SIGSEGV"),
            Row::new("abort under load", "signal", "load")
                .service("STUB & WAIT; kill -ABRT $$")
                .go_when(LOAD)
                .proof(signal, json!(6)),
            Row::new("killed before it was ready", "signal", "health")
                .service("echo loading; kill -KILL $$")
                .proof(signal, json!(9))
                .proof(last, json!("loading")),
            Row::new("bus error before it was ready", "signal", "health")
                .service("kill -BUS $$")
                .proof(signal, json!(7)),
            Row::new("real-time signal before it was ready", "signal", "health")
                .service("kill -40 $$")
                .proof(signal, json!(40)),
            Row::new("code 1 before it was ready", "early_exit", "health")
                .service("echo ValueError: no such model; exit 1")
                .proof(code, json!(1))
                .proof(last, json!("ValueError: no such model"))
                .proof("/health/checks/passed", json!(0)),
            Row::new("code 0 before it was ready", "early_exit", "health").service("exit 0").proof(code, json!(0)),
            Row::new("many lines before its early exit", "early_exit", "health")
                .service("i=0; while [ $i -lt 80 ]; do i=$((i+1)); echo line $i; done; exit 2")
                .proof(last, json!("line 31"))
                .proof("/failure/lastServiceLines/49", json!("line 80"))
                .proof("/failure/lastServiceLines/50", json!(null)),
            Row::new("a command that its script does not find", "early_exit", "health")
                .service("no-such-server --port 1")
                .proof(code, json!(127)),
            Row::new("a file that its script may not execute", "early_exit", "health")
                .service("/etc/passwd")
                .proof(code, json!(126)),
            Row::new("an early exit between two checks that are far apart", "early_exit", "health")
                .service("exit 9")
                .job("healthCheck", json!({"intervalMillis": 3_000_000, "initialDelayMillis": 3_000_000}))
                .proof(code, json!(9))
                .proof("/health/checks/entries", json!([])),
            Row::new("a run as it should be", "completed", "load")
                .run("runSeconds", json!(0.5))
                .proof("/failure", json!(null)),
        ],
    )
    .await;
}
