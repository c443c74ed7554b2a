//! Instances that consist of tasks.

use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

fn map(id: i64) -> Dispatch {
    Dispatch { execute_type: "MAP".into(), ..dispatch(id) }
}

fn fixed_rate(id: i64) -> Dispatch {
    Dispatch { time_expression_type: "FIXED_RATE".into(), ..dispatch(id) }
}

#[test]
fn it_takes_no_slot_and_no_place_in_the_backlog() {
    let mut rig = Rig::online(1, 1);
    for id in [1, 2] {
        rig.run(dispatch(id));
    }
    rig.take();
    rig.run(map(3));
    rig.run(fixed_rate(4));
    assert_eq!((rig.stage(2), rig.stage(3), rig.stage(4)), ("queued", "running", "running"));
    assert_eq!(rig.core.worker().slots_used, 1);
    rig.end(1, ProcessResult::success(""));
    assert_eq!(rig.stage(2), "running", "the slot belongs to the one that waits for it");
}

#[test]
fn beyond_their_own_limit_they_are_ignored_and_a_heartbeat_says_overload() {
    let mut rig = Rig::with(CoreConfig { heavy: 2, ..config(4, 4) }, Store::default());
    rig.find();
    rig.run(map(1));
    rig.send(Event::HeartbeatDone { ok: true });
    rig.take();
    rig.run(map(2));
    assert_eq!(words(&rig.take()).last().map(String::as_str), Some("heartbeat true"));
    rig.run(map(3));
    assert_eq!(rig.stage(3), "closed");
    rig.run(dispatch(4));
    assert_eq!(rig.stage(4), "running", "single runs have room of their own");
}

#[test]
fn heartbeats_count_the_two_kinds_apart() {
    let mut rig = Rig::online(4, 4);
    for dispatch in [dispatch(1), dispatch(2), map(3)] {
        rig.run(dispatch);
    }
    rig.pass(11_000);
    let counts = rig.take().into_iter().rev().find_map(|action| match action {
        Action::SendHeartbeat { light_task_trackers, heavy_task_trackers, .. } => {
            Some((light_task_trackers, heavy_task_trackers))
        }
        _ => None,
    });
    assert_eq!(counts, Some((2, 1)));
}

#[test]
fn a_failed_tracker_is_not_started_again_because_its_tasks_were_retried_one_by_one() {
    let mut rig = Rig::online(1, 1);
    rig.run(Dispatch { task_retry_num: 3, ..map(1) });
    rig.end(1, ProcessResult::failed("two tasks failed"));
    rig.drained(1);
    assert_eq!(rig.pending(1).outcome.result, "two tasks failed");
}

#[test]
fn the_time_limit_counts_from_the_arrival_also_across_a_restart() {
    let mut rig = Rig::online(1, 1);
    rig.run(Dispatch { timeout_ms: Some(60_000), ..map(1) });
    rig.pass(40_000);
    rig.restart(10_000);
    let left = rig.core.instance(rig.now(), 1).expect("open").time_left_ms.expect("limited");
    assert!((9_000..=10_500).contains(&left), "{left}");
    rig.pass_unanswered(12_000);
    assert!(words(&rig.take()).contains(&"time out 1".to_owned()));
    rig.end(1, ProcessResult::failed(""));
    let Stage::Draining(outcome) = &rig.store.records[&1].stage else { panic!("ended") };
    assert_eq!(outcome.result, "instance execute timeout");
}

#[test]
fn a_frequent_job_has_no_limit_as_a_whole() {
    let mut rig = Rig::online(1, 1);
    rig.run(Dispatch { timeout_ms: Some(1_000), ..fixed_rate(1) });
    rig.first_line(1);
    rig.pass(600_000);
    let actions = rig.take();
    assert!(!words(&actions).contains(&"time out 1".to_owned()));
    assert!(report_times(&actions, 1).len() >= 59, "it is reported RUNNING for ever");
}

#[test]
fn a_restarted_worker_takes_it_up_and_a_stop_empties_it() {
    let mut rig = Rig::online(1, 1);
    rig.run(map(1));
    rig.restart(1_000);
    assert!(words(&rig.actions).contains(&"resume 1#1".to_owned()));
    rig.find();
    rig.info(1, 3, ADDRESS);
    rig.take();
    rig.send(Event::StopInstance(1));
    assert!(words(&rig.take()).contains(&"stop 1".to_owned()));
    rig.end(1, ProcessResult::failed("stopped"));
    rig.drained(1);
    assert_eq!((rig.stage(1), reports(&rig.take())), ("closed", 0));
}

#[test]
fn after_an_outage_a_failed_row_ends_a_tracker_but_not_a_single_run_nor_an_outcome() {
    let mut rig = Rig::online(4, 4);
    rig.run(map(1));
    rig.run(dispatch(2));
    rig.run(map(3));
    rig.end(3, ProcessResult::success("all tasks"));
    rig.restart(70_000);
    rig.find();
    rig.take();
    for id in [1, 2, 3] {
        rig.info(id, 4, ADDRESS);
    }
    assert_eq!((rig.stage(1), rig.stage(2), rig.stage(3)), ("stopping", "running", "draining"));
}

#[test]
fn its_outcome_carries_the_numbers_of_its_tasks() {
    let mut rig = Rig::online(1, 1);
    rig.run(map(1));
    let tasks = Some(TaskCounts { total: 5, succeeded: 4, failed: 1 });
    rig.send(Event::ProcessorEnded {
        instance_id: 1,
        attempt: 1,
        result: ProcessResult::failed("total:5"),
        appended_context: Default::default(),
        tasks,
    });
    rig.drained(1);
    assert_eq!(rig.pending(1).outcome.tasks, tasks);
}

#[test]
fn a_worker_that_owns_none_fails_them_with_a_text_that_says_so() {
    let mut rig = Rig::with(CoreConfig { heavy: 0, ..config(1, 1) }, Store::default());
    rig.find();
    rig.run(map(1));
    rig.drained(1);
    let outcome = rig.pending(1).outcome;
    assert!(!outcome.success && outcome.result.contains("`MAP`"), "{}", outcome.result);
}

#[test]
fn what_dispatches_did_can_be_undone_and_done_again() {
    let mut rig = Rig::online(1, 4);
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    let before = (rig.core.instances(rig.now()), rig.core.worker(), rig.core.wake_at());
    rig.core.begin();
    let first = rig.core.handle(rig.now(), Event::RunJob(dispatch(3)));
    rig.core.handle(rig.now(), Event::RunJob(map(4)));
    rig.core.undo();
    assert_eq!((rig.core.instances(rig.now()), rig.core.worker(), rig.core.wake_at()), before);
    rig.core.begin();
    assert_eq!(rig.core.handle(rig.now(), Event::RunJob(dispatch(3))), first);
    rig.core.keep();
    assert_eq!(rig.stage(3), "queued");
}
