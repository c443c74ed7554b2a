use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

fn with_retries(task_retry_num: u32) -> Rig {
    let mut rig = Rig::online(1, 2);
    rig.run(Dispatch { task_retry_num, ..dispatch(1) });
    rig.take();
    rig
}

fn limited(timeout_ms: u64) -> Dispatch {
    Dispatch { timeout_ms: Some(timeout_ms), task_retry_num: 3, ..dispatch(1) }
}

#[test]
fn a_failed_task_is_retried_at_once_as_often_as_the_job_allows() {
    let mut rig = with_retries(2);
    rig.end(1, ProcessResult::failed("one"));
    let actions = rig.take();
    assert_eq!(words(&actions), ["start 1#2"]);
    assert!(lines(&actions)[0].1.contains("failed: one; starting task retry 1 of 2"));
    rig.end(1, ProcessResult::failed("two"));
    assert_eq!(words(&rig.take()), ["start 1#3"]);
    rig.end(1, ProcessResult::failed("three"));
    assert_eq!(rig.stage(1), "draining");
    rig.drained(1);
    assert_eq!(rig.pending(1).outcome.result, "three");
}

#[test]
fn a_retry_keeps_its_slot() {
    let mut rig = with_retries(1);
    rig.run(dispatch(2));
    rig.end(1, ProcessResult::failed("one"));
    assert_eq!((rig.stage(1), rig.stage(2)), ("running", "queued"));
}

#[test]
fn a_result_that_cannot_get_better_is_not_retried() {
    let mut rig = with_retries(2);
    rig.end(1, ProcessResult::rejected("bad parameters"));
    assert_eq!(rig.stage(1), "draining");
}

#[test]
fn an_end_of_an_earlier_attempt_changes_nothing() {
    let mut rig = with_retries(1);
    rig.end(1, ProcessResult::failed("one"));
    let late = Event::ProcessorEnded {
        instance_id: 1,
        attempt: 1,
        result: ProcessResult::success(""),
        appended_context: Default::default(),
        tasks: None,
    };
    rig.send(late);
    assert_eq!(rig.stage(1), "running");
}

#[test]
fn the_time_limit_starts_with_the_processor_and_not_in_the_queue() {
    let mut rig = Rig::online(1, 1);
    rig.run(dispatch(9));
    rig.run(limited(5_000));
    rig.pass(60_000);
    rig.end(9, ProcessResult::success(""));
    let started = rig.take();
    assert!(
        started.iter().any(|a| matches!(a, Action::StartProcessor { instance_id: 1, time_left_ms: Some(5_000), .. }))
    );
    rig.pass(4_999);
    assert!(!words(&rig.take()).contains(&"time out 1".to_owned()));
    rig.pass(1);
    assert!(words(&rig.take()).contains(&"time out 1".to_owned()));
}

#[test]
fn a_run_whose_time_is_over_fails_whatever_its_processor_returns_and_is_not_retried() {
    for result in [ProcessResult::success("all fine"), ProcessResult::failed("interrupted")] {
        let mut rig = Rig::online(1, 0);
        rig.run(limited(5_000));
        rig.pass(5_000);
        rig.take();
        rig.end(1, result.clone());
        assert_eq!(rig.stage(1), "draining");
        rig.drained(1);
        let outcome = rig.pending(1).outcome;
        assert_eq!((outcome.success, outcome.result), (false, format!("instance execute timeout: {}", result.message)));
    }
}

#[test]
fn the_time_limit_covers_all_retries_together() {
    let mut rig = Rig::online(1, 0);
    rig.run(limited(5_000));
    rig.pass(3_000);
    rig.take();
    rig.end(1, ProcessResult::failed("x"));
    assert!(
        rig.take().iter().any(|a| matches!(a, Action::StartProcessor { attempt: 2, time_left_ms: Some(2_000), .. }))
    );
    rig.pass(2_000);
    assert!(words(&rig.take()).contains(&"time out 1".to_owned()));
}

#[test]
fn a_wall_clock_step_does_not_touch_the_time_limit() {
    let mut rig = Rig::online(1, 0);
    rig.run(limited(5_000));
    rig.wall += 86_400_000;
    rig.pass(4_999);
    assert!(!words(&rig.take()).contains(&"time out 1".to_owned()));
    rig.wall -= 2 * 86_400_000;
    rig.pass(1);
    assert!(words(&rig.take()).contains(&"time out 1".to_owned()));
}

