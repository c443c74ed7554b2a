//! Tasks of which nobody knows whether they arrived, and what a failure says of the next try.

use std::collections::BTreeMap;

use super::rig::{B, C, ID, OWN, Rig, at};
use crate::{
    RestartPolicy,
    tasks::{api::ReportTask, tracker::Event},
};

/// `0.1` was sent to B, which has said nothing; the other two are at work. The tracker has been waiting for B for 15 s.
fn held() -> Rig {
    let mut rig = Rig::new("MAP", "API", r#","taskRetryNum":1"#);
    assert_eq!(rig.map(&["0.0", "0.1", "0.2"]), Ok(()));
    rig.ok("0");
    assert_eq!(rig.ids(), at(&[("0", OWN), ("0.0", OWN), ("0.1", B), ("0.2", C)]));
    for id in ["0.0", "0.2"] {
        assert_eq!(rig.report(id, 4, ""), Ok(()));
    }
    rig.pass(15_500);
    rig
}

#[test]
fn a_task_that_may_be_at_a_worker_goes_to_it_again_and_to_others_only_when_it_is_lost() {
    let mut rig = held();
    assert_eq!(rig.ids(), at(&[("0.1", B)]));
    rig.pass(16_000);
    assert_eq!(rig.ids(), at(&[("0.1", B)]), "it has not said a word: nobody knows what it has");
    rig.load(C, 2, 0);
    rig.pass(30_000);
    assert!(rig.log.contains("10.0.0.2:27777 is lost"), "{}", rig.log);
    let (last, before) = rig.ids().split_last().map(|(last, all)| (last.clone(), all.to_vec())).expect("sent on");
    assert!(last.0 == "0.1" && last.1 != B, "{last:?}");
    assert!(before.iter().all(|(_, address)| address == B), "{before:?}");
    assert_eq!(rig.numbers(), (4, 1, 0));
}

#[test]
fn a_worker_that_speaks_and_does_not_acknowledge_what_it_was_sent_twice_does_not_have_it() {
    let mut rig = held();
    assert_eq!(rig.ids(), at(&[("0.1", B)]));
    rig.pass(6_000);
    rig.load(B, 2, 0);
    rig.pass(10_000);
    let sent = rig.ids();
    assert!(sent.len() == 1 && sent[0].0 == "0.1" && sent[0].1 != B, "{sent:?}");
}

#[test]
fn a_worker_that_cannot_be_reached_when_it_is_asked_again_keeps_the_task_until_it_is_lost() {
    for restarted in [false, true] {
        let mut rig = held();
        let (address, _, ticket) = rig.sent().remove(0);
        assert_eq!(address, B);
        rig.refused(ticket);
        if restarted {
            // That B has it perhaps is in the table.
            rig.restart(RestartPolicy::Rerun);
            rig.sent();
            assert_eq!(rig.report("0.0", 4, ""), Ok(()));
        }
        let mut waited = 0;
        while !rig.log.contains("10.0.0.2:27777 is lost") {
            assert!(waited < 90_000, "{}", rig.log);
            for (address, task, ticket) in rig.sent() {
                assert_eq!((task.task_id.as_str(), address.as_str()), ("0.1", B));
                rig.refused(ticket);
            }
            rig.pass(500);
            rig.load(C, 2, 0);
            waited += 500;
        }
        let sent = rig.ids();
        assert!(sent.iter().any(|(id, address)| id == "0.1" && address != B), "{sent:?}");
        assert_eq!(rig.numbers(), (4, 1, 0), "it has not failed by that");
    }
}

#[test]
fn how_often_a_task_was_sent_in_vain_is_known_after_a_restart() {
    let mut rig = held();
    for _ in 0..5 {
        rig.load(B, 2, 0);
        rig.load(C, 2, 0);
        rig.pass(16_000);
        rig.sent();
    }
    rig.restart(RestartPolicy::Rerun);
    for _ in 0..5 {
        assert_eq!(rig.report("0.0", 4, ""), Ok(()));
        for address in [OWN, B, C] {
            rig.load(address, 2, 0);
        }
        rig.pass(16_000);
        rig.sent();
    }
    assert_eq!(rig.numbers(), (4, 1, 1), "{}", rig.log);
    assert!(rig.results().iter().any(|r| r.result.contains("sent 10 times and no worker acknowledged it")));
}

#[test]
fn failed_attempts_of_a_task_are_known_after_a_restart() {
    let mut rig = held();
    assert_eq!(rig.report("0.2", 5, "broken"), Ok(()));
    rig.restart(RestartPolicy::Rerun);
    let again = rig.sent().into_iter().map(|(_, task, _)| task).find(|task| task.task_id == "0.2");
    assert!(again.is_none_or(|task| task.task_current_retry_nums == 1));
    assert_eq!(rig.report("0.2", 5, "broken again"), Ok(()));
    assert!(rig.results().iter().any(|r| r.task_id == "0.2" && r.result == "broken again"), "no third try");
}

#[test]
fn retries_are_not_used_up_on_a_task_that_would_fail_again_the_same_way() {
    let mut rig = held();
    rig.sent();
    let report = ReportTask {
        instance_id: ID,
        sub_instance_id: ID,
        task_id: "0.0".to_owned(),
        status: 5,
        result: Some("no such dataset".to_owned()),
        report_time: 1_000,
        rejected: true,
        ..ReportTask::default()
    };
    assert_eq!(rig.say(Event::Report(report)), Ok(()));
    assert_eq!(rig.numbers(), (4, 1, 1));
    assert!(rig.ids().iter().all(|(id, _)| id != "0.0"), "one retry was left");
    rig.restart(RestartPolicy::Rerun);
    assert!(rig.ids().iter().all(|(id, _)| id != "0.0"), "and none is made after a restart");
}

#[test]
fn an_instance_whose_context_becomes_too_long_fails_with_key_and_size_in_its_result() {
    let mut rig = Rig::new("MAP", "WORKFLOW", r#","wfInstanceId":9"#);
    assert_eq!(rig.map(&["0.0"]), Ok(()));
    rig.ok("0");
    let appends = |key: &str, length: usize| ReportTask {
        instance_id: ID,
        sub_instance_id: ID,
        task_id: "0.0".to_owned(),
        status: 6,
        report_time: 1_000,
        appended_wf_context: Some(BTreeMap::from([(key.to_owned(), "x".repeat(length))])),
        ..ReportTask::default()
    };
    assert_eq!(rig.say(Event::Report(appends("rows", 9_000))), Ok(()));
    let end = rig.end().expect("it has ended");
    assert!(!end.success && end.context.is_empty(), "{end:?}");
    for part in ["task 0.0", "key `rows` alone takes 9009", "8192 are allowed", "The run itself succeeded: total:2"] {
        assert!(end.result.contains(part), "{part}: {}", end.result);
    }
}

#[test]
fn a_context_that_became_too_long_is_not_forgotten_by_a_restart() {
    let mut rig = Rig::new("MAP", "WORKFLOW", r#","wfInstanceId":9"#);
    assert_eq!(rig.map(&["0.0", "0.1"]), Ok(()));
    rig.ok("0");
    let report = |id: &str, context: Option<(&str, usize)>| ReportTask {
        instance_id: ID,
        sub_instance_id: ID,
        task_id: id.to_owned(),
        status: 6,
        report_time: 1_000,
        appended_wf_context: context.map(|(key, length)| BTreeMap::from([(key.to_owned(), "x".repeat(length))])),
        ..ReportTask::default()
    };
    assert_eq!(rig.say(Event::Report(report("0.0", Some(("rows", 9_000))))), Ok(()));
    rig.restart(RestartPolicy::Rerun);
    assert_eq!(rig.say(Event::Report(report("0.1", Some(("k", 1))))), Ok(()));
    let end = rig.end().expect("it has ended");
    assert!(!end.success && end.result.contains("`rows`") && end.context.is_empty(), "{end:?}");
}
