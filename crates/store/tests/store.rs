//! The store's promises, on real files and with real processes.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Barrier, mpsc},
    time::Duration,
};

use testrig_store::{LockError, Migration, StateDirLock, Store, StoreError, rusqlite};

const TABLES: &[Migration] = &[
    Migration { module: "a", version: 1, sql: "CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT)" },
    Migration { module: "b", version: 1, sql: "CREATE TABLE other (id INTEGER PRIMARY KEY)" },
];

fn insert(id: i64) -> impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<usize> + Send {
    move |conn| conn.execute("INSERT INTO item (id, text) VALUES (?1, hex(randomblob(100)))", [id])
}

fn ids(store: &Store) -> Vec<i64> {
    store
        .read_blocking(|conn| {
            let mut query = conn.prepare("SELECT id FROM item ORDER BY id")?;
            query.query_map([], |row| row.get(0))?.collect()
        })
        .expect("the table can be read")
}

/// Holds the writer until told, so that what is queued meanwhile becomes one group.
fn hold(store: &Store) -> mpsc::Sender<()> {
    let (go, held) = mpsc::channel();
    let reached = Arc::new(Barrier::new(2));
    let (store, inside) = (store.clone(), Arc::clone(&reached));
    std::thread::spawn(move || {
        store.write_blocking(move |_| {
            inside.wait();
            held.recv().expect("the test lets go");
            Ok(())
        })
    });
    reached.wait();
    go
}

#[tokio::test]
async fn a_write_is_visible_to_readers_when_it_returns() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("new/sub/state.db"), TABLES).expect("a new store");
    for id in 0..20 {
        assert_eq!(store.write(insert(id)).await.expect("a write"), 1);
        let count: i64 =
            store.read(|conn| conn.query_row("SELECT count(*) FROM item", [], |row| row.get(0))).await.expect("a read");
        assert_eq!(count, id + 1);
    }
}

#[test]
fn an_operation_that_fails_or_panics_undoes_only_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("state.db"), TABLES).expect("a new store");
    let go = hold(&store);
    let results = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..9)
            .map(|id| {
                let store = store.clone();
                let handle = scope.spawn(move || {
                    store.write_blocking(move |conn| {
                        insert(id)(conn)?;
                        assert_ne!(id, 7, "seven is unlucky");
                        if id % 3 == 1 { insert(id)(conn) } else { Ok(1) }
                    })
                });
                // One after the other into the queue.
                std::thread::sleep(Duration::from_millis(5));
                handle
            })
            .collect();
        go.send(()).expect("the writer is held");
        handles.into_iter().map(|handle| handle.join().expect("no panic reaches the caller")).collect::<Vec<_>>()
    });
    assert_eq!(ids(&store), [0, 2, 3, 5, 6, 8]);
    assert!(matches!(&results[1], Err(StoreError::Operation { .. })), "{:?}", results[1]);
    let unlucky = results[7].as_ref().expect_err("it panicked").to_string();
    assert!(unlucky.contains("seven is unlucky"), "{unlucky}");
}

#[test]
fn an_operation_that_ends_the_transaction_by_itself_is_refused_and_the_store_goes_on() {
    let store = Store::open_in_memory(TABLES).expect("a store");
    let result = store.write_blocking(|conn| conn.execute_batch("INSERT INTO item (id) VALUES (1); ROLLBACK"));
    assert!(matches!(result, Err(StoreError::Commit { .. })), "{result:?}");
    store.write_blocking(insert(2)).expect("the store goes on");
    assert_eq!(ids(&store), [2]);
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_and_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let store = Store::open(&path, TABLES).expect("a new store");
    store.write_blocking(insert(-1)).expect("there is room");
    let pages = |n: i64| {
        move |conn: &rusqlite::Connection| conn.query_row(&format!("PRAGMA max_page_count={n}"), [], |_| Ok(()))
    };
    store.write_blocking(pages(12)).expect("a limit");
    let mut acknowledged = vec![-1];
    let full = (0..1000)
        .find_map(|id| match store.write_blocking(insert(id)) {
            Ok(_) => {
                acknowledged.push(id);
                None
            }
            Err(e) => Some(e),
        })
        .expect("the disk becomes full");
    assert!(matches!(full, StoreError::DiskFull { .. }), "{full:?}");
    assert!(full.is_passing());
    assert!(full.to_string().contains("no space left") && full.to_string().contains("state.db"), "{full}");
    assert_eq!(ids(&store), acknowledged);
    store.write_blocking(pages(100_000)).expect("space again");
    store.write_blocking(insert(5000)).expect("the store recovers by itself");
    acknowledged.push(5000);
    drop(store);
    assert_eq!(ids(&Store::open(&path, TABLES).expect("the store opens")), acknowledged);
}

