use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

#[test]
fn a_dispatch_is_stored_before_its_log_opens_and_its_processor_starts() {
    let mut rig = Rig::online(2, 2);
    let output = rig.core.handle(rig.now(), Event::RunJob(dispatch(1)));
    let [Write::Put(record)] = output.writes.as_slice() else { panic!("one record: {:?}", output.writes) };
    assert_eq!((&record.stage, record.attempt, record.boundary_open), (&Stage::Running, 1, true));
    assert_eq!(words(&output.actions), ["log 1 open", "start 1#1"]);
    assert!(matches!(output.actions[1], Action::LogLine { .. }), "the first line comes before the start");
}

#[test]
fn a_duplicate_of_a_live_instance_is_ignored() {
    let mut rig = Rig::online(1, 1);
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    rig.take();
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    rig.end(1, ProcessResult::success("ok"));
    rig.take();
    rig.run(dispatch(1));
    assert_eq!((rig.stage(1), words(&rig.take())), ("draining", vec![]));
}

#[test]
fn beyond_the_slots_instances_wait_in_order_of_arrival_and_start_one_per_freed_slot() {
    let mut rig = Rig::online(1, 3);
    for id in [5, 9, 1] {
        rig.run(dispatch(id));
    }
    assert_eq!((rig.stage(9), rig.stage(1)), ("queued", "queued"));
    rig.take();
    rig.end(5, ProcessResult::success(""));
    let actions = rig.take();
    assert!(words(&actions).contains(&"start 9#1".to_owned()));
    assert!(!words(&actions).contains(&"start 1#1".to_owned()));
    assert!(lines(&actions).iter().any(|(_, text)| text.contains("starting after")));
}

#[test]
fn a_queued_instance_is_running_for_the_server_and_logs_its_position_when_it_changes() {
    let mut rig = Rig::online(1, 3);
    for id in [1, 2, 3] {
        rig.run(dispatch(id));
    }
    let text = lines(&rig.take());
    assert!(text.iter().any(|(_, t)| t.contains("position 2 in the queue")), "{text:?}");
    rig.first_line(3);
    assert_eq!(reports(&rig.take()), 1);
    rig.running_taken(3);
    rig.end(1, ProcessResult::success(""));
    rig.pass(12_000);
    let text = lines(&rig.take());
    assert_eq!(text.iter().filter(|(_, t)| t.contains("position 1 in the queue")).count(), 1, "{text:?}");
}

#[test]
fn what_exceeds_the_backlog_is_ignored_without_a_write_and_a_heartbeat_says_overload() {
    let mut rig = Rig::online(1, 1);
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    rig.send(Event::HeartbeatDone { ok: true });
    rig.take();
    let output = rig.core.handle(rig.now(), Event::RunJob(dispatch(3)));
    assert!(output.writes.is_empty());
    assert_eq!(words(&output.actions), ["heartbeat true"]);
    assert_eq!(rig.stage(3), "closed");
}

#[test]
fn the_overload_flag_rises_with_the_last_slot_and_falls_with_the_first_free_one_each_at_once() {
    let mut rig = Rig::online(2, 0);
    rig.run(dispatch(1));
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("heartbeat")));
    rig.run(dispatch(2));
    assert!(words(&rig.take()).contains(&"heartbeat true".to_owned()));
    rig.end(1, ProcessResult::success(""));
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("heartbeat")), "one is under way");
    rig.send(Event::HeartbeatDone { ok: true });
    assert_eq!(words(&rig.take()), ["heartbeat false"]);
}

#[test]
fn a_burst_goes_into_the_backlog_as_a_whole_and_the_flag_rises_half_a_second_after_it() {
    let mut rig = Rig::online(2, 1024);
    for id in 1..=200 {
        rig.run(dispatch(id));
        rig.pass(20);
    }
    assert_eq!(rig.core.worker().queued, 198, "all of it was taken");
    rig.pass(479);
    assert!(!words(&rig.take()).contains(&"heartbeat true".to_owned()));
    rig.pass(1);
    assert!(words(&rig.take()).contains(&"heartbeat true".to_owned()));
    rig.run(dispatch(201));
    assert!(rig.core.worker().overload, "a late dispatch does not take the flag back");
}

