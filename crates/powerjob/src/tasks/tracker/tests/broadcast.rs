//! BROADCAST.

use super::rig::{B, C, OWN, Rig, at};

#[test]
fn one_task_for_every_worker_between_the_two_steps() {
    let mut rig = Rig::new("BROADCAST", "API", "");
    assert_eq!(rig.ids(), at(&[("0", OWN)]));
    rig.ok("0");
    assert_eq!(rig.ids(), at(&[("0.0", OWN), ("0.1", B), ("0.2", C)]));
    rig.ok("0.0");
    rig.ok("0.1");
    rig.fails("0.2");
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
    assert_eq!(rig.results().len(), 4);
    rig.ok("9999");
    assert_eq!(rig.end().map(|end| (end.success, end.counts)), Some((true, (5, 4, 1))));
}

#[test]
fn a_failed_pre_processing_leads_straight_to_the_last_task() {
    let mut rig = Rig::new("BROADCAST", "API", "");
    rig.sent();
    rig.fails("0");
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
    assert_eq!(rig.results().len(), 1);
    assert_eq!(rig.report("9999", 5, "succeed:0, failed:1"), Ok(()));
    assert_eq!(rig.end().map(|end| (end.success, end.result)), Some((false, "succeed:0, failed:1".to_owned())));
}

#[test]
fn the_end_of_the_pre_processing_told_twice_makes_no_second_tasks() {
    let mut rig = Rig::new("BROADCAST", "API", "");
    rig.ok("0");
    rig.ok("0");
    assert_eq!(rig.numbers(), (4, 1, 0));
}

#[test]
fn a_failed_task_is_tried_again_on_its_worker() {
    let mut rig = Rig::new("BROADCAST", "API", r#","taskRetryNum":1"#);
    rig.ok("0");
    rig.sent();
    rig.fails("0.2");
    assert_eq!(rig.ids(), at(&[("0.2", C)]));
}

#[test]
fn a_lost_worker_costs_its_task_and_not_the_instance() {
    let mut rig = Rig::new("BROADCAST", "API", "");
    rig.ok("0");
    rig.ok("0.0");
    assert_eq!(rig.report("0.1", 4, ""), Ok(()));
    assert_eq!(rig.report("0.2", 4, ""), Ok(()));
    for _ in 0..7 {
        rig.pass(9_000);
        rig.load(B, 2, 0);
    }
    assert!(rig.log.contains("worker 10.0.0.3:27777 is lost"), "{}", rig.log);
    assert_eq!(rig.numbers(), (4, 2, 1));
    assert!(rig.results().iter().any(|r| r.task_id == "0.2" && r.result == "maybe worker down"));
    rig.sent();
    rig.ok("0.1");
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
}
