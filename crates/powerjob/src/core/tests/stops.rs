use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

#[test]
fn after_a_stop_nothing_is_reported_and_the_end_is_silent() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    assert_eq!(rig.store.records[&1].stage, Stage::Stopping, "stored before the processor is told");
    assert_eq!(words(&rig.take()), ["stop 1"]);
    rig.pass(20_000);
    assert_eq!(reports(&rig.take()), 0);
    rig.end(1, ProcessResult::success("ended all the same"));
    let actions = rig.take();
    assert!(words(&actions).contains(&"drain 1 for 25000".to_owned()), "{:?}", words(&actions));
    rig.drained(1);
    assert_eq!(words(&rig.take()), ["close 1 STOPPED"]);
    rig.pass(100_000);
    assert_eq!(reports(&rig.take()), 0);
    assert!(rig.store.records.is_empty());
}

#[test]
fn a_stopped_queued_instance_is_gone_at_once() {
    let mut rig = Rig::online(1, 1);
    rig.run(dispatch(1));
    rig.run(dispatch(2));
    rig.take();
    rig.send(Event::StopInstance(2));
    assert_eq!(words(&rig.take()), ["drain 2 for 45000"]);
    rig.end(1, ProcessResult::success(""));
    assert_eq!(rig.stage(2), "stopping", "a free slot does not start it");
    rig.drained(2);
    assert!(words(&rig.take()).contains(&"close 2 STOPPED".to_owned()));
}

#[test]
fn a_stopped_draining_or_reporting_instance_falls_silent() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::success(""));
    rig.take();
    rig.send(Event::StopInstance(1));
    assert_eq!(words(&rig.take()), ["drain 1 for 45000"]);
    rig.drained(1);
    assert_eq!(words(&rig.take()), ["close 1 STOPPED"]);

    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.end(1, ProcessResult::success(""));
    rig.drained(1);
    rig.answer_final(1, false);
    rig.take();
    rig.send(Event::StopInstance(1));
    assert_eq!(words(&rig.take()), ["close 1 STOPPED"]);
    rig.pass(60_000);
    assert_eq!(reports(&rig.take()), 0);
}

#[test]
fn a_stop_cancels_the_repeat_of_an_early_final_report() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.end(1, ProcessResult::success(""));
    rig.drained(1);
    rig.answer_final(1, true);
    rig.send(Event::StopInstance(1));
    rig.take();
    rig.pass(10_000);
    assert_eq!(reports(&rig.take()), 0);
}

#[test]
fn stop_requests_are_idempotent() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.take();
    rig.send(Event::StopInstance(1));
    assert!(rig.take().is_empty());
    rig.end(1, ProcessResult::failed("stopped"));
    rig.take();
    rig.send(Event::StopInstance(1));
    assert!(rig.take().is_empty());
    rig.drained(1);
    rig.send(Event::StopInstance(1));
    assert_eq!(words(&rig.take()), ["close 1 STOPPED"]);
}

#[test]
fn a_stop_that_overtakes_its_dispatch_is_remembered_for_three_seconds() {
    let mut rig = Rig::online(1, 0);
    rig.send(Event::StopInstance(1));
    rig.take();
    rig.pass(2_000);
    rig.run(dispatch(1));
    assert_eq!(rig.stage(1), "closed");
    rig.pass(1_001);
    rig.run(dispatch(1));
    assert_eq!(rig.stage(1), "running");
}

#[test]
fn a_stopped_processor_is_not_retried() {
    let mut rig = Rig::online(1, 0);
    rig.run(Dispatch { task_retry_num: 5, ..dispatch(1) });
    rig.send(Event::StopInstance(1));
    rig.take();
    rig.end(1, ProcessResult::failed("stopped"));
    assert_eq!(
        words(&rig.take()),
        ["heartbeat false", "drain 1 for 45000"]
            .iter()
            .filter(|w| !w.starts_with("heartbeat"))
            .copied()
            .collect::<Vec<_>>()
    );
}

#[test]
fn log_lines_of_a_stopped_instance_are_sent_for_45_seconds_even_when_its_processor_takes_longer() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.take();
    rig.pass(44_999);
    assert!(!words(&rig.take()).contains(&"drain 1 for 0".to_owned()));
    rig.pass(1);
    assert!(words(&rig.take()).contains(&"drain 1 for 0".to_owned()));
    rig.drained(1);
    rig.pass(60_000);
    rig.take();
    rig.end(1, ProcessResult::failed("at last"));
    assert!(words(&rig.take()).contains(&"close 1 STOPPED".to_owned()));
}

#[test]
fn a_dispatch_of_an_instance_that_is_being_stopped_starts_clean_when_the_boundary_is_empty() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.run(Dispatch { job_params: Some("again".into()), ..dispatch(1) });
    assert_eq!(rig.stage(1), "stopping");
    assert_eq!(rig.store.records[&1].next.as_ref().and_then(|d| d.job_params.clone()).as_deref(), Some("again"));
    rig.take();
    rig.end(1, ProcessResult::failed("stopped"));
    let words = words(&rig.take());
    assert!(words.contains(&"start 1#2".to_owned()) && !words.iter().any(|w| w.starts_with("close")), "{words:?}");
    rig.first_line(1);
    assert_eq!(reports(&rig.take()), 1);
}

#[test]
fn a_stop_of_a_remembered_dispatch_forgets_it() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.run(dispatch(1));
    rig.send(Event::StopInstance(1));
    rig.end(1, ProcessResult::failed("stopped"));
    rig.drained(1);
    assert_eq!(rig.stage(1), "closed");
}

#[test]
fn a_dispatch_while_the_log_of_a_stopped_instance_is_still_sent_starts_clean_when_that_is_done() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.end(1, ProcessResult::failed("stopped"));
    rig.take();
    rig.run(dispatch(1));
    assert_eq!(words(&rig.take()), [""; 0], "the sink would stop under the new run");
    rig.drained(1);
    assert!(words(&rig.take()).contains(&"start 1#2".to_owned()));
}

#[test]
fn a_stop_drain_that_nobody_answers_ends_all_the_same() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::StopInstance(1));
    rig.end(1, ProcessResult::failed("stopped"));
    rig.pass(60_000);
    assert_eq!(rig.stage(1), "closed");
}
