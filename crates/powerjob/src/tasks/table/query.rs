//! `customQuery`: what a person types on an instance's page to choose tasks.
//!
//! For Java workers it is a piece of SQL. Here a small part is understood and turned into a statement of our own; whatever
//! is not understood shows the tasks that ended last, which is the console's default.

use rusqlite::{Connection, Result, types::Value};

use crate::{
    TaskBody,
    tasks::{api::TaskStatus, kryo},
    wire::TaskDetailInfo,
};

/// Rows of an answer (7.2).
const ROWS: i64 = 10;

/// Characters of a body that are shown.
const LONGEST_BODY: usize = 1_000;

/// Columns as Java names them, and ours.
const COLUMNS: &[(&str, &str)] = &[
    ("task_id", "id"),
    ("task_name", "name"),
    ("address", "address"),
    ("status", "status"),
    ("result", "result"),
    ("failed_cnt", "failed"),
    ("created_time", "created"),
    ("last_modified_time", "modified"),
    ("last_report_time", "reported"),
];

/// A choice of tasks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    /// Column, operator, values (more than one only with `IN`).
    pub(super) conditions: Vec<(&'static str, &'static str, Vec<Value>)>,
    order: (&'static str, bool),
}

impl Default for Query {
    fn default() -> Self {
        let ended = vec![Value::Integer(5), Value::Integer(6)];
        Self { conditions: vec![("status", "IN", ended)], order: ("modified", true) }
    }
}

impl Query {
    /// Conditions `column = value`, `<`, `>`, `<=`, `>=`, `<>`, `!=`, `in (..)` and `like`, joined by `and`, then
    /// `order by column [asc|desc]`; otherwise the default.
    pub(crate) fn understand(text: &str) -> Self {
        read(&words(text)).unwrap_or_default()
    }

    /// Reads the chosen tasks of a run.
    pub(crate) fn run(&self, db: &Connection, run: i64) -> Result<Vec<TaskDetailInfo>> {
        let mut sql =
            "SELECT id, name, address, status, result, failed, created, modified, reported, content FROM task \
                       WHERE run = ?1"
                .to_owned();
        let mut values = vec![Value::Integer(run)];
        for (column, operator, operands) in &self.conditions {
            let places: Vec<String> = (1..=operands.len()).map(|i| format!("?{}", values.len() + i)).collect();
            let places = places.join(", ");
            let places = if *operator == "IN" { format!("({places})") } else { places };
            sql.push_str(&format!(" AND {column} {operator} {places}"));
            values.extend(operands.iter().cloned());
        }
        let (column, descending) = self.order;
        sql.push_str(&format!(" ORDER BY {column}{} LIMIT {ROWS}", if descending { " DESC" } else { "" }));
        let mut query = db.prepare(&sql)?;
        let rows = query.query_map(rusqlite::params_from_iter(values), |row| {
            let status: i32 = row.get(3)?;
            Ok(TaskDetailInfo {
                task_id: row.get(0)?,
                task_name: row.get(1)?,
                task_content: row.get::<_, Option<Vec<u8>>>(9)?.as_deref().and_then(shown),
                processor_address: row.get(2)?,
                status,
                status_str: word(status).to_owned(),
                result: row.get(4)?,
                failed_cnt: row.get(5)?,
                created_time: row.get(6)?,
                last_modified_time: row.get(7)?,
                last_report_time: row.get(8)?,
            })
        })?;
        rows.collect()
    }
}

/// Short descriptions of a task's status (4.2).
fn word(status: i32) -> &'static str {
    match TaskStatus::of(status) {
        Some(TaskStatus::WaitingDispatch) => "dispatching",
        Some(TaskStatus::Dispatched) => "unreceived",
        Some(TaskStatus::Received) => "received",
        Some(TaskStatus::Processing) => "running",
        Some(TaskStatus::Failed) => "failed",
        Some(TaskStatus::Succeeded) => "succeed",
        None => "unknown",
    }
}

/// The body of a task as JSON text, where it is one that has such a form.
fn shown(content: &[u8]) -> Option<String> {
    let value = match kryo::read(content).ok()? {
        TaskBody::Null => serde_json::Value::Null,
        TaskBody::Bool(flag) => flag.into(),
        TaskBody::Int(number) => number.into(),
        TaskBody::Long(number) => number.into(),
        TaskBody::Double(number) => number.into(),
        TaskBody::Text(text) => text.chars().take(LONGEST_BODY).collect::<String>().into(),
    };
    Some(value.to_string())
}

/// Words, numbers, texts in quotes, signs.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut chars) = (Vec::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        let mut word = String::from(c);
        match c {
            '\'' | '"' => {
                word = "'".to_owned();
                word.extend(chars.by_ref().take_while(|&next| next != c));
            }
            '<' | '>' | '!' | '=' => {
                while let Some(next) = chars.next_if(|next| matches!(next, '=' | '>')) {
                    word.push(next);
                }
            }
            c if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') => {
                while let Some(next) = chars.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '-' | '.')) {
                    word.push(next);
                }
            }
            c if c.is_whitespace() => continue,
            _ => {}
        }
        words.push(word);
    }
    words
}

fn read(words: &[String]) -> Option<Query> {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word));
    let mut query = Query { conditions: Vec::new(), order: ("modified", true) };
    let mut at = 0;
    while at < words.len() && !is(at, "order") {
        if at > 0 {
            is(at, "and").then_some(())?;
            at += 1;
        }
        let column = column(words.get(at)?)?;
        let operator = words.get(at + 1)?.to_ascii_lowercase();
        at += 2;
        let (operator, values) = if operator == "in" {
            is(at, "(").then_some(())?;
            let end = at + words[at..].iter().position(|word| word == ")")?;
            let list = words[at + 1..end].iter().filter(|word| *word != ",").map(|word| value(word));
            at = end + 1;
            ("IN", list.collect::<Option<Vec<_>>>()?)
        } else {
            let operator = *["=", "<", ">", "<=", ">=", "<>", "!=", "like"].iter().find(|known| **known == operator)?;
            at += 1;
            (operator, vec![value(words.get(at - 1)?)?])
        };
        (!values.is_empty() && values.len() <= 100).then_some(())?;
        query.conditions.push((column, operator, values));
    }
    if is(at, "order") {
        is(at + 1, "by").then_some(())?;
        query.order = (column(words.get(at + 2)?)?, is(at + 3, "desc"));
        at += 3 + usize::from(is(at + 3, "desc") || is(at + 3, "asc"));
    }
    (at == words.len() && !(query.conditions.is_empty() && words.is_empty())).then_some(query)
}

fn column(name: &str) -> Option<&'static str> {
    COLUMNS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, own)| *own)
}

fn value(word: &str) -> Option<Value> {
    match word.strip_prefix('\'') {
        Some(text) => Some(Value::Text(text.to_owned())),
        None => word.parse().ok().map(Value::Integer),
    }
}
