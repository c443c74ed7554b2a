//! How work here ends that is not done: stops, time limits, cancels, workers that empty themselves.

use std::collections::BTreeMap;

use super::rig::{OTHER, OWN, Rig, ok, statuses, task, with};
use crate::{ProcessResult, StopReason, tasks::processor::Event};

#[test]
fn a_stop_ends_all_processors_is_silent_and_over_when_the_last_has_ended() {
    let mut rig = Rig::new();
    for n in 0..4 {
        rig.start(task(OTHER, 7, &format!("0.{n}")));
        rig.start(task(OWN, 7, &format!("0.{n}")));
    }
    rig.answer_all();
    rig.handle(Event::Stop(7));
    rig.handle(Event::StopForOthers(7));
    assert_eq!(rig.stop_asked.len(), 4);
    assert!(rig.stop_asked.iter().all(|(_, reason)| *reason == StopReason::Stopped));
    assert!(rig.store.is_empty() && rig.stopped.is_empty() && rig.released.is_empty());
    for execution in rig.running.keys().copied().collect::<Vec<_>>() {
        assert!(rig.stopped.is_empty());
        rig.running.remove(&execution);
        rig.handle(Event::Ended { execution, result: ok(), context: BTreeMap::new() });
    }
    assert_eq!((rig.stopped.as_slice(), rig.released.as_slice()), (&[7][..], &[7][..]));
    rig.pass(300_000);
    assert!(rig.reports.is_empty(), "{:?}", rig.reports);
}

/// The server gave the instance to this worker after another one had lost it, and that one now empties what it knows of.
#[test]
fn a_stop_of_another_workers_tracker_leaves_what_the_own_tracker_has_here() {
    let mut rig = Rig::new();
    rig.start(task(OWN, 7, "0.0"));
    rig.start(task(OTHER, 7, "0.1"));
    rig.answer_all();
    let own = rig.execution("0.0");
    rig.handle(Event::StopForOthers(7));
    assert_eq!(rig.stop_asked.len(), 1);
    assert_ne!(rig.stop_asked[0].0, own);
    rig.reports.clear();
    rig.end("0.0", ok());
    assert!(
        rig.reports.iter().any(|sent| sent.report.task_id == "0.0" && sent.report.status == 6),
        "{:?}",
        rig.reports
    );
}

/// The server gave the instance to another worker, which has this one do some of it, and the own tracker empties what it had.
#[test]
fn a_stop_by_the_own_tracker_leaves_what_is_done_for_another_workers() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    rig.start(task(OWN, 7, "0.1"));
    rig.answer_all();
    let own = rig.execution("0.1");
    rig.handle(Event::Stop(7));
    assert_eq!(rig.stop_asked, [(own, StopReason::Stopped)]);
    rig.running.remove(&own);
    rig.handle(Event::Ended { execution: own, result: ok(), context: BTreeMap::new() });
    assert_eq!((rig.stopped.as_slice(), rig.released.len(), rig.store.len()), (&[7][..], 0, 1));
    rig.end("0.0", ok());
    assert_eq!(statuses(&rig.answer_all()), [("0.0", 6)]);
}

#[test]
fn a_cancel_ends_what_is_done_for_other_workers_tells_them_why_and_takes_no_more() {
    let mut rig = Rig::new();
    for n in 0..3 {
        rig.start(task(OTHER, 7, &format!("0.{n}")));
    }
    rig.start(task(OWN, 8, "0"));
    rig.answer_all();
    let work = [rig.execution("0.0"), rig.execution("0.1")];
    rig.handle(Event::Cancel);
    rig.handle(Event::Cancel);
    let mut asked: Vec<u64> = rig.stop_asked.iter().map(|(execution, _)| *execution).collect();
    asked.sort_unstable();
    assert_eq!(asked, work, "each once, and the own tracker's not at all: that one stops them itself");
    assert!(rig.stop_asked.iter().all(|(_, reason)| *reason == StopReason::Cancelled));
    rig.start(task(OTHER, 7, "0.3"));
    rig.start(task(OTHER, 9, "0"));
    rig.end("0.0", ProcessResult::rejected("half of it is done"));
    rig.end("0.1", ok());
    let said = rig.answer_all();
    let mut ends = statuses(&said);
    ends.sort_unstable();
    assert_eq!(ends, [("0.0", 5), ("0.1", 6), ("0.2", 5)], "what comes now is not acknowledged, and goes elsewhere");
    let text = |id: &str| said.iter().find(|report| report.task_id == id).and_then(|report| report.result.clone());
    let (running, waiting) = (text("0.0").unwrap_or_default(), text("0.2").unwrap_or_default());
    assert!(running.contains("cancelled by the agent's shutdown") && running.contains("was running"), "{running}");
    assert!(running.contains("half of it is done") && running.contains(OWN), "{running}");
    assert!(waiting.contains("was waiting for a slot"), "{waiting}");
    assert!(said.iter().all(|report| !report.rejected), "another worker may well do it");
    assert!(rig.store.is_empty() && rig.machine.open_tasks() == 1, "the own tracker's");
    assert!(rig.loads.iter().any(|load| load.instance_id == 7 && load.remain_task_num >= 20), "{:?}", rig.loads);
}

