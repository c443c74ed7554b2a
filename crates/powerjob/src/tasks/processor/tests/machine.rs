//! What a tracker sees of this worker.

use std::collections::BTreeMap;

use super::rig::{OTHER, OWN, Rig, ok, statuses, task, with};
use crate::{ProcessResult, tasks::processor::Options};

#[test]
fn trap_20_a_task_is_acknowledged_at_once_and_the_first_load_is_told_before_it() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.1"));
    assert_eq!((rig.loads.len(), rig.loads[0].kind, rig.loads[0].address.as_str()), (1, 2, OWN));
    assert_eq!(statuses(&[rig.reports[0].report.clone()]), [("0.1", 4)], "it began in the same moment");
    assert_eq!(rig.runs(), ["0.1"]);
}

#[test]
fn the_reports_of_a_task_follow_each_other_with_increasing_times_even_in_one_millisecond() {
    let mut rig = Rig::new();
    for id in ["0.0", "0.1", "0.2"] {
        rig.start(task(OTHER, 7, id));
    }
    // The third waits for one of the two slots.
    assert_eq!(rig.runs(), ["0.0", "0.1"]);
    rig.end("0.0", ok());
    rig.end("0.1", ok());
    rig.end("0.2", ok());
    assert_eq!(rig.reports.len(), 3, "one of each task is under way");
    let said = rig.answer_all();
    let of = |id: &str| said.iter().filter(|report| report.task_id == id).collect::<Vec<_>>();
    assert_eq!(of("0.2").iter().map(|report| report.status).collect::<Vec<_>>(), [3, 6]);
    for id in ["0.0", "0.1", "0.2"] {
        let times: Vec<i64> = of(id).iter().map(|report| report.report_time).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    }
    assert!(rig.store.is_empty() && rig.machine.open_tasks() == 0);
}

#[test]
fn a_wall_clock_that_steps_back_does_not_make_reports_older() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    let first = rig.answer(true);
    rig.clock_back(3_600_000);
    rig.end("0.0", ok());
    assert!(rig.answer(true).report_time > first.report_time);
    rig.pass(10_000);
    assert!(rig.loads.windows(2).all(|pair| pair[0].time < pair[1].time), "{:?}", rig.loads);
}

#[test]
fn an_outcome_is_repeated_until_it_is_accepted_and_no_load_is_told_meanwhile() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    rig.answer(true);
    rig.end("0.0", ok());
    let first = rig.answer(false);
    let loads = rig.loads.len();
    for _ in 0..5 {
        assert!(rig.reports.is_empty(), "it waits before it tries again");
        rig.pass(10_000);
        let again = rig.answer(false);
        assert_eq!((again.status, again.report_time), (6, first.report_time));
    }
    assert_eq!(rig.loads.len(), loads, "the tracker shall count this worker as lost");
    rig.pass(10_000);
    rig.answer(true);
    rig.pass(10_000);
    assert!(rig.loads.len() > loads && rig.store.is_empty());
}

#[test]
fn while_the_tracker_does_not_answer_one_report_at_a_time_probes_it() {
    let mut rig = Rig::new();
    for n in 0..6 {
        rig.start(with(task(OTHER, 7, &format!("0.{n}")), |info| info.thread_concurrency = 6));
    }
    assert_eq!(rig.reports.len(), 6);
    for _ in 0..6 {
        rig.answer(false);
    }
    rig.pass(10_000);
    assert_eq!(rig.reports.len(), 1);
    rig.answer(true);
    assert_eq!(rig.reports.len(), 5, "it answers again: the rest follows at once");
}

#[test]
fn an_outcome_that_nobody_wants_for_a_day_is_given_up() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    rig.answer(true);
    rig.end("0.0", ok());
    let mut tries = 0;
    for _ in 0..25 * 60 {
        rig.pass(60_000);
        while !rig.reports.is_empty() {
            rig.answer(false);
            tries += 1;
        }
    }
    assert!((1_000..2_000).contains(&tries), "{tries}");
    assert!(rig.store.is_empty() && rig.machine.open_tasks() == 0);
}

