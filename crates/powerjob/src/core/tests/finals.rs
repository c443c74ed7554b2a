use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

/// An instance whose final report has just been sent, long after its dispatch.
fn reporting(result: ProcessResult) -> Rig {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, result);
    rig.drained(1);
    rig
}

#[test]
fn the_final_report_leaves_when_the_log_is_drained_and_is_stored_before() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::success("ok"));
    rig.take();
    let output = rig.core.handle(rig.now(), Event::LogDrained { instance_id: 1, attempt: 1 });
    let [Write::Put(record)] = output.writes.as_slice() else { panic!("{:?}", output.writes) };
    let Stage::Reporting(report) = record.stage.clone() else { panic!("{:?}", record.stage) };
    assert!(output.actions.contains(&Action::ReportFinal { instance_id: 1, report }));
}

#[test]
fn a_drain_of_another_attempt_is_not_the_end_of_this_one() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::success("ok"));
    rig.send(Event::LogDrained { instance_id: 1, attempt: 7 });
    assert_eq!(rig.stage(1), "draining");
}

#[test]
fn an_accepted_final_report_closes_log_and_record() {
    let mut rig = reporting(ProcessResult::success("ok"));
    rig.take();
    rig.answer_final(1, true);
    assert_eq!(words(&rig.take()), ["close 1 SUCCEED"]);
    assert!(rig.store.records.is_empty());
    assert_eq!(rig.store.closed[0].status, "SUCCEED");
}

#[test]
fn a_final_report_that_is_not_accepted_is_repeated_with_back_off_and_the_same_time() {
    let mut rig = reporting(ProcessResult::success("ok"));
    let first = rig.pending(1);
    rig.take();
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        rig.answer_final(1, false);
        rig.pass(wait * 1_000 - 1);
        assert_eq!(reports(&rig.take()), 0, "before {wait} s");
        rig.pass(1);
        let sent = rig.take();
        assert!(
            sent.contains(&Action::ReportFinal { instance_id: 1, report: first.clone() }),
            "after {wait} s: {sent:?}"
        );
    }
}

#[test]
fn a_pending_final_report_goes_out_in_the_moment_a_server_is_found() {
    let mut rig = reporting(ProcessResult::success("ok"));
    rig.answer_final(1, false);
    rig.send(Event::Discovered(Err("gone".into())));
    rig.take();
    rig.pass_unanswered(20_000);
    assert_eq!(reports(&rig.take()), 0, "nothing is sent without a server");
    rig.send(Event::Discovered(Ok(owner("10.0.0.1:10010", 1))));
    assert_eq!(reports(&rig.take()), 1);
}

#[test]
fn a_final_report_that_nobody_accepts_for_a_day_is_given_up_with_a_warning() {
    let mut rig = reporting(ProcessResult::success("ok"));
    for _ in 0..(24 * 120 + 10) {
        if rig.stage(1) == "closed" {
            break;
        }
        rig.take();
        rig.answer_final(1, false);
        rig.pass(30_000);
    }
    let actions = rig.take();
    assert!(words(&actions).contains(&"close 1 SUCCEED".to_owned()));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Warn(text) if text.contains("gave up the final report of instance 1")))
    );
}

#[test]
fn an_early_final_report_is_repeated_once_after_a_second_with_the_same_time_and_nothing_else_follows() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.send(Event::HeartbeatDone { ok: true });
    rig.end(1, ProcessResult::success("ok"));
    rig.drained(1);
    let first = rig.pending(1);
    rig.answer_final(1, true);
    assert_eq!(rig.stage(1), "reporting");
    rig.take();
    rig.pass(999);
    assert_eq!(reports(&rig.take()), 0);
    rig.pass(1);
    assert_eq!(rig.take(), [Action::ReportFinal { instance_id: 1, report: first }]);
    rig.answer_final(1, true);
    rig.take();
    rig.pass(100_000);
    assert_eq!(reports(&rig.take()), 0);
}

#[test]
fn a_new_dispatch_cancels_the_repeat_of_an_early_failed() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.end(1, ProcessResult::failed("x"));
    rig.drained(1);
    rig.answer_final(1, true);
    rig.take();
    rig.run(dispatch(1));
    assert!(words(&rig.take()).contains(&"start 1#2".to_owned()));
    rig.pass(1_500);
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("final")));
}

#[test]
fn a_failed_that_is_dropped_while_its_log_goes_to_a_new_owner_starts_clean_when_that_is_done() {
    let mut rig = reporting(ProcessResult::failed("x"));
    rig.answer_final(1, false);
    rig.send(Event::Discovered(Ok(owner("10.0.0.2:10010", 1))));
    rig.take();
    rig.run(dispatch(1));
    rig.pass(1_000);
    assert_eq!(reports(&rig.take()), 0);
    rig.drained(1);
    assert!(words(&rig.take()).contains(&"start 1#2".to_owned()));
}

#[test]
fn a_final_report_that_came_late_is_not_repeated() {
    let mut rig = reporting(ProcessResult::failed("x"));
    rig.answer_final(1, true);
    assert_eq!(rig.stage(1), "closed");
}

#[test]
fn an_answer_for_another_report_time_is_not_taken_for_this_report() {
    let mut rig = reporting(ProcessResult::failed("x"));
    let other = rig.pending(1).report_time - 1;
    rig.send(Event::FinalReportDone { instance_id: 1, report_time: other, accepted: true, message: String::new() });
    assert_eq!(rig.stage(1), "reporting");
}
