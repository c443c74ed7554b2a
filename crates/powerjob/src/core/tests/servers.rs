use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

const ONE: &str = "10.0.0.1:10010";
const TWO: &str = "10.0.0.2:10010";

#[test]
fn discovery_starts_at_once_and_repeats_every_second_until_there_is_an_owner() {
    let mut rig = Rig::alone(1, 0);
    assert_eq!(words(&rig.take()), ["discover"]);
    for _ in 0..5 {
        rig.send(Event::Discovered(Err("refused".into())));
        rig.take();
        rig.pass_unanswered(1_000);
        assert_eq!(words(&rig.take()), ["discover"]);
    }
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    assert_eq!(words(&rig.take()), ["heartbeat false"]);
}

#[test]
fn a_missing_server_is_one_warning_and_not_one_a_second() {
    let mut rig = Rig::alone(1, 0);
    rig.send(Event::Discovered(Err("10.0.0.1:7700 refused".into())));
    assert!(rig.take().iter().any(|a| matches!(a, Action::Warn(text) if text.contains("10.0.0.1:7700 refused"))));
    rig.pass_unanswered(1_000);
    rig.send(Event::Discovered(Err("10.0.0.1:7700 refused".into())));
    assert!(!words(&rig.take()).contains(&"warn".to_owned()));
}

#[test]
fn with_an_owner_discovery_and_heartbeat_come_every_ten_seconds() {
    let mut rig = Rig::online(1, 0);
    rig.pass(60_000);
    let words = words(&rig.take());
    assert_eq!(words.iter().filter(|w| *w == "discover").count(), 6);
    assert_eq!(words.iter().filter(|w| *w == "heartbeat false").count(), 6);
}

#[test]
fn heartbeats_never_overlap() {
    let mut rig = Rig::online(1, 5);
    rig.pass_unanswered(10_000);
    assert!(words(&rig.take()).contains(&"heartbeat false".to_owned()));
    rig.run(dispatch(1));
    rig.pass_unanswered(5_000);
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("heartbeat")));
    rig.send(Event::HeartbeatDone { ok: true });
    assert!(words(&rig.take()).contains(&"heartbeat true".to_owned()));
}

#[test]
fn a_failed_heartbeat_leads_to_discovery_at_once_but_not_twice_in_a_second() {
    let mut rig = Rig::online(1, 0);
    rig.pass_unanswered(10_000);
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    rig.take();
    rig.pass_unanswered(2_000);
    rig.send(Event::HeartbeatDone { ok: false });
    assert_eq!(words(&rig.take()), ["discover", "warn"].iter().rev().copied().collect::<Vec<_>>());
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    assert_eq!(words(&rig.take()), ["heartbeat false"], "found again: heartbeat at once");
    rig.send(Event::HeartbeatDone { ok: false });
    assert!(rig.take().is_empty());
    rig.pass_unanswered(1_000);
    assert_eq!(words(&rig.take()), ["discover"]);
}

#[test]
fn when_a_server_is_found_heartbeat_and_all_running_reports_leave_in_the_same_moment() {
    let mut rig = Rig::online(3, 0);
    for id in [1, 2, 3] {
        rig.run(dispatch(id));
        rig.first_line(id);
        rig.running_taken(id);
    }
    rig.pass(2_000);
    rig.send(Event::Discovered(Err("gone".into())));
    rig.take();
    rig.pass_unanswered(12_000);
    assert_eq!(reports(&rig.take()), 0, "nothing is sent while no owner is known");
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    let mut words = words(&rig.take());
    words.sort();
    assert_eq!(words, ["heartbeat true", "running 1", "running 2", "running 3"]);
}

#[test]
fn an_owner_with_another_address_gets_a_heartbeat_every_report_and_every_log_from_line_0() {
    let mut rig = Rig::online(2, 0);
    rig.well_under_way(1);
    rig.send(Event::Discovered(Ok(owner(TWO, 1))));
    let mut words = words(&rig.take());
    words.sort();
    assert_eq!(words, ["heartbeat false", "rewind 1", "running 1"]);
}

#[test]
fn an_owner_that_was_born_again_gets_every_log_from_line_0() {
    let mut rig = Rig::online(2, 0);
    rig.well_under_way(1);
    rig.send(Event::Discovered(Ok(owner(ONE, 2))));
    assert!(words(&rig.take()).contains(&"rewind 1".to_owned()));
}

#[test]
fn an_owner_that_was_away_and_is_the_same_gets_no_log_twice() {
    let mut rig = Rig::online(2, 0);
    rig.well_under_way(1);
    rig.send(Event::Discovered(Err("gone".into())));
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    rig.send(Event::Discovered(Ok(Owner { born_time: None, ..owner(ONE, 1) })));
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("rewind")));
}

