//! Workers: lost, idle, unreachable, new ones.

use super::rig::{B, C, OWN, Rig, at};

const D: &str = "10.0.0.4:27777";

fn mapped(more: &str) -> Rig {
    let mut rig = Rig::new("MAP_REDUCE", "API", more);
    assert_eq!(rig.map(&["0.0", "0.1", "0.2"]), Ok(()));
    rig.ok("0");
    for id in ["0.0", "0.1", "0.2"] {
        assert_eq!(rig.report(id, 4, ""), Ok(()));
    }
    rig.asked_for_workers();
    rig.sent();
    rig
}

#[test]
fn tasks_of_a_worker_that_is_silent_for_60_s_go_to_others() {
    let mut rig = mapped("");
    for _ in 0..6 {
        rig.pass(9_900);
        rig.load(C, 2, 0);
    }
    assert!(rig.sent().is_empty());
    rig.pass(3_000);
    let sent = rig.ids();
    assert!(sent.len() == 1 && sent[0].0 == "0.1" && sent[0].1 != B, "{sent:?}");
    assert!(rig.log.contains("worker 10.0.0.2:27777 is lost: it has said nothing for 60 s"), "{}", rig.log);
    assert_eq!(rig.numbers(), (4, 1, 0), "nothing of it counts as a failure");
}

#[test]
fn the_own_worker_is_never_lost() {
    let mut rig = mapped("");
    for _ in 0..20 {
        rig.pass(9_900);
        rig.load(B, 2, 0);
        rig.load(C, 2, 0);
    }
    assert!(rig.sent().is_empty() && !rig.log.contains("lost"), "{}", rig.log);
}

#[test]
fn an_idle_worker_fails_what_it_had_and_may_get_more() {
    let mut rig = mapped(r#","taskRetryNum":1"#);
    rig.load(B, 1, 0);
    let sent = rig.sent();
    assert_eq!((sent[0].1.task_id.as_str(), sent[0].1.task_current_retry_nums), ("0.1", 1));
    let mut rig = mapped("");
    rig.load(B, 1, 0);
    assert!(rig.results().iter().any(|r| r.task_id == "0.1" && r.result == "SYSTEM: unreceived process result"));
    for _ in 0..20 {
        rig.pass(10_000);
        rig.load(C, 2, 0);
    }
    assert!(!rig.log.contains("10.0.0.2:27777 is lost"), "who has nothing owes no word");
}

#[test]
fn an_old_word_of_a_worker_changes_nothing() {
    let mut rig = mapped("");
    rig.load(B, 2, 0);
    rig.time -= 1_000;
    rig.load(B, 1, 0);
    assert_eq!(rig.numbers(), (4, 1, 0));
}

#[test]
fn a_worker_that_no_request_reaches_gets_nothing_for_a_while_and_its_tasks_go_elsewhere() {
    let mut rig = Rig::new("MAP", "API", "");
    assert_eq!(rig.map(&["0.0", "0.1", "0.2"]), Ok(()));
    let (_, task, ticket) = rig.sent().into_iter().find(|(address, ..)| address == B).expect("one for B");
    rig.refused(ticket.clone());
    rig.pass(500);
    let again = rig.ids();
    assert!(again.len() == 1 && again[0].0 == task.task_id, "{again:?}");
    rig.refused(ticket);
    assert!(rig.sent().is_empty(), "an answer to an earlier sending");
    assert!(rig.log.contains("cannot be given tasks: connection refused"), "{}", rig.log);
}

#[test]
fn workers_that_join_later_take_part_up_to_the_limit() {
    let mut rig = mapped("");
    rig.pass(61_000);
    assert!(rig.asked_for_workers());
    rig.cluster(&[OWN, B, C, D]);
    assert!(rig.log.contains("worker 10.0.0.4:27777 has joined"), "{}", rig.log);
    let ids: Vec<String> = (0..20).map(|i| format!("0.2.{i}")).collect();
    assert_eq!(rig.map(&ids.iter().map(String::as_str).collect::<Vec<_>>()), Ok(()));
    assert!(rig.sent().iter().any(|(address, ..)| address == D));
    let mut full = mapped(r#","maxWorkerCount":3"#);
    full.pass(59_000);
    full.load(B, 2, 0);
    full.load(C, 2, 0);
    full.pass(2_000);
    assert!(!full.asked_for_workers(), "there are enough");
    full.cluster(&[OWN, B, C, D]);
    assert!(!full.log.contains("has joined"));
    let mut broadcast = Rig::new("BROADCAST", "API", "");
    broadcast.pass(61_000);
    assert!(!broadcast.asked_for_workers(), "a broadcast goes to those that were there");
}

#[test]
fn a_worker_that_was_given_up_and_speaks_again_may_work_again() {
    let mut rig = mapped("");
    rig.pass(62_000);
    assert!(rig.log.contains("10.0.0.2:27777 is lost"), "{}", rig.log);
    rig.load(B, 2, 0);
    assert!(rig.log.contains("worker 10.0.0.2:27777 is back"));
    rig.load(D, 2, 0);
    assert!(!rig.log.contains("10.0.0.4:27777"), "a stranger is no worker of this instance");
}

#[test]
fn where_nobody_may_take_the_tasks_a_person_is_told() {
    let more = r#","advancedRuntimeConfig":"{\"taskTrackerBehavior\":11}""#;
    let mut rig = mapped(more);
    rig.pass(65_000);
    assert!(rig.log.contains("start another worker of the app"), "{}", rig.log);
    rig.cluster(&[OWN, D]);
    let sent = rig.ids();
    assert_eq!(sent, at(&[("0.0", D), ("0.1", D), ("0.2", D)]));
}

#[test]
fn progress_is_told_now_and_then_and_at_the_end_who_did_what() {
    let mut rig = mapped("");
    rig.pass(11_000);
    assert!(rig.log.contains("1 of 4 tasks have ended (0 failed), 0 wait, 3 are at 3 workers"), "{}", rig.log);
    for id in ["0.0", "0.1", "0.2", "9999"] {
        rig.ok(id);
    }
    let told = "tasks by worker: 10.0.0.1:27777: 3, 10.0.0.2:27777: 1, 10.0.0.3:27777: 1";
    assert!(rig.log.contains(told), "{}", rig.log);
}
