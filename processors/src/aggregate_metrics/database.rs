//! Result databases: which one a key means, names that are safe in SQL, rows that are written again without doubles.

use std::{path::PathBuf, time::Duration};

use testrig_store::rusqlite::{self, Connection, OptionalExtension, params_from_iter, types::Value as Sql};

use crate::{
    Database, Environment,
    params::{mask, nearest},
};

/// How long a write waits for another program that holds the file.
const BUSY: Duration = Duration::from_secs(10);

/// The database of a `resultDbKey`, if this version can write to it.
pub(crate) fn choose(key: &str, env: &Environment) -> Result<Database, String> {
    let Some(database) = env.databases.get(key) else {
        let known: Vec<_> = env.databases.keys().map(String::as_str).collect();
        let hint =
            nearest(key, known.iter().copied()).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        return Err(format!("found {key:?}; configured databases: {}{hint}", known.join(", ")));
    };
    file(database).map(|_| database.clone()).map_err(|error| format!("{key:?} {error}"))
}

fn file(database: &Database) -> Result<PathBuf, String> {
    match database.url.strip_prefix("sqlite://") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        _ => Err(format!(
            "is {}, which is not served yet; accepted: sqlite:///absolute/path.db",
            mask::url(&database.url)
        )),
    }
}

/// Whether a text can be the name of a table or column of ours.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let plain = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 63;
    if plain && !name.to_ascii_lowercase().starts_with("sqlite_") {
        return Ok(());
    }
    Err(format!(
        "found {name:?}; accepted: a name of letters, digits and `_`, at most 63, that begins with neither a digit nor sqlite_"
    ))
}

/// The column with all figures of the last time as JSON.
pub(crate) const ALL_FIGURES: &str = "metrics_json";

/// One row: what identifies it, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Column and value; together they are the primary key.
    pub(crate) key: Vec<(String, String)>,
    /// Column, SQL type and value.
    pub(crate) values: Vec<(String, &'static str, Sql)>,
}

/// Writes the row: file, folder, table and columns are made if missing; a row of the same key is replaced. Blocking.
///
/// # Errors
/// What was tried on which file, and why it failed.
pub(crate) fn upsert(database: &Database, table: &str, row: &Row, now: &str) -> Result<(), String> {
    let path = file(database)?;
    let fail = |what: &str, error: &dyn std::fmt::Display| {
        format!("failed to {what} `{table}` of the database {}: {error}", path.display())
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)
            .map_err(|error| format!("failed to create the folder {} of the database: {error}", dir.display()))?;
    }
    let mut conn =
        Connection::open(&path).map_err(|error| format!("failed to open the database {}: {error}", path.display()))?;
    conn.busy_timeout(BUSY).map_err(|error| fail("use", &error))?;
    // Immediate: two writers wait for each other here instead of failing in the middle.
    let tx = conn
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(|error| fail("write to", &error))?;
    create(&tx, table, row).map_err(|error| fail("create the table", &error))?;
    let present = columns(&tx, table).map_err(|error| fail("read the columns of", &error))?;
    let has = |name: &str| present.iter().any(|column| column.eq_ignore_ascii_case(name));
    if let Some((missing, _)) = row.key.iter().find(|(name, _)| !has(name)) {
        return Err(format!(
            "the table `{table}` of the database {} is another program's: it has no column `{missing}`; name another table",
            path.display()
        ));
    }
    for (name, kind, _) in row.values.iter().filter(|(name, ..)| !has(name)) {
        tx.execute_batch(&format!("ALTER TABLE {} ADD COLUMN {} {kind}", quoted(table), quoted(name)))
            .map_err(|error| fail(&format!("add the column `{name}` to"), &error))?;
    }
    for (name, kind) in [("created_at", "TEXT"), ("updated_at", "TEXT")].iter().filter(|(name, _)| !has(name)) {
        tx.execute_batch(&format!("ALTER TABLE {} ADD COLUMN {} {kind}", quoted(table), quoted(name)))
            .map_err(|error| fail(&format!("add the column `{name}` to"), &error))?;
    }
    let stale =
        figures_of_before(&tx, table, row, &present).map_err(|error| fail("read the row of before in", &error))?;
    let row = Row { key: row.key.clone(), values: row.values.iter().cloned().chain(stale).collect() };
    write(&tx, table, &row, now).map_err(|error| fail("write the row into", &error))?;
    tx.commit().map_err(|error| fail("commit the row into", &error))
}