#[test]
fn a_born_time_that_was_not_known_for_a_while_still_tells_of_a_change() {
    let mut rig = Rig::online(2, 0);
    rig.well_under_way(1);
    rig.send(Event::Discovered(Ok(Owner { born_time: None, ..owner(ONE, 1) })));
    rig.send(Event::Discovered(Ok(owner(ONE, 2))));
    assert!(words(&rig.take()).contains(&"rewind 1".to_owned()));
}

#[test]
fn the_first_owner_of_a_new_worker_rewinds_nothing() {
    let mut rig = Rig::alone(1, 0);
    rig.run(dispatch(1));
    rig.find();
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("rewind")));
}

#[test]
fn a_new_owner_is_stored_after_the_logs_were_rewound() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::Discovered(Ok(owner(TWO, 1))));
    assert_eq!(rig.store.owner.as_ref().map(|o| o.transport.as_str()), Some(ONE));
    rig.send(Event::HeartbeatDone { ok: true });
    assert_eq!(rig.store.owner.as_ref().map(|o| o.transport.as_str()), Some(TWO));
}

#[test]
fn a_pending_final_report_waits_until_a_new_owner_has_the_log_but_not_for_ever() {
    for answered in [true, false] {
        let mut rig = Rig::online(1, 0);
        rig.well_under_way(1);
        rig.end(1, ProcessResult::success(""));
        rig.drained(1);
        rig.answer_final(1, false);
        rig.take();
        rig.send(Event::Discovered(Ok(owner(TWO, 1))));
        rig.send(Event::HeartbeatDone { ok: true });
        let sent = words(&rig.take());
        assert!(sent.contains(&"rewind 1".to_owned()) && sent.contains(&"drain 1 for 30000".to_owned()), "{sent:?}");
        assert!(!sent.contains(&"final 1 SUCCEED".to_owned()));
        if answered {
            rig.drained(1);
        } else {
            rig.pass(30_000);
        }
        assert!(words(&rig.take()).contains(&"final 1 SUCCEED".to_owned()));
    }
}

/// A worker with one run in the middle whose server has been gone for `ms`.
fn outage(ms: u64) -> Rig {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.pass(10_000);
    rig.send(Event::HeartbeatDone { ok: true });
    rig.running_taken(1);
    rig.send(Event::Discovered(Err("gone".into())));
    rig.take();
    rig.pass_unanswered(ms);
    rig
}

#[test]
fn after_a_short_outage_the_instance_is_reported_without_asking() {
    let mut rig = outage(25_000);
    rig.take();
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    let words = words(&rig.take());
    assert!(words.contains(&"running 1".to_owned()) && !words.contains(&"ask 1".to_owned()), "{words:?}");
}

#[test]
fn after_more_than_thirty_seconds_the_server_is_asked_before_anything_is_reported_and_the_log_is_held() {
    let mut rig = outage(31_000);
    assert!(words(&rig.take()).contains(&"log 1 held".to_owned()));
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    let sent = words(&rig.take());
    assert!(sent.contains(&"ask 1".to_owned()) && !sent.contains(&"running 1".to_owned()), "{sent:?}");
    rig.send(Event::HeartbeatDone { ok: true });
    rig.pass(1_000);
    assert_eq!(reports(&rig.take()), 0);
    rig.info(1, 3, ADDRESS);
    let words = words(&rig.take());
    assert_eq!(words, ["log 1 open", "running 1"]);
}

#[test]
fn stopped_canceled_or_another_workers_address_empties_the_boundary_in_silence() {
    for (status, address) in [(10, ADDRESS), (9, ""), (3, "10.0.0.9:27777")] {
        let mut rig = outage(31_000);
        rig.send(Event::Discovered(Ok(owner(ONE, 1))));
        rig.take();
        rig.info(1, status, address);
        assert_eq!((rig.stage(1), words(&rig.take())), ("stopping", vec!["stop 1".to_owned()]));
        rig.pass(60_000);
        rig.end(1, ProcessResult::success(""));
        let actions = rig.take();
        assert_eq!(reports(&actions), 0);
        let words = words(&actions);
        assert!(
            words.contains(&"close 1 STOPPED".to_owned()) && !words.contains(&"log 1 open".to_owned()),
            "{words:?}"
        );
    }
}

