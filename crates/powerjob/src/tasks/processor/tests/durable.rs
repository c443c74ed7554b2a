//! What a restart finds.

use super::rig::{OTHER, OWN, Rig, statuses, task};
use crate::{ProcessResult, RestartPolicy, tasks::processor::Event};

fn under_way() -> Rig {
    let mut rig = Rig::new();
    for n in 0..4 {
        rig.start(task(OTHER, 7, &format!("0.{n}")));
    }
    rig.end("0.0", ProcessResult::success("done"));
    // Not a single report has been answered.
    rig
}

#[test]
fn after_a_kill_outcomes_are_sent_again_and_what_was_at_work_has_failed() {
    let mut rig = under_way();
    let before = rig.reports.iter().map(|sent| sent.report.report_time).max().expect("reports");
    rig.clock_back(60_000);
    rig.restart(RestartPolicy::Fail);
    assert_eq!(rig.runs(), ["0.3"], "what only waited begins");
    let said = rig.answer_all();
    let mut ends = statuses(&said);
    ends.sort_unstable();
    assert_eq!(ends, [("0.0", 6), ("0.1", 5), ("0.2", 5), ("0.3", 4)]);
    assert!(said.iter().all(|report| report.report_time > before), "the clock has stepped back meanwhile");
    let failed = said.iter().find(|report| report.status == 5).and_then(|report| report.result.clone());
    assert!(failed.expect("a text").contains("the worker was restarted"));
}

#[test]
fn after_a_kill_idempotent_tasks_run_again_and_others_are_taken_up() {
    for (policy, resumed) in [(RestartPolicy::Rerun, vec![]), (RestartPolicy::Resume, vec!["0.1", "0.2"])] {
        let mut rig = under_way();
        rig.restart(policy);
        assert_eq!(rig.runs(), ["0.1", "0.2"]);
        assert_eq!(rig.resumed, resumed);
        for id in ["0.1", "0.2", "0.3"] {
            rig.end(id, ProcessResult::success("again"));
        }
        let said = rig.answer_all();
        assert_eq!(said.iter().filter(|report| report.status == 6).count(), 4);
        assert!(rig.store.is_empty());
    }
}

#[test]
fn a_first_load_follows_a_restart_at_once() {
    let mut rig = under_way();
    rig.restart(RestartPolicy::Rerun);
    assert_eq!(rig.loads.len(), 1);
}

#[test]
fn the_time_limit_goes_on_through_a_restart() {
    let mut rig = Rig::new();
    rig.start(super::rig::with(task(OTHER, 7, "0"), |info| info.instance_timeout_ms = 60_000));
    rig.pass(50_000);
    rig.restart(RestartPolicy::Rerun);
    rig.pass(9_000);
    assert!(rig.stop_asked.is_empty());
    rig.pass(1_000);
    assert_eq!(rig.stop_asked.len(), 1);
}

#[test]
fn nothing_of_the_own_tracker_is_stored_and_nothing_of_a_stopped_instance_stays() {
    let mut rig = under_way();
    rig.start(task(OWN, 8, "0"));
    assert_eq!(rig.stages().len(), 4);
    rig.handle(Event::StopForOthers(7));
    assert!(rig.store.is_empty());
}
