//! Emptying boundaries.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testrig_host::Signal;
use testrig_host::process::BoundaryKind;

use crate::nasty::{NASTY, nasty};
use crate::rig::{
    LONG, Rig, SHIM, boundary, kill_9, shim_pid, skipped, times, unique_sleep, until, with_argument, without_cgroups,
    working_in,
};

#[tokio::test]
async fn a_graceful_stop_gives_the_program_its_time_and_its_own_exit_code() {
    let (rig, id) = (Rig::new(), boundary());
    let mut spec = rig.shell(&id, "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done");
    // The group gets the signal, too, and the shell says there what it thinks of the end of its `sleep`.
    spec.stderr = Some(rig.path("err.log"));
    let handle = rig.runner.spawn(spec).await.expect("started");
    until("it is up", || rig.output() == "up\n").await;
    let report = handle.stop(Signal::TERM, LONG).await.expect("emptied");
    assert!(report.graceful);
    assert_eq!(report.exit.code, Some(3));
    assert_eq!(rig.output(), "up\nbye\n");
}

#[tokio::test]
async fn a_program_that_ignores_the_signal_is_killed_after_the_grace_time() {
    let (rig, id) = (Rig::new(), boundary());
    let handle = rig.run(&id, "trap '' TERM; echo up; while :; do sleep 0.05; done").await;
    until("it is up", || rig.output() == "up\n").await;
    let report = handle.stop(Signal::TERM, Duration::from_millis(200)).await.expect("emptied");
    assert!(!report.graceful && report.killed >= 1, "{report:?}");
    assert_eq!(report.exit.signal, Some(9));
}

#[tokio::test]
async fn stops_over_children_that_do_everything_to_survive_leave_none_and_touch_nobody_else() {
    let rig = Rig::new();
    let marker = rig.runner_with(BoundaryKind::Marker);
    let mut foreign = Command::new("sleep")
        .arg(unique_sleep())
        // Of another agent's boundary with the same name.
        .env("TESTRIG_BOUNDARY", "testrig-1-0")
        .env("TESTRIG_BOUNDARY_DIR", "/elsewhere/testrig-1-0")
        // If this test fails it stays, and must not keep the pipe of whoever reads the test's output.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sleep");
    let (rounds, mut took, mut ended) = (times(50, 1000), Vec::new(), 0);
    for round in 0..rounds {
        let id = boundary();
        let place = rig.path(&format!("place-{round}"));
        fs::create_dir(&place).expect("directory");
        let mut spec = rig.shell(&id, &nasty(SHIM));
        spec.work_dir = Some(place.clone());
        // In turn: with cgroups, without, and with cgroups but without the shim.
        let runner = if round % 3 == 1 { &marker } else { &rig.runner };
        let handle = runner.spawn(spec).await.expect("started");
        // The first rounds wait until all of them are there; the others stop it in the midst of its forking.
        if round < 9 {
            until("all are there", || working_in(&place).len() >= NASTY).await;
        }
        if round % 3 == 2 && !handle.boundary_kind().starts_with("no cgroup") {
            kill_9(shim_pid(&rig, &id));
        }
        let begin = Instant::now();
        let report = handle.stop(Signal::TERM, Duration::from_millis(1)).await.expect("emptied");
        took.push(begin.elapsed());
        ended += report.killed;
        assert_eq!(working_in(&place), [0; 0], "round {round} ({}): {report:?}", handle.boundary_kind());
        handle.forget().await.expect("empty");
        fs::remove_dir(&place).expect("nobody wrote there");
    }
    took.sort();
    let middle = took[took.len() / 2];
    println!(
        "{rounds} stops, {ended} processes killed, 0 survivors; median {middle:?}, slowest {:?}",
        took[rounds - 1]
    );
    assert!(foreign.try_wait().expect("ours").is_none(), "a foreign process was ended");
    foreign.kill().expect("ours");
    foreign.wait().expect("ours");
}

#[tokio::test]
async fn each_of_the_three_ways_to_find_a_process_is_enough_by_itself() {
    // Only the subreaper: no cgroup, no marker.
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    let script = format!("env -i setsid sh -c '(env -i setsid sleep {sleep} &)'; exec env -i sleep 60");
    rig.run(&id, &script).await;
    until("the orphan is there", || with_argument(&sleep).len() == 1).await;
    let handle = without_cgroups(&rig, &id).await;
    handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
    assert_eq!(with_argument(&sleep), [0; 0], "subreaper");

    // Only the marker: no cgroup, the shim is killed.
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    rig.run(&id, &format!("(setsid sleep {sleep} &); exec sleep {sleep}")).await;
    until("both are there", || with_argument(&sleep).len() == 2).await;
    kill_9(shim_pid(&rig, &id));
    let handle = without_cgroups(&rig, &id).await;
    assert!(handle.exit().expect("readable").is_none(), "the program runs although its shim is dead");
    let report = handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
    assert_eq!(with_argument(&sleep), [0; 0], "marker");
    assert!(report.exit.code.is_none() && report.exit.error.expect("told").contains("shim was killed"));
    handle.forget().await.expect("empty");

    // Only the cgroup: no marker, the shim is killed.
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    let handle = rig.run(&id, &format!("(env -i setsid sleep {sleep} &); exec env -i sleep {sleep}")).await;
    until("both are there", || with_argument(&sleep).len() == 2).await;
    if handle.boundary_kind().starts_with("no cgroup") {
        skipped("each_of_the_three_ways_to_find_a_process_is_enough_by_itself", "no cgroup can be made here");
        handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
        return;
    }
    kill_9(shim_pid(&rig, &id));
    handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
    assert_eq!(with_argument(&sleep), [0; 0], "cgroup");
    handle.forget().await.expect("empty");
}

#[tokio::test]
async fn children_that_the_program_leaves_behind_live_until_the_boundary_is_emptied() {
    let (rig, id, sleep) = (Rig::new(), boundary(), unique_sleep());
    let handle = rig.run(&id, &format!("setsid sleep {sleep} & exit 0")).await;
    assert!(handle.wait().await.expect("readable").success());
    until("it is there", || with_argument(&sleep).len() == 1).await;
    assert_eq!(handle.members().await.expect("readable"), with_argument(&sleep));
    let error = handle.forget().await.expect_err("not empty");
    assert!(error.to_string().contains("sleep"), "{error}");
    // The end is known by then, and stays what it was.
    let report = handle.stop(Signal::TERM, LONG).await.expect("emptied");
    assert!(report.exit.success() && report.killed == 1, "{report:?}");
    handle.forget().await.expect("empty");
}