#[test]
fn a_lane_that_stays_full_says_so_after_ten_seconds_however_fast_the_dispatches_come() {
    let mut rig = Rig::online(1, 1024);
    for id in 1..=40 {
        rig.run(dispatch(id));
        assert!(!rig.core.worker().overload);
        rig.pass(250);
    }
    assert!(rig.core.worker().overload);
}

#[test]
fn a_full_backlog_is_told_at_once() {
    let mut rig = Rig::online(1, 2);
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    assert!(!rig.core.worker().overload);
    rig.take();
    rig.run(dispatch(3));
    assert!(words(&rig.take()).contains(&"heartbeat true".to_owned()));
}

#[test]
fn a_restarted_worker_whose_slots_are_taken_says_so_with_its_first_heartbeat() {
    let mut rig = Rig::online(1, 5);
    rig.run(dispatch(1));
    rig.restart(1_000);
    rig.take();
    rig.send(Event::Discovered(Ok(owner("10.0.0.1:10010", 1))));
    assert!(words(&rig.take()).contains(&"heartbeat true".to_owned()));
}

#[test]
fn a_stopping_instance_holds_its_slot_until_the_processor_has_ended_a_draining_one_does_not() {
    let mut rig = Rig::online(1, 5);
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    rig.send(Event::StopInstance(1));
    assert_eq!((rig.stage(1), rig.stage(2)), ("stopping", "queued"));
    rig.end(1, ProcessResult::failed("stopped"));
    assert_eq!(rig.stage(2), "running");
    rig.run(dispatch(3));
    rig.end(2, ProcessResult::success(""));
    assert_eq!((rig.stage(2), rig.stage(3)), ("draining", "running"));
}

#[test]
fn a_worker_that_drains_says_overload_at_once_refuses_new_instances_and_ends_the_others() {
    let mut rig = Rig::online(1, 5);
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    rig.send(Event::HeartbeatDone { ok: true });
    rig.take();
    rig.send(Event::Drain(true));
    assert_eq!(words(&rig.take()), ["heartbeat true"]);
    rig.run(dispatch(3));
    assert_eq!(rig.stage(3), "closed");
    rig.end(1, ProcessResult::success(""));
    assert_eq!(rig.stage(2), "running");
    rig.send(Event::Drain(false));
    rig.run(dispatch(3));
    assert_eq!(rig.stage(3), "queued");
}

#[test]
fn a_full_host_says_overload_at_once_refuses_new_instances_and_lets_the_others_go_on() {
    let mut rig = Rig::online(2, 5);
    rig.run(dispatch(1));
    rig.send(Event::HeartbeatDone { ok: true });
    rig.take();
    rig.send(Event::HostFull(true));
    assert_eq!(words(&rig.take()), ["heartbeat true"]);
    rig.send(Event::HeartbeatDone { ok: true });
    rig.run(dispatch(2));
    assert_eq!((rig.stage(1), rig.stage(2)), ("running", "closed"));
    rig.send(Event::HeartbeatDone { ok: true });
    rig.take();
    rig.send(Event::HostFull(false));
    assert_eq!(words(&rig.take()), ["heartbeat false"]);
    rig.run(dispatch(2));
    assert_eq!(rig.stage(2), "running");
}

#[test]
fn kinds_that_are_not_served_end_failed_with_a_text_that_says_so_and_what_to_do() {
    type Change = fn(&mut Dispatch);
    let kinds: [(&str, Change); 3] = [
        ("processor type `EXTERNAL`", |d| d.processor_type = "EXTERNAL".into()),
        ("processor type `SHELL`", |d| d.processor_type = "SHELL".into()),
        ("processor type `PYTHON`", |d| d.processor_type = "PYTHON".into()),
    ];
    for (text, change) in kinds {
        let mut rig = Rig::online(1, 0);
        rig.run(dispatch(99));
        rig.take();
        let mut other = dispatch(1);
        change(&mut other);
        rig.run(other);
        assert_eq!(rig.stage(1), "closed", "a worker without room refuses every kind alike");
        rig.end(99, ProcessResult::success(""));
        let mut other = dispatch(1);
        change(&mut other);
        rig.run(other);
        assert!(!words(&rig.take()).iter().any(|w| w.starts_with("start")));
        rig.drained(1);
        let outcome = rig.pending(1).outcome;
        assert!(
            !outcome.success && outcome.result.contains(text) && outcome.result.contains("only"),
            "{}",
            outcome.result
        );
        assert!(rig.take().iter().any(|a| matches!(a, Action::ReportFinal { .. })));
    }
}

