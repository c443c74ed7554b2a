use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

#[test]
fn a_run_that_a_restart_cut_is_taken_up_at_once_and_reported_when_the_server_was_asked() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.restart(10_000);
    assert_eq!(words(&rig.take()), ["log 1 held", "resume 1#1", "discover"]);
    rig.find();
    let words_found = words(&rig.take());
    assert!(
        words_found.contains(&"ask 1".to_owned()) && !words_found.contains(&"running 1".to_owned()),
        "{words_found:?}"
    );
    rig.info(1, 3, ADDRESS);
    assert_eq!(words(&rig.take()), ["log 1 open", "running 1"]);
}

#[test]
fn a_stop_that_came_while_the_worker_was_dead_ends_the_run_in_silence() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.restart(10_000);
    rig.find();
    rig.info(1, 10, ADDRESS);
    assert!(words(&rig.take()).contains(&"stop 1".to_owned()));
    rig.end(1, ProcessResult::failed("stopped"));
    assert_eq!(rig.stage(1), "closed");
    assert_eq!(reports(&rig.take()), 0);
}

#[test]
fn a_stopping_instance_is_taken_up_only_to_be_emptied() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.restart(10_000);
    assert_eq!(words(&rig.take()), ["log 1 open", "resume 1#1", "stop 1", "discover",]);
    rig.find();
    rig.end(1, ProcessResult::failed("stopped"));
    let actions = rig.take();
    assert!(words(&actions).contains(&"drain 1 for 35000".to_owned()), "{:?}", words(&actions));
    assert_eq!(reports(&actions), 0);
}

#[test]
fn a_stop_of_long_ago_sends_no_log_line_after_a_restart() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.restart(300_000);
    assert_eq!(words(&rig.take())[0], "log 1 held");
    rig.end(1, ProcessResult::failed("stopped"));
    assert!(words(&rig.take()).contains(&"close 1 STOPPED".to_owned()));
}

#[test]
fn a_stopped_instance_whose_boundary_was_empty_is_not_started_again_by_a_restart() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.end(1, ProcessResult::failed("stopped"));
    rig.restart(1_000);
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("resume") || w.starts_with("start")));
    rig.drained(1);
    assert_eq!(rig.stage(1), "closed");
}

#[test]
fn a_remembered_dispatch_survives_a_restart_and_is_asked_for_before_it_is_reported() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.run(dispatch(1));
    rig.restart(1_000);
    rig.find();
    rig.take();
    rig.end(1, ProcessResult::failed("stopped"));
    let sent = words(&rig.take());
    assert!(sent.contains(&"start 1#2".to_owned()) && sent.contains(&"ask 1".to_owned()), "{sent:?}");
    rig.first_line(1);
    assert_eq!(reports(&rig.take()), 0);
    rig.info(1, 3, ADDRESS);
    assert_eq!(reports(&rig.take()), 1);
}

#[test]
fn a_queued_instance_waits_for_the_servers_word_but_not_long() {
    let mut rig = Rig::online(1, 1);
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    let mut store = rig.store.clone();
    store.records.remove(&1);
    let mut rig = Rig::with(config(1, 1), store);
    assert_eq!(rig.stage(2), "queued");
    rig.pass_unanswered(5_000);
    assert_eq!(rig.stage(2), "running");
}

#[test]
fn the_backlog_keeps_its_order_through_a_restart() {
    let mut rig = Rig::online(1, 3);
    for id in [9, 5, 7] {
        rig.run(dispatch(id));
    }
    rig.restart(1_000);
    rig.run(dispatch(1));
    let order = rig.core.instances(rig.now()).iter().map(|v| (v.instance_id, v.queue_position)).collect::<Vec<_>>();
    assert_eq!(order, [(9, None), (5, Some(1)), (7, Some(2)), (1, Some(3))]);
}

#[test]
fn a_draining_instance_goes_on_draining_and_a_final_report_goes_out_with_its_old_time() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::success("ok"));
    rig.restart(1_000);
    assert_eq!(words(&rig.take()), ["log 1 held", "drain 1", "discover"]);
    rig.drained(1);
    let first = rig.pending(1);
    rig.restart(1_000);
    rig.find();
    rig.take();
    rig.info(1, 3, ADDRESS);
    assert_eq!(rig.take(), [Action::ReportFinal { instance_id: 1, report: first }]);
}

#[test]
fn an_early_final_report_is_confirmed_even_when_the_worker_was_restarted_in_between() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.end(1, ProcessResult::success("ok"));
    rig.drained(1);
    rig.restart(300);
    rig.find();
    rig.info(1, 2, "");
    rig.take();
    rig.answer_final(1, true);
    assert_eq!(rig.stage(1), "reporting");
    rig.pass(1_000);
    assert_eq!(reports(&rig.take()), 1);
}

#[test]
fn a_restarted_worker_whose_server_was_restarted_too_sends_the_logs_again() {
    for (born, rewound) in [(1, false), (2, true)] {
        let mut rig = Rig::online(1, 0);
        rig.well_under_way(1);
        rig.restart(1_000);
        rig.send(Event::Discovered(Ok(owner("10.0.0.1:10010", born))));
        assert_eq!(words(&rig.take()).contains(&"rewind 1".to_owned()), rewound);
    }
}

#[test]
fn a_row_that_looks_undispatched_just_after_the_dispatch_is_asked_for_again() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.restart(200);
    rig.find();
    rig.take();
    rig.info(1, 1, "");
    rig.pass(1_000);
    assert!(words(&rig.take()).contains(&"ask 1".to_owned()));
    rig.info(1, 2, ADDRESS);
    assert_eq!(rig.stage(1), "running");
}

#[test]
fn an_instance_that_was_never_reported_waits_for_its_first_line_after_a_restart_too() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.restart(200);
    rig.find();
    rig.info(1, 2, ADDRESS);
    assert_eq!(reports(&rig.take()), 0);
    rig.first_line(1);
    assert_eq!(reports(&rig.take()), 1);
}

#[test]
fn a_run_whose_time_ended_while_the_worker_was_dead_has_three_seconds_to_say_that_it_ended_in_time() {
    let mut rig = Rig::online(1, 0);
    rig.run(Dispatch { timeout_ms: Some(30_000), ..dispatch(1) });
    rig.restart(40_000);
    let before = rig.store.clone();
    rig.pass_unanswered(2_999);
    assert!(!words(&rig.take()).contains(&"time out 1".to_owned()));
    rig.pass_unanswered(1);
    assert!(words(&rig.take()).contains(&"time out 1".to_owned()));

    let mut rig = Rig::with(config(1, 0), before);
    rig.end(1, ProcessResult::success("ended in time"));
    assert!(matches!(&rig.store.records[&1].stage, Stage::Draining(outcome) if outcome.success));
}

#[test]
fn nothing_happens_twice_on_a_tick_that_came_for_nothing() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    for _ in 0..10 {
        rig.send(Event::Tick);
    }
    assert!(rig.take().is_empty());
}
