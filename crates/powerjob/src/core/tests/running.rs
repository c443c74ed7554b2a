use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

#[test]
fn the_first_running_report_waits_for_the_first_log_line_and_comes_again_after_one_second_then_every_ten() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.send(Event::HeartbeatDone { ok: true });
    assert_eq!(reports(&rig.take()), 0);
    rig.first_line(1);
    assert_eq!(words(&rig.take()), ["running 1"]);
    rig.running_taken(1);
    let mut at = Vec::new();
    for second in 1..=32 {
        rig.pass(1_000);
        if reports(&rig.take()) > 0 {
            at.push(second);
        }
    }
    assert_eq!(at, [1, 11, 21, 31]);
}

#[test]
fn without_a_first_line_the_first_running_report_goes_after_three_seconds() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.pass(2_999);
    assert_eq!(reports(&rig.take()), 0);
    rig.pass(1);
    assert_eq!(reports(&rig.take()), 1);
}

#[test]
fn a_run_that_ends_at_once_sends_its_final_report_and_no_running_before_it() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.end(1, ProcessResult::success(""));
    rig.first_line(1);
    rig.drained(1);
    let sent = words(&rig.take())
        .into_iter()
        .filter(|w| w.starts_with("running") || w.starts_with("final"))
        .collect::<Vec<_>>();
    assert_eq!(sent, ["final 1 SUCCEED"]);
}

#[test]
fn a_draining_instance_is_still_running_for_the_server_every_ten_seconds() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::success(""));
    rig.take();
    rig.pass(60_000);
    assert_eq!(reports(&rig.take()), 6);
}

#[test]
fn report_times_increase_when_the_wall_clock_steps_back() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.first_line(1);
    rig.running_taken(1);
    rig.pass(30_000);
    rig.wall -= 3_600_000;
    rig.pass(30_000);
    rig.end(1, ProcessResult::success(""));
    rig.drained(1);
    let times = report_times(&rig.take(), 1);
    assert!(times.len() >= 7 && times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[test]
fn report_times_increase_through_a_restart_with_a_clock_that_was_set_back() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    let before = rig.store.records[&1].last_report_time;
    rig.restart(-3_600_000);
    rig.find();
    rig.info(1, 3, ADDRESS);
    assert!(report_times(&rig.take(), 1)[0] > before);
}

#[test]
fn report_times_increase_when_an_id_comes_back_after_it_was_closed_even_through_a_restart() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::failed("x"));
    rig.drained(1);
    let last = rig.pending(1).report_time;
    rig.answer_final(1, true);
    rig.restart(-3_600_000);
    rig.find();
    rig.run(dispatch(1));
    rig.first_line(1);
    assert!(report_times(&rig.take(), 1)[0] > last);
    rig.run(dispatch(2));
    assert!(rig.store.records.get(&2).is_none_or(|r| r.last_report_time < last), "other ids do not suffer");
}

#[test]
fn every_report_time_is_durable_before_it_is_sent() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.first_line(1);
    for _ in 0..5 {
        let sent = report_times(&rig.take(), 1);
        assert!(sent.iter().all(|t| *t <= rig.store.records[&1].last_report_time));
        rig.running_taken(1);
        rig.pass(10_000);
    }
}

#[test]
fn a_running_report_that_was_not_taken_is_followed_by_discovery_and_sent_again_after_the_next_good_heartbeat() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.pass_unanswered(9_000);
    while reports(&rig.take()) == 0 {
        rig.pass_unanswered(100);
    }
    rig.send(Event::RunningReportDone { instance_id: 1, ok: false });
    rig.pass_unanswered(1_000);
    rig.send(Event::HeartbeatDone { ok: true });
    rig.send(Event::Discovered(Ok(owner("10.0.0.1:10010", 1))));
    rig.send(Event::HeartbeatDone { ok: true });
    let words = words(&rig.take());
    assert!(words.contains(&"discover".to_owned()) && words.contains(&"running 1".to_owned()), "{words:?}");
}

#[test]
fn the_next_report_of_an_instance_waits_for_the_answer_to_the_one_before() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.first_line(1);
    assert_eq!(reports(&rig.take()), 1);
    rig.pass_unanswered(5_000);
    rig.end(1, ProcessResult::success(""));
    rig.drained(1);
    assert_eq!(reports(&rig.take()), 0);
    rig.running_taken(1);
    assert_eq!(reports(&rig.take()), 1);
}

#[test]
fn report_times_are_the_servers_so_that_a_worker_whose_clock_is_behind_is_not_taken_for_older_than_the_one_before() {
    let mut rig = Rig::online(1, 0);
    rig.server_ahead = 3_600_000;
    rig.well_under_way(1);
    let server = rig.wall + rig.server_ahead;
    rig.pass(20_000);
    let times = report_times(&rig.take(), 1);
    assert!(times.iter().all(|time| (server..server + 30_000).contains(time)), "{times:?} at {server}");
    // Measured anew as no longer ahead: what was sent still comes first.
    rig.server_ahead = 0;
    rig.pass(20_000);
    let later = report_times(&rig.take(), 1);
    assert!(later[0] > times[times.len() - 1], "{times:?} {later:?}");
}
