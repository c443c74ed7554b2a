//! Scripts that run to their end.

use std::fs;
use std::time::Duration;

use crate::rig::{Rig, agent, boundary, script, unique_sleep, until, with_argument};

#[tokio::test]
async fn a_script_ends_with_its_code_the_end_of_its_output_and_an_empty_boundary() {
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    fs::write(rig.path("out.log"), "of an earlier script\n").expect("writable");
    let process = rig.shell(&id, &format!("setsid sleep {sleep} & echo 1; echo 2; exit 5"));
    let outcome = rig.runner.run_script(script(process), std::future::pending()).await.expect("ran");
    assert_eq!(outcome.exit.code, Some(5));
    assert_eq!(outcome.output_tail, "1\n2\n");
    assert!(!outcome.timed_out && !outcome.cancelled);
    assert_eq!(with_argument(&sleep), [0; 0]);
    assert!(rig.runner.list().expect("readable").is_empty());
}

#[tokio::test]
async fn a_script_that_takes_too_long_or_is_cancelled_is_stopped() {
    let (rig, id) = (Rig::new(), boundary());
    let mut spec = script(rig.shell(&id, "echo begun; sleep 60"));
    spec.limit = Duration::from_millis(300);
    let outcome = rig.runner.run_script(spec, std::future::pending()).await.expect("ran");
    assert!(outcome.timed_out && !outcome.exit.success(), "{outcome:?}");

    let spec = script(rig.shell(&id, "sleep 60"));
    let outcome = rig.runner.run_script(spec, std::future::ready(())).await.expect("ran");
    assert!(outcome.cancelled && !outcome.timed_out, "{outcome:?}");
}

#[tokio::test]
async fn what_a_killed_agents_script_left_is_emptied_before_it_runs_again() {
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    let mut agent = agent(&rig, &id, &format!("trap '' TERM; sleep {sleep}"));
    until("it is there", || with_argument(&sleep).len() == 1).await;
    agent.kill().expect("ours");
    agent.wait().expect("ours");
    let process = rig.shell(&id, "echo again");
    let outcome = rig.runner.run_script(script(process), std::future::pending()).await.expect("ran");
    assert_eq!(outcome.output_tail, "again\n");
    assert_eq!(with_argument(&sleep), [0; 0]);
}

#[tokio::test]
async fn a_host_command_is_healthy_by_its_exit_code_and_shows_its_output_otherwise() {
    let (rig, id) = (Rig::new(), boundary());
    let probe = |words: &str| testrig_host::health::host_command(&rig.runner, script(rig.shell(&id, words)));
    assert!(probe("exit 0").await.expect("ran").healthy);
    let ill = probe("echo not yet; exit 3").await.expect("ran");
    assert!(!ill.healthy && ill.detail.ends_with("exit code 3: not yet"), "{ill:?}");
}