fn create(conn: &Connection, table: &str, row: &Row) -> rusqlite::Result<()> {
    let key: Vec<String> = row.key.iter().map(|(name, _)| quoted(name)).collect();
    let columns = key.iter().map(|name| format!("{name} TEXT NOT NULL"));
    let values = row.values.iter().map(|(name, kind, _)| format!("{} {kind}", quoted(name)));
    let times = ["created_at TEXT".to_owned(), "updated_at TEXT".to_owned()];
    let all: Vec<String> = columns.chain(values).chain(times).collect();
    conn.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({}))",
        quoted(table),
        all.join(", "),
        key.join(", ")
    ))
}

fn columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut query = conn.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let rows = query.query_map([table], |row| row.get(0))?;
    rows.collect()
}

/// Figures that the row has from an earlier time and that are not computed any more: they must not stand beside the new ones.
/// Columns of others in the same table are not touched.
fn figures_of_before(
    conn: &Connection,
    table: &str,
    row: &Row,
    present: &[String],
) -> rusqlite::Result<Vec<(String, &'static str, Sql)>> {
    let is_there = |name: &str| present.iter().any(|column| column.eq_ignore_ascii_case(name));
    if !is_there(ALL_FIGURES) {
        return Ok(Vec::new());
    }
    let key: Vec<String> = row.key.iter().map(|(name, _)| format!("{} = ?", quoted(name))).collect();
    let query = format!("SELECT {ALL_FIGURES} FROM {} WHERE {}", quoted(table), key.join(" AND "));
    let text: Option<Option<String>> =
        conn.query_row(&query, params_from_iter(row.key.iter().map(|(_, value)| value)), |r| r.get(0)).optional()?;
    let before: serde_json::Map<String, serde_json::Value> =
        text.flatten().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let stale = before.keys().filter(|name| is_there(name) && !row.values.iter().any(|(given, ..)| given == *name));
    Ok(stale.map(|name| (name.clone(), "REAL", Sql::Null)).collect())
}

/// Update, then insert if there was nothing to update: works on a table whose key nobody declared, too.
fn write(conn: &Connection, table: &str, row: &Row, now: &str) -> rusqlite::Result<()> {
    let table = quoted(table);
    let values: Vec<(String, Sql)> = row
        .values
        .iter()
        .map(|(name, _, value)| (name.clone(), value.clone()))
        .chain([("updated_at".to_owned(), Sql::Text(now.to_owned()))])
        .collect();
    let key: Vec<(String, Sql)> =
        row.key.iter().map(|(name, value)| (name.clone(), Sql::Text(value.clone()))).collect();
    let equals = |list: &[(String, Sql)], join: &str| {
        list.iter().map(|(name, _)| format!("{} = ?", quoted(name))).collect::<Vec<_>>().join(join)
    };
    let update = format!("UPDATE {table} SET {} WHERE {}", equals(&values, ", "), equals(&key, " AND "));
    let changed = conn.execute(&update, params_from_iter(values.iter().chain(&key).map(|(_, value)| value)))?;
    if changed > 0 {
        return Ok(());
    }
    let all: Vec<(String, Sql)> =
        key.into_iter().chain(values).chain([("created_at".to_owned(), Sql::Text(now.to_owned()))]).collect();
    let names: Vec<String> = all.iter().map(|(name, _)| quoted(name)).collect();
    let insert = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), vec!["?"; names.len()].join(", "));
    conn.execute(&insert, params_from_iter(all.iter().map(|(_, value)| value))).map(|_| ())
}