#[test]
fn what_finds_the_queue_full_is_not_acknowledged() {
    let mut rig = Rig::with_options(Options { queue: 3, ..Options::default() });
    for n in 0..7 {
        rig.start(task(OTHER, 7, &format!("0.{n}")));
    }
    let said = rig.answer_all();
    let mut ids: Vec<&str> = said.iter().map(|report| report.task_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, ["0.0", "0.1", "0.2", "0.3", "0.4"], "two at work, three waiting");
    assert!(!rig.machine.has_room(7, OTHER) && rig.machine.has_room(7, OWN) && rig.machine.has_room(8, OTHER));
}

#[test]
fn a_queue_that_fills_up_and_one_that_has_emptied_are_told_at_once() {
    let mut rig = Rig::new();
    for n in 0..40 {
        rig.start(task(OTHER, 7, &format!("0.{n}")));
    }
    let told: Vec<i64> = rig.loads.iter().map(|load| load.remain_task_num).collect();
    assert_eq!(told, [0, 20], "the first, and when the tracker is to send no more");
    rig.pass(10_000);
    assert_eq!(rig.loads.last().expect("a load").remain_task_num, 38);
    let loads = rig.loads.len();
    for n in 0..30 {
        rig.end(&format!("0.{n}"), ok());
    }
    assert_eq!(rig.loads.len(), loads + 1);
    assert!(rig.loads.last().expect("a load").remain_task_num < 20);
}

#[test]
fn a_task_that_comes_a_second_time_after_its_outcome_was_taken_is_not_done_again() {
    let mut rig = Rig::new();
    for success in [true, false] {
        let id = if success { "0.1" } else { "0.2" };
        rig.start(task(OTHER, 7, id));
        rig.end(id, if success { ProcessResult::success("done") } else { ProcessResult::failed("broken") });
        rig.answer_all();
        rig.start(task(OTHER, 7, id));
        assert!(rig.runs().is_empty() && rig.reports.is_empty(), "{id} was on its way twice");
    }
    // A try more is a new one, and so is one that comes much later: then its tracker wants it.
    let mut again = task(OTHER, 7, "0.2");
    again.task_current_retry_nums = 1;
    rig.start(again);
    assert_eq!(rig.runs(), ["0.2"]);
    rig.pass(60_000);
    rig.start(task(OTHER, 7, "0.1"));
    assert_eq!(rig.runs().len(), 2);
}

#[test]
fn a_task_that_is_at_work_is_not_started_again_but_acknowledged_again() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    rig.answer(true);
    rig.start(task(OTHER, 7, "0.0"));
    assert_eq!(rig.runs(), ["0.0"]);
    assert_eq!(statuses(&rig.answer_all()), [("0.0", 4)]);
}

#[test]
fn the_next_try_takes_the_place_of_a_failure_whose_answer_was_lost_and_a_success_stays() {
    let mut rig = Rig::new();
    for id in ["0.0", "0.1"] {
        rig.start(task(OTHER, 7, id));
    }
    rig.answer_all();
    rig.end("0.0", ProcessResult::failed("no"));
    rig.end("0.1", ok());
    let failed = rig.answer(false);
    rig.answer(false);
    for id in ["0.0", "0.1"] {
        let mut again = task(OTHER, 7, id);
        again.task_current_retry_nums = 1;
        rig.start(again);
    }
    assert_eq!(rig.runs(), ["0.0"], "only the failed one runs again");
    rig.pass(10_000);
    let mut said = rig.answer_all();
    said.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    assert_eq!(statuses(&said), [("0.0", 4), ("0.1", 6)]);
    assert!(said[0].report_time > failed.report_time);
}