#[test]
fn a_cancelled_task_that_its_tracker_does_not_hear_of_is_told_after_the_restart() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    rig.answer_all();
    rig.handle(Event::Cancel);
    rig.end("0.0", ProcessResult::failed("asked to"));
    rig.answer(false);
    assert_eq!(rig.machine.open_tasks(), 0, "the worker does not wait for it");
    rig.restart(crate::RestartPolicy::Rerun);
    let said = rig.answer_all();
    assert_eq!(statuses(&said), [("0.0", 5)]);
    assert!(said[0].result.as_deref().is_some_and(|text| text.contains("cancelled by the agent's shutdown")));
}

#[test]
fn a_stop_of_an_unknown_instance_and_a_second_one_are_over_at_once() {
    let mut rig = Rig::new();
    rig.handle(Event::Stop(9));
    rig.start(task(OWN, 7, "0"));
    rig.end("0", ok());
    rig.answer_all();
    rig.handle(Event::Stop(7));
    rig.handle(Event::Stop(7));
    assert_eq!(rig.stopped, [9, 7, 7]);
    assert!(rig.released.is_empty(), "the log of an own instance is not this role's to close");
}

#[test]
fn an_instance_that_comes_again_waits_until_what_was_stopped_has_ended() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    rig.handle(Event::StopForOthers(7));
    // What was on its way at the stop is not a new beginning.
    let said = rig.reports.len();
    rig.start(task(OTHER, 7, "0.0"));
    rig.pass(5_000);
    assert_eq!(rig.reports.len(), said);
    rig.start(task(OTHER, 7, "0.0"));
    assert_eq!(rig.runs().len(), 1);
    let old = rig.execution("0.0");
    rig.running.remove(&old);
    rig.handle(Event::Ended { execution: old, result: ok(), context: BTreeMap::new() });
    assert_eq!(rig.runs(), ["0.0"]);
    assert_ne!(rig.execution("0.0"), old);
    assert!(rig.released.is_empty());
}

#[test]
fn the_time_limit_stops_the_processors_and_nothing_is_reported() {
    let mut rig = Rig::new();
    for n in 0..3 {
        rig.start(with(task(OTHER, 7, &format!("0.{n}")), |info| info.instance_timeout_ms = 30_000));
    }
    rig.answer_all();
    rig.pass(29_000);
    assert!(rig.stop_asked.is_empty());
    rig.pass(1_000);
    assert_eq!(rig.stop_asked.iter().filter(|(_, reason)| *reason == StopReason::TimedOut).count(), 2);
    assert!(rig.lines.iter().any(|line| line.contains("30000 ms")), "{:?}", rig.lines);
    rig.end("0.0", ok());
    rig.end("0.1", ok());
    assert!(rig.reports.is_empty());
    assert_eq!(rig.released, [7]);
}

#[test]
fn each_firing_of_a_frequent_job_has_the_limit_for_itself_and_its_end_is_reported() {
    let mut rig = Rig::new();
    let firing = |id: &str| {
        with(task(OTHER, 7, id), |info| {
            info.time_expression_type = 3;
            info.thread_concurrency = 1;
            info.instance_timeout_ms = 5_000;
        })
    };
    rig.start(firing("1"));
    rig.start(firing("2"));
    rig.answer_all();
    rig.pass(5_000);
    assert_eq!(rig.stop_asked.len(), 1);
    rig.end("1", ok());
    rig.start(firing("3"));
    let said = rig.answer_all();
    let ends: Vec<_> = said.iter().filter(|report| report.status == 5).collect();
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().all(|end| end.result.as_deref().is_some_and(|text| text.contains("5000 ms"))), "{ends:?}");
    assert_eq!(rig.runs(), ["3"]);
}

#[test]
fn without_work_for_two_minutes_another_workers_tracker_is_left_and_the_own_one_is_not() {
    let mut rig = Rig::new();
    for tracker in [OTHER, OWN] {
        rig.start(task(tracker, if tracker == OWN { 8 } else { 7 }, "0"));
        rig.end("0", ok());
        rig.answer_all();
    }
    rig.pass(119_000);
    assert!(rig.loads.iter().all(|load| load.kind == 2) && rig.released.is_empty());
    rig.pass(2_000);
    let idle: Vec<i64> = rig.loads.iter().filter(|load| load.kind == 1).map(|load| load.instance_id).collect();
    assert_eq!((idle, rig.released.as_slice()), (vec![7], &[7][..]));
    let loads = rig.loads.len();
    rig.pass(10_000);
    assert_eq!(rig.loads.len(), loads + 1, "only the own one goes on");
}

#[test]
fn a_worker_that_empties_itself_tells_other_workers_trackers_that_it_has_no_room() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    rig.start(task(OWN, 8, "0"));
    rig.loads.clear();
    rig.handle(Event::Drain(true));
    rig.start(task(OTHER, 9, "0.0"));
    let told: Vec<(i64, bool)> =
        rig.loads.drain(..).map(|load| (load.instance_id, load.remain_task_num >= 20)).collect();
    assert_eq!(told, [(7, true), (9, true)]);
    assert_eq!(rig.runs().len(), 3, "what comes nevertheless is done");
    rig.handle(Event::Drain(false));
    assert!(rig.loads.iter().all(|load| load.remain_task_num == 0) && rig.loads.len() == 2, "{:?}", rig.loads);
}

#[test]
fn an_outcome_that_its_tracker_does_not_take_keeps_no_worker_from_ending() {
    let mut rig = Rig::new();
    rig.start(task(OTHER, 7, "0.0"));
    rig.answer(true);
    rig.end("0.0", ok());
    assert_eq!(rig.machine.open_tasks(), 1, "on its way");
    rig.answer(false);
    assert_eq!((rig.machine.open_tasks(), rig.store.len()), (0, 1));
}
