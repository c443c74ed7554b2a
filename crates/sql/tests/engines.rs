//! The same on every database: SQLite here, MariaDB and PostgreSQL where the test script has started them.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use testrig_sql::{Address, Engine, Event, SqlError, execute};

const LIMIT: Duration = Duration::from_secs(60);

/// A database of a test and what its SQL dialect needs.
struct Db {
    address: Address,
    /// A table of its own.
    table: String,
    /// A statement that takes a minute.
    slow: &'static str,
    _dir: Option<tempfile::TempDir>,
}

/// All databases that are there; one that is not is told to the test script.
fn databases(test: &str) -> Vec<Db> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let table = format!("t{}_{number}", std::process::id());
    let dir = tempfile::tempdir().expect("dir");
    let file = Address::parse(&format!("jdbc:sqlite:{}/a.db", dir.path().display())).expect("valid");
    let slow =
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000000) select count(*) from n";
    let mut found = vec![Db { address: file, table: table.clone(), slow, _dir: Some(dir) }];
    for (variable, slow) in [("MYSQL_URL", "select sleep(60)"), ("POSTGRES_URL", "select pg_sleep(60)")] {
        match std::env::var(variable) {
            Ok(url) => {
                let address = Address::parse(&format!("jdbc:{url}")).expect("valid");
                found.push(Db { address, table: table.clone(), slow, _dir: None });
            }
            Err(_) => skipped(&format!("{test} on {variable}"), &format!("{variable} is not set")),
        }
    }
    found
}

fn skipped(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
    if let Some(file) = std::env::var_os("TESTRIG_SKIPS_FILE") {
        use std::io::Write;
        let line = serde_json::json!({"name": name, "reason": reason});
        let file = std::fs::File::options().create(true).append(true).open(file);
        writeln!(file.expect("writable"), "{line}").expect("writable");
    }
}

impl Db {
    async fn run(&self, sql: &str) -> Result<Vec<Event>, SqlError> {
        let mut events = Vec::new();
        let sql = sql.replace("{t}", &self.table);
        execute(&self.address, &sql, LIMIT, pending(), &mut |event| events.push(event)).await?;
        Ok(events)
    }

    async fn count(&self) -> String {
        match self.run("select count(*) from {t}").await.expect("counted").pop() {
            Some(Event::Row(mut cells)) => cells.pop().flatten().expect("a number"),
            other => panic!("{other:?}"),
        }
    }
}

fn row(cells: &[Option<&str>]) -> Event {
    Event::Row(cells.iter().map(|cell| cell.map(str::to_owned)).collect())
}

