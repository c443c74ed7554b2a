//! `map()`.

use super::rig::{B, C, ID, OWN, Rig, at};
use crate::tasks::{
    api::{LAST_TASK, MapTask, PeerError, ROOT_TASK, SubTask},
    tracker::Event,
};

#[test]
fn a_message_that_comes_twice_adds_its_tasks_once() {
    let mut rig = Rig::new("MAP", "API", "");
    assert_eq!(rig.map(&["0.0", "0.1"]), Ok(()));
    assert_eq!(rig.map(&["0.0", "0.1"]), Ok(()));
    assert_eq!(rig.map(&["0.1", "0.2"]), Ok(()), "a mapping task that was executed again");
    assert_eq!(rig.numbers(), (4, 0, 0));
}

#[test]
fn sub_tasks_begin_before_their_root_has_ended() {
    let mut rig = Rig::new("MAP", "API", "");
    rig.sent();
    assert_eq!(rig.map(&["0.0"]), Ok(()));
    assert_eq!(rig.sent().len(), 1);
    rig.ok("0.0");
    assert!(rig.end().is_none(), "the root is at work");
    rig.ok("0");
    assert!(rig.end().is_some());
}

#[test]
fn sub_tasks_may_map_again() {
    let mut rig = Rig::new("MAP_REDUCE", "API", "");
    assert_eq!(rig.map(&["0.0"]), Ok(()));
    rig.ok("0");
    assert_eq!(rig.map(&["0.0.0", "0.0.1"]), Ok(()));
    rig.ok("0.0");
    rig.sent();
    rig.ok("0.0.0");
    assert!(rig.sent().is_empty());
    rig.ok("0.0.1");
    assert_eq!(rig.ids(), at(&[("9999", OWN)]));
}

#[test]
fn nothing_is_added_when_the_last_task_has_begun() {
    let mut rig = Rig::new("MAP_REDUCE", "API", "");
    assert_eq!(rig.map(&["0.0"]), Ok(()));
    rig.ok("0.0");
    rig.ok("0");
    assert_eq!(rig.map(&["0.0"]), Ok(()), "it is there: the answer was lost");
    let refused = rig.map(&["0.0", "0.5"]);
    assert!(matches!(&refused, Err(PeerError::Refused(why)) if why.contains("its last one has begun")), "{refused:?}");
    assert_eq!(rig.numbers(), (3, 2, 0));
}

#[test]
fn nonsense_is_refused_as_a_whole_and_says_why() {
    let mut rig = Rig::new("MAP", "API", "");
    let deep = format!("0{}", ".1".repeat(130));
    for (ids, why) in [
        (vec!["0.0", "0.0"], "two of the mapped tasks have the id 0.0"),
        (vec!["0.0", ""], "an id of 0 bytes"),
        (vec!["0.0", deep.as_str()], "every level of mapping makes it longer"),
    ] {
        let refused = rig.map(&ids);
        assert!(matches!(&refused, Err(PeerError::Refused(text)) if text.contains(why)), "{refused:?}");
    }
    assert_eq!(rig.numbers(), (1, 0, 0), "all or nothing");
}

#[test]
fn reserved_names_are_changed() {
    let mut rig = Rig::new("MAP", "API", "");
    rig.sent();
    for (i, name) in [ROOT_TASK, LAST_TASK, "mine"].into_iter().enumerate() {
        let sub_tasks = vec![SubTask { task_id: format!("0.{i}"), content: Vec::new() }];
        let map = MapTask { instance_id: ID, sub_instance_id: ID, task_name: name.to_owned(), sub_tasks };
        assert_eq!(rig.say(Event::Map(map)), Ok(()));
    }
    let mut names: Vec<String> = rig.sent().into_iter().map(|(_, task, _)| task.task_name).collect();
    names.sort();
    assert_eq!(names, ["X-OMS_LAST_TASK", "X-OMS_ROOT_TASK", "mine"]);
}

#[test]
fn workers_get_twice_their_concurrency_and_more_with_every_report() {
    let mut rig = Rig::new("MAP", "API", "");
    let ids: Vec<String> = (0..40).map(|i| format!("0.{i}")).collect();
    assert_eq!(rig.map(&ids.iter().map(String::as_str).collect::<Vec<_>>()), Ok(()));
    let sent = rig.sent();
    // The root takes one place at the own worker.
    for (address, most) in [(OWN, 4), (B, 4), (C, 4)] {
        assert_eq!(sent.iter().filter(|(to, ..)| to == address).count(), most, "{address}");
    }
    let first = sent.iter().find(|(address, ..)| address == B).map(|(_, task, _)| task.task_id.clone());
    rig.ok(&first.expect("a task at B"));
    let next = rig.sent();
    assert!(next.len() == 1 && next[0].0 == B, "the place is filled at once");
}

#[test]
fn with_paddling_the_own_worker_gets_no_mapped_task() {
    let more = r#","advancedRuntimeConfig":"{\"taskTrackerBehavior\":11}""#;
    let mut rig = Rig::new("MAP_REDUCE", "API", more);
    rig.sent();
    assert_eq!(rig.map(&["0.0", "0.1", "0.2", "0.3"]), Ok(()));
    assert_eq!(rig.ids(), at(&[("0.0", B), ("0.1", C), ("0.2", B), ("0.3", C)]));
}

#[test]
fn other_bodies_under_known_ids_are_refused_as_a_whole_and_not_lost() {
    let mut rig = Rig::new("MAP", "API", "");
    assert_eq!(rig.map_bodies(&[("0.0", b"rows 0-9"), ("0.1", b"rows 10-19")]), Ok(()));
    // The root was executed again and finds other rows left to do.
    let Err(PeerError::Refused(why)) = rig.map_bodies(&[("0.2", b"rows 40-49"), ("0.0", b"rows 20-29")]) else {
        panic!("tasks were lost")
    };
    assert!(why.contains("task 0.0 is there already with another body"), "{why}");
    assert_eq!(rig.numbers(), (3, 0, 0), "none of them was stored");
}
