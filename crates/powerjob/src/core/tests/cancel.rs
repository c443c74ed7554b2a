use super::super::*;
use super::rig::*;
use crate::processor::ProcessResult;

#[test]
fn cancelled_runs_and_queued_instances_end_failed_with_a_text_that_says_who_ended_them() {
    let mut rig = Rig::online(1, 5);
    rig.run(Dispatch { task_retry_num: 5, ..dispatch(1) });
    rig.run(dispatch(2));
    rig.take();
    rig.send(Event::Drain(true));
    rig.send(Event::Cancel);
    let said = words(&rig.take());
    assert!(said.contains(&"cancel 1".to_owned()) && said.contains(&"drain 2".to_owned()), "{said:?}");
    rig.end(1, ProcessResult::failed("ended early"));
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("start")), "no task retry");
    for (id, what) in [(1, "was running"), (2, "was waiting for a slot")] {
        rig.drained(id);
        let outcome = rig.pending(id).outcome;
        assert!(!outcome.success, "{id}");
        for part in ["cancelled by the agent's shutdown", ADDRESS, what, "run it again"] {
            assert!(outcome.result.contains(part), "{part} in {}", outcome.result);
        }
    }
    assert!(rig.pending(1).outcome.result.contains("ended early"), "what the processor said stays");
}

#[test]
fn a_run_that_succeeds_although_it_was_cancelled_has_succeeded() {
    let mut rig = Rig::online(1, 0);
    rig.run(dispatch(1));
    rig.send(Event::Cancel);
    rig.end(1, ProcessResult::success("done all the same"));
    rig.drained(1);
    assert!(rig.pending(1).outcome.success);
}

#[test]
fn what_has_ended_already_and_what_was_stopped_is_not_touched_by_a_cancel_and_a_second_one_changes_nothing() {
    let mut rig = Rig::online(3, 0);
    for id in [1, 2, 3] {
        rig.run(dispatch(id));
    }
    rig.end(1, ProcessResult::success("done"));
    rig.send(Event::StopInstance(2));
    rig.send(Event::Cancel);
    rig.take();
    rig.send(Event::Cancel);
    assert!(!words(&rig.take()).iter().any(|w| w.starts_with("cancel")));
    rig.drained(1);
    assert!(rig.pending(1).outcome.success);
    rig.end(2, ProcessResult::failed("stopped"));
    rig.drained(2);
    assert_eq!(rig.stage(2), "closed");
    assert_eq!(rig.store.closed.last().map(|c| c.status.as_str()), Some("STOPPED"));
}

#[test]
fn a_stop_by_the_server_silences_a_cancelled_run() {
    let mut rig = Rig::online(1, 0);
    rig.well_under_way(1);
    rig.send(Event::Cancel);
    rig.send(Event::StopInstance(1));
    rig.take();
    rig.end(1, ProcessResult::failed("ended"));
    rig.drained(1);
    assert_eq!(reports(&rig.take()), 0);
    assert_eq!(rig.stage(1), "closed");
}
