//! FIXED_RATE and FIXED_DELAY.

use super::rig::{B, OWN, Rig, at};
use crate::{RestartPolicy, processor::StopReason, tasks::tracker::Event};

fn rate(kind: &str, more: &str) -> Rig {
    Rig::new(kind, "FIXED_RATE", &format!(r#","timeExpression":"1000"{more}"#))
}

#[test]
fn a_rate_fires_at_once_and_then_by_the_clock_whatever_still_runs() {
    let mut rig = rate("STANDALONE", "");
    assert_eq!(rig.ids(), at(&[("1", OWN)]));
    rig.pass(2_500);
    assert_eq!(rig.ids(), at(&[("2", OWN), ("3", OWN)]));
    rig.ok("2");
    rig.fails("1");
    assert_eq!(rig.numbers(), (3, 1, 1));
    let shown: Vec<_> = rig.tracker.firings().into_iter().map(|firing| (firing.sub, firing.success)).collect();
    assert_eq!(shown, [(3, None), (2, Some(true)), (1, Some(false))]);
}

#[test]
fn a_delay_waits_for_the_end_of_the_run_before() {
    let mut rig = Rig::new("STANDALONE", "FIXED_DELAY", r#","timeExpression":"1000""#);
    rig.pass(10_000);
    assert_eq!(rig.ids(), at(&[("1", OWN)]));
    rig.ok("1");
    rig.pass(500);
    assert!(rig.sent().is_empty());
    rig.pass(500);
    assert_eq!(rig.ids(), at(&[("2", OWN)]));
}

#[test]
fn too_many_runs_at_once_fail_by_name_and_alarm() {
    let mut rig = rate("STANDALONE", r#","maxInstanceNum":2"#);
    rig.pass(3_000);
    assert_eq!(rig.ids(), at(&[("1", OWN), ("2", OWN)]));
    assert_eq!(rig.numbers(), (4, 0, 2));
    let newest = rig.tracker.firings().remove(0);
    assert_eq!((newest.sub, newest.result.as_str(), newest.success), (4, "TOO_MUCH_INSTANCE", Some(false)));
    assert_eq!(rig.tracker.progress().alert.as_deref(), Some("TOO_MUCH_INSTANCE"));
    assert_eq!(rig.say(Event::AlertTaken), Ok(()));
    assert_eq!(rig.tracker.progress().alert, None);
    assert_eq!(rig.say(Event::AlertBack("again".to_owned())), Ok(()));
    assert_eq!(rig.tracker.progress().alert.as_deref(), Some("again"));
}

#[test]
fn a_run_whose_time_is_over_fails_and_the_job_goes_on() {
    let mut rig = rate("STANDALONE", r#","instanceTimeoutMS":1500"#);
    rig.pass(2_000);
    assert_eq!(rig.numbers(), (3, 0, 1));
    assert!(rig.tracker.firings().iter().any(|firing| firing.sub == 1 && firing.result == "RUNNING_TIMEOUT"));
    rig.ok("1");
    assert_eq!(rig.numbers(), (3, 0, 1), "too late");
    assert!(rig.end().is_none());
}

#[test]
fn every_firing_of_a_map_reduce_is_a_whole_one() {
    let mut rig = Rig::new("MAP_REDUCE", "FIXED_DELAY", r#","timeExpression":"1000""#);
    rig.ok("1");
    assert_eq!(rig.ids(), at(&[("1", OWN), ("L1", OWN)]));
    rig.ok("L1");
    assert_eq!(rig.numbers(), (1, 1, 0));
    assert_eq!(rig.tracker.firings()[0].result, "L1 is done");
    let mut rig = rate("BROADCAST", "");
    rig.ok("1");
    assert_eq!(rig.ids().len(), 4);
}

#[test]
fn a_lost_worker_fails_its_tasks_of_a_frequent_job() {
    let mut rig = Rig::new("BROADCAST", "FIXED_DELAY", r#","timeExpression":"1000""#);
    rig.ok("1");
    rig.ok("1.0");
    rig.ok("1.2");
    assert_eq!(rig.report("1.1", 4, ""), Ok(()));
    rig.sent();
    rig.pass(62_000);
    assert!(rig.log.contains(&format!("worker {B} is lost")), "{}", rig.log);
    assert_eq!(rig.ids(), at(&[("L1", OWN)]));
}

#[test]
fn without_a_server_for_50_s_nothing_fires_and_then_it_goes_on_without_making_up() {
    let mut rig = rate("STANDALONE", "");
    rig.sent();
    rig.server_silent = 49_999;
    rig.pass(1_000);
    assert_eq!(rig.sent().len(), 1);
    assert_eq!((rig.report("1", 4, ""), rig.report("2", 4, "")), (Ok(()), Ok(())));
    rig.server_silent = 50_000;
    rig.pass(30_000);
    assert!(rig.sent().is_empty());
    assert!(rig.log.contains("does not fire until one does"), "{}", rig.log);
    rig.server_silent = 0;
    rig.pass(3_000);
    assert!((2..=4).contains(&rig.sent().len()));
    assert!(rig.log.contains("fires again"));
}

#[test]
fn a_restarted_tracker_counts_on_and_keeps_its_history() {
    let mut rig = rate("STANDALONE", "");
    rig.pass(14_000);
    for number in 1..=14 {
        rig.ok(&number.to_string());
    }
    rig.sent();
    rig.restart(RestartPolicy::Rerun);
    assert_eq!(rig.ids(), at(&[("15", OWN), ("16", OWN)]), "what was cut, and the next one");
    assert_eq!(rig.numbers(), (16, 14, 0));
    let shown: Vec<i64> = rig.tracker.firings().into_iter().map(|firing| firing.sub).collect();
    assert_eq!(shown, (7..=16).rev().collect::<Vec<_>>());
    rig.stop(StopReason::Stopped);
    assert!(!rig.is_stored());
}

#[test]
fn a_process_that_slept_does_not_make_up_for_everything() {
    let mut rig = rate("STANDALONE", "");
    rig.sent();
    rig.mono += 3_600_000;
    rig.pass(500);
    assert!(rig.sent().len() <= 12);
}