#[test]
fn the_outcome_of_a_broadcasts_root_carries_the_command_and_no_other() {
    let mut rig = Rig::new();
    let broadcast = |id: &str, name: &str| {
        let mut task = with(task(OTHER, 7, id), |info| info.execute_type = "BROADCAST".to_owned());
        task.task_name = name.to_owned();
        task
    };
    rig.start(broadcast("0", "OMS_ROOT_TASK"));
    rig.start(broadcast("0.0", "OMS_BROADCAST_TASK"));
    rig.end("0", ok());
    rig.end("0.0", ok());
    let said = rig.answer_all();
    let ends: Vec<_> = said.iter().filter(|r| r.status == 6).map(|r| (r.task_id.as_str(), r.cmd)).collect();
    assert_eq!(ends, [("0", Some(1)), ("0.0", None)]);
    assert!(said.iter().filter(|report| report.status < 5).all(|report| report.cmd.is_none()));
}

#[test]
fn a_map_job_has_as_many_slots_as_it_says_others_two_and_scripts_one() {
    let count = |change: fn(&mut crate::tasks::api::InstanceInfo)| {
        let mut rig = Rig::new();
        for n in 0..9 {
            rig.start(with(task(OTHER, 7, &format!("0.{n}")), change));
        }
        rig.runs().len()
    };
    assert_eq!(count(|info| info.thread_concurrency = 5), 5);
    assert_eq!(count(|info| info.thread_concurrency = 0), 1);
    assert_eq!(count(|info| (info.execute_type = "BROADCAST".to_owned(), info.thread_concurrency = 5).0), 2);
    assert_eq!(
        count(|info| {
            info.execute_type = "STANDALONE".to_owned();
            info.time_expression_type = 3;
            info.thread_concurrency = 4;
        }),
        4
    );
    assert_eq!(
        count(|info| (info.execute_type = "BROADCAST".to_owned(), info.processor_type = "SHELL".to_owned()).0),
        1
    );
}

#[test]
fn the_own_tracker_hears_that_another_try_would_not_help() {
    let mut rig = Rig::new();
    for id in ["0.0", "0.1"] {
        rig.start(task(OWN, 7, id));
    }
    rig.answer_all();
    rig.end("0.0", ProcessResult::rejected("no such dataset"));
    rig.end("0.1", ProcessResult::failed("a bad day"));
    let said = rig.answer_all();
    let rejected: Vec<_> =
        said.iter().map(|report| (report.task_id.as_str(), report.status, report.rejected)).collect();
    assert_eq!(rejected, [("0.0", 5, true), ("0.1", 5, false)]);
}

#[test]
fn a_context_that_is_too_long_fails_the_task_and_result_and_log_name_key_and_size() {
    let mut rig = Rig::new();
    rig.start(with(task(OTHER, 7, "0.0"), |info| info.wf_instance_id = Some(3)));
    rig.start(with(task(OTHER, 7, "0.1"), |info| info.wf_instance_id = Some(3)));
    rig.end_with("0.0", ok(), BTreeMap::from([("rows".to_owned(), "x".repeat(9000))]));
    rig.end_with("0.1", ok(), BTreeMap::from([("rows".to_owned(), "42".to_owned())]));
    let said = rig.answer_all();
    let end = |id: &str| said.iter().find(|r| r.task_id == id && r.status > 4).expect("it has ended");
    assert_eq!((end("0.0").status, end("0.0").appended_wf_context.clone()), (5, Some(BTreeMap::new())));
    assert!(end("0.0").rejected, "the next try would append as much");
    let text = end("0.0").result.clone().unwrap_or_default();
    assert!(text.contains("key `rows` alone takes 9009") && text.contains("The task itself succeeded: ok"), "{text}");
    assert!(rig.lines[0].contains("`rows`") && rig.lines[0].contains("8192"), "{:?}", rig.lines);
    let short = BTreeMap::from([("rows".to_owned(), "42".to_owned())]);
    assert_eq!((end("0.1").status, end("0.1").appended_wf_context.clone()), (6, Some(short)));
}

#[test]
fn a_result_is_cut_at_its_limit() {
    let mut rig = Rig::with_options(Options { result_limit: 10, ..Options::default() });
    rig.start(task(OTHER, 7, "0.0"));
    rig.end("0.0", ProcessResult::failed("0123456789abc"));
    let said = rig.answer_all();
    assert_eq!(said.last().and_then(|end| end.result.as_deref()), Some("0123456789..."));
}
