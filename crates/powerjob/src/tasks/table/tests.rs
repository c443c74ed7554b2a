//! The statements against SQLite in memory, and the sweeper against a file.

use rusqlite::types::Value;

use super::{NewTask, Query, Table, TaskStore, results, sweep, test_connection};
use crate::tasks::api::{SubTask, TaskStatus};

fn add(table: &Table<'_>, run: i64, id: &str) -> bool {
    table.add(run, &NewTask { id, name: "t", content: Some(b"x"), address: None }, 1).expect("stored")
}

#[test]
fn tasks_wait_in_order_are_listed_once_and_counted_by_status() {
    let db = test_connection();
    let table = Table::new(&db, "main", 7);
    let run = table.add_run(7, "{}").expect("a run");
    assert!(["0", "0.1", "0.0", "0.2"].iter().all(|id| add(&table, run, id)));
    assert!(!add(&table, run, "0.1"), "it is there");
    let waiting = table.waiting(run, 3).expect("read");
    assert_eq!(waiting.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["0", "0.1", "0.0"]);
    table.dispatched(waiting[0].n, "a:1", 2).expect("written");
    table.ended(waiting[1].n, true, "ok", 5, 5).expect("written");
    table.back(waiting[2].n, Some("b:1"), 1, 0, 6).expect("written");
    assert_eq!(table.waiting(run, 10).expect("read").len(), 1);
    assert_eq!(table.waiting_fixed(run).expect("read")[0].address.as_deref(), Some("b:1"));
    assert_eq!(table.in_flight(run).expect("read")[0].id, "0");
    let counts = table.counts(run).expect("read");
    assert!(counts.contains(&(TaskStatus::Succeeded, false, 1)), "{counts:?}");
    assert!(counts.contains(&(TaskStatus::WaitingDispatch, true, 1)), "{counts:?}");
    let task = |id: &str| SubTask { task_id: id.to_owned(), content: Vec::new() };
    assert!(table.has_all(run, &[task("0.0"), task("0.1")]).expect("read"));
    assert!(!table.has_all(run, &[task("0.0"), task("0.9")]).expect("read"));
}

#[test]
fn instances_runs_and_lanes_do_not_see_each_other() {
    let db = test_connection();
    let (first, second) = (Table::new(&db, "main", 7), Table::new(&db, "other", 7));
    first.put_tracker("one", None).expect("written");
    assert_eq!(second.tracker().expect("read"), None);
    let (a, b) = (first.add_run(1, "{}").expect("a run"), first.add_run(2, "{}").expect("a run"));
    assert!(add(&first, a, "1") && add(&first, b, "1"));
    assert!(!first.end_run(a, 1).expect("ended"), "a small run is deleted at once");
    assert_eq!(first.runs().expect("read").len(), 1);
    assert!(first.find(b, "1").expect("read").is_some());
    first.forget().expect("forgotten");
    assert!(first.runs().expect("read").is_empty() && first.tracker().expect("read").is_none());
}

#[test]
fn results_come_page_by_page_in_the_order_of_the_tasks() {
    let db = test_connection();
    let table = Table::new(&db, "main", 7);
    let (other, run) = (table.add_run(1, "{}").expect("a run"), table.add_run(2, "{}").expect("a run"));
    assert!(add(&table, other, "0"));
    for i in 0..25 {
        let id = if i == 0 { "0".to_owned() } else { format!("0.{i}") };
        assert!(add(&table, run, &id));
        let row = table.find(run, &id).expect("read").expect("there");
        if i != 3 {
            table.ended(row.n, i % 2 == 0, &i.to_string(), 1, 1).expect("written");
        }
    }
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = results(&db, run, "0", after.as_deref(), 10).expect("read");
        let Some(last) = page.last() else { break };
        after = Some(last.task_id.clone());
        all.extend(page);
    }
    let texts: Vec<String> = all.iter().map(|result| result.result.clone()).collect();
    assert_eq!(texts, (0..25).filter(|i| *i != 3).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(all.iter().all(|result| result.success == (result.result.parse::<i32>().expect("a number") % 2 == 0)));
}