#[test]
fn api_cron_daily_interval_and_workflow_are_served_alike() {
    for kind in ["API", "CRON", "DAILY_TIME_INTERVAL", "WORKFLOW"] {
        let mut rig = Rig::online(1, 0);
        rig.run(Dispatch { time_expression_type: kind.into(), ..dispatch(1) });
        assert_eq!(rig.stage(1), "running", "{kind}");
    }
}

#[test]
fn a_dispatch_of_an_instance_that_ended_and_was_accepted_runs_again_at_once_under_the_next_attempt() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::failed("x"));
    rig.drained(1);
    rig.answer_final(1, true);
    assert_eq!(rig.stage(1), "closed");
    rig.take();
    rig.run(dispatch(1));
    assert!(words(&rig.take()).contains(&"start 1#2".to_owned()));
}

#[test]
fn a_pending_failed_is_dropped_by_a_new_dispatch_which_starts_clean() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::failed("x"));
    rig.drained(1);
    let dropped = rig.pending(1).report_time;
    rig.answer_final(1, false);
    rig.take();
    rig.run(Dispatch { job_params: Some("new".into()), ..dispatch(1) });
    assert!(words(&rig.take()).contains(&"start 1#2".to_owned()));
    assert_eq!(rig.store.records[&1].dispatch.job_params.as_deref(), Some("new"));
    rig.send(Event::FinalReportDone { instance_id: 1, report_time: dropped, accepted: true, message: String::new() });
    assert_eq!(rig.stage(1), "running", "a late answer to the dropped report changes nothing");
    rig.first_line(1);
    assert!(report_times(&rig.take(), 1)[0] > dropped);
}

#[test]
fn a_pending_failed_is_dropped_even_when_there_is_no_room_for_the_new_dispatch() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::failed("x"));
    rig.drained(1);
    rig.answer_final(1, false);
    rig.run(dispatch(2));
    rig.run(dispatch(1));
    rig.take();
    rig.pass(100_000);
    assert!(report_times(&rig.take(), 1).is_empty(), "it would be taken for the outcome of the new dispatch");
}

#[test]
fn a_pending_succeed_is_sent_again_at_once_with_the_same_time_instead_of_running_twice() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::success("done"));
    rig.drained(1);
    let first = rig.pending(1);
    rig.answer_final(1, false);
    rig.take();
    rig.run(dispatch(1));
    let actions = rig.take();
    assert_eq!(actions, [Action::ReportFinal { instance_id: 1, report: first }]);
}

#[test]
fn a_final_report_soon_after_a_duplicate_is_as_early_as_one_after_the_first_dispatch() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::success("done"));
    rig.run(dispatch(1));
    rig.drained(1);
    rig.answer_final(1, true);
    assert_eq!(rig.stage(1), "reporting", "the server may not have stored the second dispatch yet");
}

#[test]
fn a_succeed_that_waits_for_its_early_repeat_is_sent_again_instead_of_running_twice() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.end(1, ProcessResult::success("done"));
    rig.drained(1);
    let first = rig.pending(1);
    rig.answer_final(1, true);
    rig.take();
    rig.run(dispatch(1));
    assert_eq!(rig.take(), [Action::ReportFinal { instance_id: 1, report: first.clone() }]);
    rig.answer_final(1, true);
    assert_eq!(rig.stage(1), "reporting", "the new dispatch may be as early as the first one was");
    rig.pass(1_000);
    assert_eq!(rig.take(), [Action::ReportFinal { instance_id: 1, report: first }]);
    rig.answer_final(1, true);
    assert_eq!(rig.stage(1), "closed");
}