#[test]
fn time_used_before_a_restart_counts_and_is_never_negative() {
    for (dead, left) in [(10_000, 10_000), (-3_600_000, 20_000)] {
        let mut rig = Rig::online(1, 0);
        rig.run(limited(40_000));
        rig.first_line(1);
        rig.running_taken(1);
        rig.pass(1_000); // RUNNING again
        rig.pass(20_000 - 1_000);
        rig.restart(dead);
        let left_now = rig.take().iter().find_map(|action| match action {
            Action::StartProcessor { resumed: true, time_left_ms, .. } => *time_left_ms,
            _ => None,
        });
        let left_now = left_now.expect("resumed with its limit");
        // The record is written with every report, so up to 10 s of a step back may be lost.
        assert!((left..left + 10_000).contains(&left_now), "{left_now} ms left, {left} expected");
    }
}

#[test]
fn a_clock_step_while_the_worker_ran_does_not_count_as_time_used_after_a_restart() {
    let mut rig = Rig::online(1, 0);
    rig.run(limited(100_000));
    rig.first_line(1);
    rig.running_taken(1);
    rig.wall += 3_600_000;
    rig.pass(20_000);
    rig.restart(1_000);
    let resumed = rig.take();
    assert!(
        resumed.iter().any(|a| matches!(a, Action::StartProcessor { time_left_ms: Some(left), .. } if *left > 70_000)),
        "{resumed:?}"
    );
}

#[test]
fn a_long_result_is_cut_at_the_limit() {
    let mut config = config(1, 0);
    config.result_limit = 10;
    let mut rig = Rig::with(config, Store::default());
    rig.find();
    rig.run(dispatch(1));
    rig.end(1, ProcessResult::success("0123456789abc"));
    rig.drained(1);
    assert_eq!(rig.pending(1).outcome.result, "0123456789...");
}

#[test]
fn a_context_within_the_limit_goes_with_the_final_report_of_a_workflow_node() {
    let mut rig = Rig::online(1, 0);
    rig.run(Dispatch { wf_instance_id: Some(3), ..dispatch(1) });
    rig.end_with(1, ProcessResult::success(""), &[("rows", "42")]);
    rig.drained(1);
    assert_eq!(rig.pending(1).outcome.appended_context["rows"], "42");
}

#[test]
fn a_context_that_is_too_long_is_passed_on_not_at_all_and_fails_the_run_with_the_key_and_its_size() {
    let mut rig = Rig::online(1, 0);
    rig.run(Dispatch { wf_instance_id: Some(3), ..dispatch(1) });
    rig.take();
    let big = "x".repeat(9_000);
    rig.end_with(1, ProcessResult::success("done"), &[("rows", "42"), ("report", &big)]);
    let log = lines(&rig.take());
    assert!(
        log.iter().any(|(level, t)| *level == 4
            && t.contains("key `report` alone takes 9011")
            && t.contains("8192 are allowed")),
        "{log:?}"
    );
    rig.drained(1);
    let outcome = rig.pending(1).outcome;
    assert!(!outcome.success && outcome.appended_context.is_empty());
    let wanted = ["key `report` alone takes 9011", "8192 are allowed", "Append less", "The run itself succeeded: done"];
    for text in wanted {
        assert!(outcome.result.contains(text), "{text} in {}", outcome.result);
    }
}

#[test]
fn outside_of_a_workflow_an_appended_context_goes_nowhere() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.end_with(1, ProcessResult::success(""), &[("rows", "42")]);
    rig.drained(1);
    assert!(rig.pending(1).outcome.appended_context.is_empty());
}

#[test]
fn the_last_log_line_names_status_and_duration_and_comes_before_the_drain() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.pass(1_500);
    rig.take();
    rig.end(1, ProcessResult::failed("no such file"));
    let actions = rig.take();
    assert_eq!(lines(&actions), [(4, "FAILED after 1.500 s: no such file".to_owned())]);
    assert!(matches!(actions[1], Action::DrainLog { instance_id: 1, attempt: 1, limit_ms: None }));
}