#[test]
fn an_older_file_is_migrated_and_keeps_its_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    Store::open(&path, TABLES).expect("an old store").write_blocking(insert(1)).expect("a row");
    let mut newer = TABLES.to_vec();
    newer.push(Migration { module: "a", version: 2, sql: "ALTER TABLE item ADD COLUMN extra TEXT DEFAULT 'x'" });
    newer.push(Migration { module: "c", version: 1, sql: "CREATE TABLE third (id INTEGER)" });
    for _ in 0..2 {
        let store = Store::open(&path, &newer).expect("the newer program opens it");
        let extra: String = store
            .read_blocking(|conn| conn.query_row("SELECT extra FROM item WHERE id = 1", [], |row| row.get(0)))
            .expect("the row is there with its new column");
        assert_eq!(extra, "x");
    }
    let refused = Store::open(&path, TABLES).expect_err("the older program does not open it").to_string();
    assert!(refused.contains("version 2 of the tables of `a`") && refused.contains("knows up to 1"), "{refused}");
    assert!(refused.contains("newer testrig"), "{refused}");
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    drop(Store::open(&path, TABLES).expect("a store"));
    let mut bad = TABLES.to_vec();
    bad.push(Migration { module: "a", version: 2, sql: "CREATE TABLE half (id INTEGER)" });
    bad.push(Migration { module: "b", version: 2, sql: "CREATE TABLE half (id INTEGER)" });
    let failed = Store::open(&path, &bad).expect_err("the table is there twice").to_string();
    assert!(failed.contains("`b`") && failed.contains("version 2"), "{failed}");
    let store = Store::open(&path, TABLES).expect("the file is as it was");
    let half: i64 = store
        .read_blocking(|conn| {
            conn.query_row("SELECT count(*) FROM sqlite_master WHERE name = 'half'", [], |r| r.get(0))
        })
        .expect("a read");
    assert_eq!(half, 0);
    let gap = [TABLES[0], Migration { module: "a", version: 3, sql: "" }];
    assert!(matches!(Store::open_in_memory(&gap), Err(StoreError::Numbering { found: 3, expected: 2, .. })));
}

#[test]
fn what_is_no_store_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("state.db");
    std::fs::write(&file, "a letter to my aunt\n".repeat(500)).expect("a file");
    let text = Store::open(&file, TABLES).expect_err("no SQLite file").to_string();
    assert!(text.contains("damaged or not a SQLite file") && text.contains("move it"), "{text}");
    let text = Store::open(&file.join("sub/state.db"), TABLES).expect_err("under a file").to_string();
    assert!(text.contains("failed to create the directory") && text.contains("--state-dir"), "{text}");
    let text = Store::open(dir.path(), TABLES).expect_err("a directory").to_string();
    assert!(text.contains("failed to open the state store"), "{text}");
}

#[test]
fn a_store_with_a_damaged_page_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let store = Store::open(&path, TABLES).expect("a store");
    for id in 0..200 {
        store.write_blocking(insert(id)).expect("a row");
    }
    drop(store);
    let mut bytes = std::fs::read(&path).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&path, bytes).expect("the damaged file");
    let refused = Store::open(&path, TABLES).expect_err("the damage is found");
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
}