#[tokio::test]
async fn dead_runs_are_swept_piece_by_piece_and_the_file_is_opened_late() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tasks.db");
    let tasks = TaskStore::at(path.clone());
    assert!(!path.exists(), "nobody needs it yet");
    let store = tasks.open().await.expect("opened").clone();
    let fill = |db: &rusqlite::Connection| {
        let table = Table::new(db, "main", 7);
        let run = table.add_run(7, "{}")?;
        for i in 0..5_000 {
            table.add(run, &NewTask { id: &i.to_string(), name: "t", content: None, address: None }, 1)?;
        }
        table.put_tracker("{}", Some(5))?;
        table.end_run(run, 5_000)
    };
    assert!(store.write(fill).await.expect("written"), "left to the background");
    assert!(store.write(sweep::chunk).await.expect("swept"));
    let count = |db: &rusqlite::Connection| db.query_row("SELECT count(*) FROM task", [], |row| row.get::<_, i64>(0));
    assert!(store.read(count).await.expect("read") <= 3_000);
    tasks.sweep();
    while store.read(count).await.expect("read") > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    drop((store, tasks));
    let again = TaskStore::at(path);
    let trackers = |db: &rusqlite::Connection| db.query_row("SELECT count(*) FROM tracker", [], |r| r.get::<_, i64>(0));
    let store = again.open().await.expect("opened").clone();
    // An end of long ago is forgotten.
    while store.read(trackers).await.expect("read") > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // Also while the worker is up, and whatever else there is.
    let fill = |db: &rusqlite::Connection| {
        let now = i64::MAX;
        (0..5_000).try_for_each(|id| Table::new(db, "main", id).put_tracker("{}", Some(if id == 7 { now } else { 5 })))
    };
    store.write(fill).await.expect("written");
    again.tidy("main", std::sync::Arc::new(|_| true)).await.expect("tidied");
    while store.read(trackers).await.expect("read") > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[test]
fn rounds_look_only_at_what_they_are_for() {
    let db = test_connection();
    for (sql, indexes) in [(sweep::OLD_ENDS, vec!["tracker_ended"]), (sweep::UNENDED, vec!["tracker_open", "run_open"])]
    {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a plan");
        let parameters = plan.parameter_count();
        let values = vec![Value::Null; parameters];
        let steps = plan.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).expect("a plan");
        let steps: Vec<String> = steps.map(|step| step.expect("a step")).collect();
        assert!(indexes.iter().all(|index| steps.iter().any(|step| step.contains(index))), "{steps:?}");
        assert!(
            !steps.iter().any(|step| step.starts_with("SCAN tracker") || step.starts_with("SCAN run")),
            "{steps:?}"
        );
    }
}

#[test]
fn instances_that_nobody_has_open_are_forgotten_and_no_others() {
    let db = test_connection();
    for id in 1..=4 {
        let table = Table::new(&db, "main", id);
        table.put_tracker("{}", (id == 4).then_some(1)).expect("written");
        let run = table.add_run(id, "{}").expect("a run");
        assert!(add(&table, run, "0"));
    }
    let other = Table::new(&db, "other", 1);
    other.put_tracker("{}", None).expect("written");
    // Ended, and a run is left all the same.
    assert_eq!(sweep::forget_orphans(&db, "main", &|id| id == 2).expect("looked"), 3);
    for (id, left) in [(1, 0), (2, 1), (3, 0), (4, 0)] {
        assert_eq!(Table::new(&db, "main", id).runs().expect("read").len(), left, "{id}");
    }
    assert!(other.tracker().expect("read").is_some(), "another lane's");
    while sweep::chunk(&db).expect("swept") {}
    let tasks: i64 = db.query_row("SELECT count(*) FROM task", [], |row| row.get(0)).expect("read");
    assert_eq!(tasks, 1);
    assert_eq!(sweep::forget_orphans(&db, "main", &|id| id == 2).expect("looked"), 0);
}

fn chosen(text: &str) -> Vec<String> {
    let db = test_connection();
    let table = Table::new(&db, "main", 7);
    let run = table.add_run(7, "{}").expect("a run");
    for (i, id) in ["0", "0.0", "0.1", "0.2"].iter().enumerate() {
        assert!(add(&table, run, id));
        let row = table.find(run, id).expect("read").expect("there");
        let at = i64::try_from(i).expect("small");
        match i {
            0 | 1 => table.ended(row.n, i == 0, "done", at, at).expect("written"),
            2 => table.dispatched(row.n, "b:2", at).expect("written"),
            _ => {}
        }
    }
    let tasks = Query::understand(text).run(&db, run).expect("a statement of our own");
    tasks.into_iter().map(|task| task.task_id).collect()
}

#[test]
fn a_custom_query_chooses_tasks_and_never_becomes_sql() {
    assert_eq!(chosen("status in (5, 6) order by last_modified_time desc"), ["0.0", "0"]);
    assert_eq!(chosen("status = 5"), ["0.0"]);
    assert_eq!(chosen("STATUS IN (1,2) ORDER BY created_time asc"), ["0.1", "0.2"]);
    assert_eq!(chosen("task_id = '0.1' and status < 5"), ["0.1"]);
    assert_eq!(chosen("address like 'b:%'"), ["0.1"]);
    for nonsense in ["", "1=1", "status in (5", "status = 5; drop table task", "id in (select 1)", "status = 5 or 1=1"]
    {
        assert_eq!(chosen(nonsense), ["0.0", "0"], "{nonsense}");
    }
}

#[test]
fn a_query_carries_its_values_apart_from_its_text() {
    let query = Query::understand("task_id = 'x'' or ''1''=''1'");
    assert_eq!(query, Query::default());
    let query = Query::understand("result = 'a; b' order by task_id");
    assert_eq!(query.conditions, [("result", "=", vec![Value::Text("a; b".to_owned())])]);
}
