//! What becomes of one task: reports, retries, acknowledgements, ends.

use super::rig::{B, C, ID, OWN, Rig, at, dispatch};
use crate::{
    RestartPolicy,
    processor::StopReason,
    tasks::{
        api::{PeerError, ROOT_TASK},
        tracker::{Recovery, Spec, TrackerOptions},
    },
};

/// A MAP_REDUCE whose root has mapped `0.0`, `0.1`, `0.2` and ended; one task is at each worker.
fn mapped(more: &str) -> Rig {
    let mut rig = Rig::new("MAP_REDUCE", "API", more);
    assert_eq!(rig.ids(), at(&[("0", OWN)]));
    assert_eq!(rig.map(&["0.0", "0.1", "0.2"]), Ok(()));
    rig.ok("0");
    rig
}

#[test]
fn the_root_carries_all_that_a_worker_needs_and_nothing_that_an_old_one_refuses() {
    let mut rig = Rig::new("MAP", "CRON", r#","jobParams":"{}","taskRetryNum":2,"logConfig":"{\"type\":1}""#);
    let (address, task, _) = rig.sent().remove(0);
    assert_eq!((address.as_str(), task.task_tracker_address.as_str()), (OWN, OWN));
    assert_eq!((task.task_id.as_str(), task.task_name.as_str(), task.sub_instance_id), ("0", ROOT_TASK, ID));
    assert_eq!((task.task_content, task.advanced_runtime_config), (None, None));
    let info = &task.instance;
    assert_eq!((info.time_expression_type, info.instance_timeout_ms, info.task_retry_num), (2, 2_147_483_647, 2));
    assert_eq!((info.thread_concurrency, task.log_config.as_deref()), (2, Some(r#"{"type":1}"#)));
}

#[test]
fn a_map_reduce_goes_through_root_sub_tasks_and_reduce() {
    let mut rig = mapped("");
    assert_eq!(rig.ids(), at(&[("0.0", OWN), ("0.1", B), ("0.2", C)]), "one for each worker, in turn");
    for id in ["0.0", "0.1"] {
        rig.ok(id);
    }
    assert!(rig.sent().is_empty(), "reduce waits for the last sub-task");
    rig.fails("0.2");
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
    let results = rig.results();
    let listed: Vec<_> = results.iter().map(|r| (r.task_id.as_str(), r.success, r.result.as_str())).collect();
    let expected = [
        ("0", true, "0 is done"),
        ("0.0", true, "0.0 is done"),
        ("0.1", true, "0.1 is done"),
        ("0.2", false, "broken"),
    ];
    assert_eq!(listed, expected);
    rig.ok("9999");
    let end = rig.end().expect("it has ended");
    assert_eq!((end.success, end.result.as_str(), end.counts), (true, "9999 is done", (5, 4, 1)));
    assert_eq!(rig.tracker.wake_at(), None);
}

#[test]
fn a_map_ends_with_its_numbers_and_fails_if_one_task_failed() {
    for (status, success, text) in [(6, true, "total:3,succeed:3,failed:0"), (5, false, "total:3,succeed:2,failed:1")] {
        let mut rig = Rig::new("MAP", "API", "");
        assert_eq!(rig.map(&["0.0", "0.1"]), Ok(()));
        rig.ok("0");
        rig.ok("0.0");
        assert_eq!(rig.report("0.1", status, "x"), Ok(()));
        let end = rig.end().expect("it has ended");
        assert_eq!((end.success, end.result.as_str()), (success, text));
    }
}

#[test]
fn a_failed_task_is_tried_again_as_often_as_the_job_says() {
    let mut rig = mapped(r#","taskRetryNum":2"#);
    rig.sent();
    for failures in 1..=2 {
        rig.fails("0.0");
        let (_, task, _) = rig.sent().remove(0);
        assert_eq!((task.task_id.as_str(), task.task_current_retry_nums), ("0.0", failures));
        assert_eq!(task.task_content.as_deref(), Some(b"0.0".as_slice()));
        assert_eq!(rig.numbers(), (4, 1, 0));
    }
    rig.fails("0.0");
    assert!(rig.sent().is_empty());
    assert_eq!(rig.numbers(), (4, 1, 1));
    assert!(rig.log.contains("tried again (1 of 2): broken"), "{}", rig.log);
}

/// Task `0.0` has failed at one worker, by a report of the time 7000, and another one has its next try.
fn failed_and_elsewhere(more: &str) -> Rig {
    let mut rig = mapped(more);
    let sent = rig.sent();
    let first = sent.iter().find(|(_, task, _)| task.task_id == "0.0").expect("it was sent").0.clone();
    rig.load(&first, 2, 1_000);
    assert_eq!(rig.report_at("0.0", 5, "broken", 7_000), Ok(()));
    let (second, task, _) = rig.sent().remove(0);
    assert_ne!(second, first);
    assert_eq!((task.task_id.as_str(), task.task_current_retry_nums), ("0.0", 1));
    rig
}

/// A worker that was killed before it heard the answer says it again when it is back, while another one has the next try.
#[test]
fn a_failure_that_is_told_once_more_is_not_one_of_the_next_try() {
    let mut rig = failed_and_elsewhere(r#","taskRetryNum":2"#);
    // Before the next try is heard of, and after that.
    assert!(rig.report_at("0.0", 5, "broken", 7_000).is_err());
    assert_eq!(rig.report_at("0.0", 3, "", 8_000), Ok(()));
    assert!(rig.report_at("0.0", 5, "broken", 7_000).is_err());
    assert!(rig.sent().is_empty(), "the try goes on");
    // Its own failure counts.
    assert_eq!(rig.report_at("0.0", 5, "broken", 8_001), Ok(()));
    assert_eq!(rig.sent().remove(0).1.task_current_retry_nums, 2);
    // One that was heard of before with a smaller time means its own.
    assert_eq!(rig.report_at("0.0", 3, "", 7_500), Ok(()));
    assert_eq!(rig.report_at("0.0", 5, "broken", 8_001), Ok(()));
    assert_eq!(rig.numbers(), (4, 1, 1));
}

/// Its clock went back, and it fails in the same words: it stays with it, and the task does not wait for ever.
#[test]
fn a_failure_that_only_looks_like_the_one_before_counts_after_a_minute() {
    let mut rig = failed_and_elsewhere(r#","taskRetryNum":1"#);
    assert_eq!(rig.report_at("0.0", 3, "", 8_000), Ok(()));
    assert!(rig.report_at("0.0", 5, "broken", 7_000).is_err());
    for _ in 0..5 {
        rig.pass(10_000);
        assert_eq!(rig.report_at("0.0", 4, "", 8_000), Ok(()));
    }
    rig.pass(10_000);
    assert_eq!(rig.report_at("0.0", 5, "broken", 7_000), Ok(()));
    assert_eq!(rig.numbers(), (4, 1, 1));
}

#[test]
fn root_and_last_are_tried_again_where_they_were() {
    let mut rig = Rig::new("MAP_REDUCE", "API", r#","taskRetryNum":1"#);
    rig.sent();
    rig.fails("0");
    assert_eq!(rig.ids(), at(&[("0", OWN)]));
    rig.ok("0");
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
    rig.fails("9999");
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
}

#[test]
fn trap_25_a_final_report_counts_however_old_it_is() {
    let mut rig = mapped("");
    assert_eq!(rig.report_at("0.0", 3, "", 1_000), Ok(()));
    assert_eq!(rig.report_at("0.0", 4, "", 2_000), Ok(()));
    assert_eq!(rig.report_at("0.0", 6, "early", 500), Ok(()));
    assert_eq!(rig.numbers(), (4, 2, 0));
}

#[test]
fn a_task_ends_once_whatever_is_said_of_it_afterwards() {
    let mut rig = mapped("");
    rig.ok("0.0");
    rig.ok("0.0");
    rig.fails("0.0");
    assert_eq!(rig.report("0.0", 4, ""), Ok(()));
    rig.fails("0.1");
    rig.ok("0.1");
    assert_eq!(rig.numbers(), (4, 2, 1));
    assert_eq!(rig.report("0.77", 6, ""), Ok(()), "one that nobody knows");
    assert!(matches!(rig.report("0.2", 2, ""), Err(PeerError::Refused(why)) if why.contains("3 to 6 are accepted")));
}

#[test]
fn what_nobody_acknowledges_is_sent_again_after_15_s_and_fails_in_the_end() {
    let mut rig = mapped("");
    rig.sent();
    assert_eq!(rig.report("0.0", 3, ""), Ok(()));
    rig.load(B, 2, 0);
    rig.pass(14_000);
    assert!(rig.sent().is_empty());
    rig.pass(3_000);
    let ids: Vec<String> = rig.ids().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["0.1", "0.2"]);
    for _ in 0..12 {
        for address in [OWN, B, C] {
            rig.load(address, 2, 0);
        }
        rig.pass(16_000);
    }
    assert_eq!(rig.numbers(), (4, 1, 2), "{}", rig.log);
    assert!(rig.results().iter().any(|r| r.result.contains("sent 10 times and no worker acknowledged it")));
}

#[test]
fn a_late_success_of_a_task_that_waits_again_counts_and_a_late_failure_does_not() {
    let mut rig = mapped(r#","taskRetryNum":5"#);
    let all = rig.sent();
    for (address, _, ticket) in &all {
        if address != OWN {
            rig.refused(ticket.clone());
        }
    }
    // Two wait until their workers can be tried again, or are at the own worker by now.
    rig.fails("0.7");
    rig.ok("0.0");
    assert_eq!(rig.numbers(), (4, 2, 0));
}

#[test]
fn a_stop_forgets_everything_and_a_time_limit_ends_it_as_failed() {
    let mut rig = mapped("");
    rig.stop(StopReason::Stopped);
    assert!(rig.end().is_some_and(|end| end.stopped) && !rig.is_stored());
    assert_eq!(rig.report("0.0", 6, "late"), Ok(()), "who reports late must not repeat it");
    assert_eq!(rig.map(&["0.9"]), Ok(()));
    assert!(!rig.is_stored());
    let mut rig = mapped("");
    rig.stop(StopReason::TimedOut);
    let end = rig.end().expect("it has ended");
    assert_eq!((end.success, end.stopped, end.result.as_str()), (false, false, "instance execute timeout"));
    assert!(rig.is_stored(), "until the worker has written the end down");
}

#[test]
fn a_restart_fails_what_was_at_work_here_or_runs_it_again_as_the_processor_wants() {
    let mut rig = mapped("");
    rig.sent();
    rig.restart(RestartPolicy::Fail);
    assert_eq!(rig.numbers(), (4, 1, 1));
    assert!(rig.results().iter().any(|r| r.task_id == "0.0" && r.result.contains("the worker was restarted")));
    let mut rig = mapped("");
    rig.sent();
    rig.restart(RestartPolicy::Rerun);
    assert_eq!(rig.ids().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["0.0"], "the others go on elsewhere");
    for id in ["0.0", "0.1", "0.2"] {
        rig.ok(id);
    }
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
}

#[test]
fn a_transaction_that_failed_leaves_the_own_worker_at_work() {
    let mut rig = mapped("");
    rig.sent();
    rig.enter(Recovery::Rolledback);
    rig.pass(14_000);
    assert!(rig.sent().is_empty());
    for id in ["0.0", "0.1", "0.2"] {
        rig.ok(id);
    }
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
}

#[test]
fn jobs_that_cannot_be_executed_are_named() {
    let text = |kind: &str, time: &str, more: &str| {
        Spec::new(OWN, &dispatch(kind, time, more), TrackerOptions::default()).expect_err("not executable")
    };
    assert!(text("SHARDED", "API", "").contains("execute type `SHARDED` is not known"));
    assert!(text("MAP", "FIXED_RATE", r#","timeExpression":"49""#).contains("is 49 ms; 50 ms or more"));
    for interval in ["", "0", "-5", "1s", "0 * * * * ?", "18446744073709551615"] {
        let more = format!(r#","timeExpression":"{interval}""#);
        assert!(text("STANDALONE", "FIXED_DELAY", &more).contains("a number of milliseconds is needed"), "{interval}");
    }
    assert!(
        Spec::new(OWN, &dispatch("MAP", "FIXED_RATE", r#","timeExpression":" 50 ""#), TrackerOptions::default())
            .is_ok()
    );
}

#[test]
fn a_retry_of_the_instance_never_takes_the_end_of_the_execution_before() {
    let mut rig = mapped("");
    for id in ["0.0", "0.1", "0.2"] {
        rig.ok(id);
    }
    rig.ok("9999");
    assert!(rig.end().is_some());
    assert!(rig.known_to_attempt(1), "the outcome is kept for the execution that it is of");
    assert!(!rig.known_to_attempt(2));
}