/// An SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(dir: &std::path::Path) -> Database {
        Database { url: format!("sqlite://{}", dir.join("new/results.db").display()), ..Database::default() }
    }

    fn row(metrics: &[(&str, f64)]) -> Row {
        Row {
            key: vec![("task".into(), "T1".into()), ("env".into(), "dev".into())],
            values: metrics.iter().map(|(name, value)| ((*name).to_owned(), "REAL", Sql::Real(*value))).collect(),
        }
    }

    #[test]
    fn file_table_and_columns_are_made_and_a_retry_replaces_the_row() {
        let dir = tempfile::tempdir().expect("dir");
        let db = database(dir.path());
        upsert(&db, "summary", &row(&[("qps", 1.0)]), "t1").expect("first");
        upsert(&db, "summary", &row(&[("qps", 2.0), ("ttft_p99.9", 3.5)]), "t2").expect("again, with a new column");
        let conn = Connection::open(dir.path().join("new/results.db")).expect("open");
        let found: (i64, f64, f64, String, String) = conn
            .query_row("SELECT count(*), qps, \"ttft_p99.9\", created_at, updated_at FROM summary", [], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
            })
            .expect("row");
        assert_eq!(found, (1, 2.0, 3.5, "t1".into(), "t2".into()));
    }

    #[test]
    fn a_figure_that_is_no_longer_computed_does_not_stand_beside_the_new_ones() {
        let dir = tempfile::tempdir().expect("dir");
        let db = database(dir.path());
        let told = |metrics: &[(&str, f64)]| {
            let mut row = row(metrics);
            let all: serde_json::Map<String, serde_json::Value> =
                metrics.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            row.values.push((ALL_FIGURES.into(), "TEXT", Sql::Text(serde_json::Value::Object(all).to_string())));
            row
        };
        upsert(&db, "summary", &told(&[("qps", 1.0), ("ttft_p50", 7.0)]), "t1").expect("first");
        let conn = Connection::open(dir.path().join("new/results.db")).expect("open");
        conn.execute_batch("ALTER TABLE summary ADD COLUMN remark TEXT; UPDATE summary SET remark = 'mine'")
            .expect("a column of others");
        upsert(&db, "summary", &told(&[("qps", 2.0)]), "t2").expect("again, with fewer figures");
        let found: (f64, Option<f64>, String) = conn
            .query_row("SELECT qps, ttft_p50, remark FROM summary", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .expect("row");
        assert_eq!(found, (2.0, None, "mine".into()));
    }

    #[test]
    fn a_foreign_table_and_a_foreign_file_are_named() {
        let dir = tempfile::tempdir().expect("dir");
        let db = database(dir.path());
        upsert(&db, "summary", &row(&[]), "t").expect("made");
        let other = Row { key: vec![("other_key".into(), "x".into())], values: vec![] };
        let error = upsert(&db, "summary", &other, "t").expect_err("foreign");
        assert!(error.contains("other_key") && error.contains("summary"), "{error}");
        std::fs::write(dir.path().join("file.db"), "this is no database at all, but long enough to be looked at")
            .expect("written");
        let db = Database { url: format!("sqlite://{}", dir.path().join("file.db").display()), ..Database::default() };
        assert!(upsert(&db, "summary", &row(&[]), "t").expect_err("no database").contains("file.db"));
    }

    #[test]
    fn only_plain_names_are_tables() {
        for good in ["llm_test_metrics_summary", "_x", "T1"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", "1x", "a b", "x;drop", "x\"y", "sqlite_master", &"x".repeat(64)] {
            assert!(check_name(bad).expect_err(bad).contains("accepted"), "{bad}");
        }
    }

    #[test]
    fn an_unknown_key_and_another_engine_are_refused_by_name() {
        let dir = tempfile::tempdir().expect("dir");
        let mut env = crate::testing::environment(dir.path());
        env.databases.insert("default".into(), Database { url: "sqlite:///x/y.db".into(), ..Database::default() });
        env.databases.insert("prod".into(), Database { url: "mysql://u:s3cret@h/db".into(), ..Database::default() });
        let error = choose("defualt", &env).expect_err("unknown");
        assert!(error.contains("default, prod") && error.contains("did you mean \"default\""), "{error}");
        let error = choose("prod", &env).expect_err("mysql");
        assert!(error.contains("not served yet") && !error.contains("s3cret"), "{error}");
        assert!(choose("default", &env).is_ok());
    }
}