#[tokio::test]
async fn several_statements_give_their_counts_columns_and_rows_in_order() {
    for db in databases("several_statements_give_their_counts_columns_and_rows_in_order") {
        db.run("create table {t} (id integer, name varchar(40), score double precision)").await.expect("made");
        let events = db
            .run(
                "insert into {t} values (1, '模型 a', 1.5), (2, null, 2.5); select id, name, score from {t} order by id; \
                 select id from {t} where id > 9; update {t} set name = 'x' where id = 2;",
            )
            .await
            .expect("executed");
        let columns = |names: &[&str]| Event::Columns(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(
            events,
            [
                Event::Changed(2),
                columns(&["id", "name", "score"]),
                row(&[Some("1"), Some("模型 a"), Some("1.5")]),
                row(&[Some("2"), None, Some("2.5")]),
                columns(&["id"]),
                Event::Changed(1),
            ],
            "{}",
            db.address
        );
        db.run("drop table {t}").await.expect("dropped");
    }
}

#[tokio::test]
async fn an_error_rolls_back_what_stood_before_it_and_names_the_cause() {
    for db in databases("an_error_rolls_back_what_stood_before_it_and_names_the_cause") {
        db.run("create table {t} (id integer)").await.expect("made");
        let error =
            db.run("insert into {t} values (1); insert into no_such_table values (2)").await.expect_err("refused");
        assert!(error.to_string().contains("no_such_table"), "{}: {error}", db.address);
        assert_eq!(db.count().await, "0", "{}", db.address);
        let error = db.run("selekt 1").await.expect_err("no SQL").to_string();
        assert!(error.contains("selekt"), "{}: {error}", db.address);
        db.run("drop table {t}").await.expect("dropped");
    }
}

#[tokio::test]
async fn a_limit_and_a_stop_end_a_statement_at_the_server_and_roll_back() {
    for db in databases("a_limit_and_a_stop_end_a_statement_at_the_server_and_roll_back") {
        db.run("create table {t} (id integer)").await.expect("made");
        let sql = format!("insert into {} values (1); {}", db.table, db.slow);
        let began = Instant::now();
        let short = Duration::from_millis(500);
        let error = execute(&db.address, &sql, short, pending(), &mut |_| {}).await.expect_err("too slow");
        assert!(matches!(error, SqlError::TimedOut(limit) if limit == short), "{}: {error}", db.address);
        let stop = tokio::time::sleep(short);
        let error = execute(&db.address, &sql, LIMIT, stop, &mut |_| {}).await.expect_err("stopped");
        assert!(matches!(error, SqlError::Stopped), "{}: {error}", db.address);
        assert!(began.elapsed() < Duration::from_secs(40), "{}: {:?}", db.address, began.elapsed());
        assert_eq!(db.count().await, "0", "{}", db.address);
        let running = match db.address.engine() {
            Engine::Sqlite => None,
            Engine::MySql => {
                Some("select count(*) from information_schema.processlist where info like 'select sleep(%' ")
            }
            Engine::Postgres => Some(
                "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(60)' and pid <> pg_backend_pid()",
            ),
        };
        if let Some(running) = running {
            let events = db.run(running).await.expect("asked");
            assert_eq!(events.last(), Some(&row(&[Some("0")])), "{}: the statement still runs", db.address);
        }
        db.run("drop table {t}").await.expect("dropped");
    }
}

#[tokio::test]
async fn a_hundred_thousand_rows_come_in_order() {
    for db in databases("a_hundred_thousand_rows_come_in_order") {
        let sql = match db.address.engine() {
            Engine::MySql => "select seq from seq_1_to_100000".to_owned(),
            Engine::Postgres => "select * from generate_series(1, 100000)".to_owned(),
            Engine::Sqlite => {
                "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000) select i from n"
                    .to_owned()
            }
        };
        let mut seen = 0_u64;
        let mut each = |event| {
            if let Event::Row(cells) = event {
                seen += 1;
                assert_eq!(cells, [Some(seen.to_string())]);
            }
        };
        execute(&db.address, &sql, LIMIT, pending(), &mut each).await.expect("executed");
        assert_eq!(seen, 100_000, "{}", db.address);
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_closed_port_are_told_apart_without_the_password() {
    for db in databases("a_wrong_password_and_a_closed_port_are_told_apart_without_the_password") {
        if db.address.engine() == Engine::Sqlite {
            continue;
        }
        let mut wrong = db.address.clone();
        wrong.set_property("password", "not-it").expect("a property");
        let error = execute(&wrong, "select 1", LIMIT, pending(), &mut |_| {}).await.expect_err("refused").to_string();
        assert!(error.contains("failed to connect to") && !error.contains("not-it"), "{error}");
        let name = if db.address.engine() == Engine::MySql { "mysql" } else { "postgresql" };
        let nobody = Address::parse(&format!("jdbc:{name}://u:s3cret@127.0.0.1:1/d")).expect("valid");
        let error = execute(&nobody, "select 1", LIMIT, pending(), &mut |_| {}).await.expect_err("closed").to_string();
        assert!(error.contains("127.0.0.1:1/d") && error.contains("refused") && !error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn sqlite_cannot_attach_files_that_nobody_allowed() {
    let dir = tempfile::tempdir().expect("dir");
    let address = Address::parse("jdbc:sqlite::memory:").expect("valid");
    let sql = format!("attach database '{}/b.db' as b", dir.path().display());
    let error = execute(&address, &sql, LIMIT, pending(), &mut |_| {}).await.expect_err("refused").to_string();
    assert!(error.contains("attached"), "{error}");
    let sql = format!("commit; vacuum into '{}/c.db'", dir.path().display());
    assert!(execute(&address, &sql, LIMIT, pending(), &mut |_| {}).await.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).expect("dir").count(), 0);
}