#[test]
fn a_process_killed_in_the_middle_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let mut expected = Vec::new();
    for round in 0..3_i64 {
        let (mut child, mut lines) = child("writer", dir.path(), &(round * 1_000_000).to_string());
        let acknowledged = |line: String| line.strip_prefix("ack ").map(|id| id.parse::<i64>().expect("a number"));
        let mut seen = 0;
        while seen < 200 {
            let line = lines.next().expect("the child writes").expect("the child's output");
            expected.extend(acknowledged(line).inspect(|_| seen += 1));
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("the child is gone");
        // What it had still said before it died counts as well.
        expected.extend(lines.filter_map(|line| acknowledged(line.ok()?)));
        let store = Store::open(&path, TABLES).expect("the store opens after the kill");
        let there: std::collections::HashSet<i64> = ids(&store).into_iter().collect();
        let lost: Vec<_> = expected.iter().filter(|id| !there.contains(id)).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} of {} are lost", expected.len());
    }
}

#[test]
fn a_second_agent_is_told_who_holds_the_directory_and_gets_it_after_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("new/state");
    let (mut child, mut lines) = child("locker", &state, "");
    let helper = lines.find_map(|l| l.expect("output").strip_prefix("locked ").map(str::to_owned)).expect("it locks");
    let held = StateDirLock::acquire(&state).expect_err("it is held");
    assert!(matches!(held, LockError::Held { .. }));
    let text = held.to_string();
    assert!(text.contains(&format!("process {} since 20", child.id())) && text.contains("--state-dir"), "{text}");
    child.kill().expect("SIGKILL");
    child.wait().expect("the child is gone");
    // The holder's own child lives on and does not keep the lock.
    let lock = StateDirLock::acquire(&state).expect("the lock is free");
    assert!(StateDirLock::acquire(&state).is_err(), "also within one process");
    drop(lock);
    drop(StateDirLock::acquire(&state).expect("the lock is free after a drop"));
    Command::new("kill").arg(helper).status().expect("the helper ends");
    let unwritable =
        StateDirLock::acquire(Path::new("/proc/no/state")).expect_err("nobody can write there").to_string();
    assert!(unwritable.contains("--state-dir"), "{unwritable}");
}

#[test]
fn a_store_that_may_only_be_read_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    drop(Store::open(&path, TABLES).expect("a store"));
    let mut open = std::fs::metadata(dir.path()).expect("a directory").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut open, 0o755);
    std::fs::set_permissions(dir.path(), open).expect("its mode");
    let mut only_read = std::fs::metadata(&path).expect("the file").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut only_read, 0o444);
    std::fs::set_permissions(&path, only_read).expect("its mode");
    // Root may write everything, so another user looks.
    let (mut child, lines) = child("reader", dir.path(), "");
    let text: Vec<String> = lines.map_while(Result::ok).collect();
    child.wait().expect("the child is gone");
    let text = text.join("\n");
    assert!(text.contains("can be read but not written"), "{text}");
}

/// Starts this test binary as a process that does `what`.
fn child(what: &str, dir: &Path, extra: &str) -> (Child, std::io::Lines<BufReader<std::process::ChildStdout>>) {
    let mut command = Command::new("/proc/self/exe");
    if what == "reader" && std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    let mut child = command
        .args(["--exact", "what_a_child_does", "--nocapture", "--test-threads=1"])
        .env("STORE_TEST", what)
        .env("STORE_TEST_DIR", dir)
        .env("STORE_TEST_EXTRA", extra)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary starts");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    (child, lines)
}

/// Does nothing unless [`child`] started it.
#[test]
fn what_a_child_does() {
    let Ok(what) = std::env::var("STORE_TEST") else {
        return;
    };
    let dir = std::env::var_os("STORE_TEST_DIR").expect("a directory");
    let path = Path::new(&dir).join("state.db");
    // The test harness has begun a line.
    println!();
    match what.as_str() {
        "writer" => {
            let first: i64 = std::env::var("STORE_TEST_EXTRA").expect("a number").parse().expect("a number");
            let store = Store::open(&path, TABLES).expect("a store");
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let store = &store;
                    scope.spawn(move || {
                        for id in (first + thread..).step_by(4) {
                            store.write_blocking(insert(id)).expect("a write");
                            println!("ack {id}");
                        }
                    });
                }
            });
        }
        "locker" => {
            let _lock = StateDirLock::acquire(Path::new(&dir)).expect("the lock");
            let mut helper = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("a helper");
            println!("locked {}", helper.id());
            helper.wait().expect("the test kills this process first");
        }
        _ => println!("{}", Store::open(&path, TABLES).expect_err("it may not be written")),
    }
}