#[test]
fn an_instance_that_was_retried_by_hand_meanwhile_ends_in_silence_and_its_dispatch_starts_clean() {
    let mut rig = outage(31_000);
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    rig.take();
    rig.info(1, 1, "");
    assert_eq!(words(&rig.take()), ["stop 1"]);
    rig.run(dispatch(1));
    rig.end(1, ProcessResult::failed("stopped"));
    assert!(words(&rig.take()).contains(&"start 1#2".to_owned()));
}

#[test]
fn a_stop_found_out_within_45_seconds_still_sends_the_log() {
    let mut rig = outage(31_000);
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    rig.take();
    let info =
        InstanceInfo { status: 10, task_tracker_address: Some(ADDRESS.into()), finished_at: Some(rig.wall - 20_000) };
    rig.send(Event::InstanceInfo { instance_id: 1, info: Ok(Some(info)) });
    assert_eq!(words(&rig.take()), ["log 1 open", "stop 1"]);
    rig.end(1, ProcessResult::failed("stopped"));
    assert!(words(&rig.take()).contains(&"drain 1 for 25000".to_owned()));
}

#[test]
fn how_long_ago_a_stop_was_is_told_by_the_servers_clock() {
    let mut rig = outage(31_000);
    // This host is an hour behind: by its own clock the stop lies in the future.
    rig.server_ahead = 3_600_000;
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    rig.take();
    let finished_at = Some(rig.wall + rig.server_ahead - 50_000);
    let info = InstanceInfo { status: 10, task_tracker_address: Some(ADDRESS.into()), finished_at };
    rig.send(Event::InstanceInfo { instance_id: 1, info: Ok(Some(info)) });
    assert_eq!(words(&rig.take()), ["stop 1"], "50 s ago: no line is sent any more");
}

#[test]
fn a_server_that_does_not_know_the_instance_or_has_given_it_up_is_told_of_it() {
    for info in [None, Some(InstanceInfo { status: 4, task_tracker_address: Some(String::new()), finished_at: None })] {
        let mut rig = outage(31_000);
        rig.send(Event::Discovered(Ok(owner(ONE, 1))));
        rig.take();
        rig.send(Event::InstanceInfo { instance_id: 1, info: Ok(info) });
        assert_eq!(reports(&rig.take()), 1);
    }
}

#[test]
fn a_question_without_an_answer_is_asked_five_times_then_reporting_goes_on_with_a_warning() {
    let mut rig = outage(31_000);
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    rig.send(Event::HeartbeatDone { ok: true });
    let mut asked = 0;
    for _ in 0..5 {
        asked += words(&rig.take()).iter().filter(|w| *w == "ask 1").count();
        rig.send(Event::InstanceInfo { instance_id: 1, info: Err("timed out".into()) });
        rig.pass(1_000);
    }
    let actions = rig.take();
    assert_eq!(asked, 5);
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Warn(text) if text.contains("instance 1") && text.contains("timed out")))
    );
    assert_eq!(reports(&actions), 1);
}

#[test]
fn a_dispatch_answers_the_question_too() {
    let mut rig = outage(31_000);
    rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    rig.take();
    rig.run(dispatch(1));
    assert_eq!(words(&rig.take()), ["log 1 open", "running 1"]);
    rig.info(1, 10, ADDRESS);
    assert_eq!(rig.stage(1), "running", "an answer from before the dispatch");
}

#[test]
fn an_instance_dispatched_after_an_idle_outage_is_reported_without_asking() {
    let mut rig = Rig::online(1, 0);
    rig.pass_unanswered(40_000);
    rig.run(dispatch(1));
    rig.take();
    rig.first_line(1);
    assert_eq!(reports(&rig.take()), 1);
}

#[test]
fn a_server_whose_transport_is_dead_counts_as_an_outage_though_discovery_answers() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    for _ in 0..40 {
        rig.pass_unanswered(1_000);
        for action in rig.take() {
            match action {
                Action::Discover { .. } => rig.send(Event::Discovered(Ok(owner(ONE, 1)))),
                Action::SendHeartbeat { .. } => rig.send(Event::HeartbeatDone { ok: false }),
                Action::ReportRunning { instance_id, .. } => {
                    rig.send(Event::RunningReportDone { instance_id, ok: false });
                }
                Action::AskInstanceInfo(_) => panic!("the answer would be old by the time that reports get through"),
                _ => {}
            }
        }
    }
    while !words(&rig.take()).iter().any(|w| w.starts_with("heartbeat")) {
        rig.pass_unanswered(500);
        rig.send(Event::Discovered(Ok(owner(ONE, 1))));
    }
    rig.send(Event::HeartbeatDone { ok: true });
    assert!(words(&rig.take()).contains(&"ask 1".to_owned()));
}
