//! The table of `docs/compatibility.md`: one line a combination, one column a server.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use libtest_mimic::Failed;
use parking_lot::Mutex;
use powerjob_worker::openapi::{InstanceInfo, InstanceStatus};

use crate::site::{SERVERS, Server};

const BEGIN: &str = "<!-- seen: begin -->";
const END: &str = "<!-- seen: end -->";
/// Set to `write`, the table is written instead of compared.
const SWITCH: &str = "TESTRIG_COMPATIBILITY";

/// A combination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    job: String,
    event: String,
    tracker: String,
    workers: String,
}

impl Cell {
    pub(crate) fn new(job: &str, tracker: &str, workers: &str) -> Self {
        Self { job: job.into(), event: "–".into(), tracker: tracker.into(), workers: workers.into() }
    }

    /// What happens in the middle.
    pub(crate) fn event(mut self, event: &str) -> Self {
        self.event = event.into();
        self
    }
}

/// What was seen, in words that are the same in every run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen(pub(crate) String);

impl Seen {
    pub(crate) fn of(info: &InstanceInfo) -> Self {
        let status = info.status().map_or("?", InstanceStatus::name);
        let result = info.result.as_deref().unwrap_or_default();
        Self(if result.is_empty() { status.into() } else { format!("{status} `{}`", result.replace('|', "/")) })
    }

    pub(crate) fn text(text: &str) -> Self {
        Self(text.into())
    }
}

type Rows = BTreeMap<Cell, Vec<String>>;
static SEEN: Mutex<Rows> = Mutex::new(BTreeMap::new());

/// Keeps what was seen for the comparison at the end.
pub(crate) fn note(server: &Server, cell: Cell, seen: Seen) {
    let column = SERVERS.iter().position(|other| other.name == server.name).expect("a server of the list");
    SEEN.lock().entry(cell).or_insert_with(|| vec![String::new(); SERVERS.len()])[column] = seen.0;
}

/// Whether no case has told anything.
pub(crate) fn is_empty() -> bool {
    SEEN.lock().is_empty()
}

/// Every line that was seen stands in the document as it was seen; `all`: and no other does.
pub(crate) fn compare(all: bool) -> Result<(), Failed> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| format!("{} has no line {BEGIN}", path.display()))?;
    let (table, after) = rest.split_once(END).ok_or_else(|| format!("{} has no line {END}", path.display()))?;
    let written = read(table);
    let seen = SEEN.lock().clone();
    if std::env::var(SWITCH).is_ok_and(|word| word == "write") {
        let mut rows = if all { Rows::new() } else { written };
        for (cell, columns) in seen {
            let row = rows.entry(cell).or_insert_with(|| vec![String::new(); SERVERS.len()]);
            for (old, new) in row.iter_mut().zip(columns).filter(|(_, new)| !new.is_empty()) {
                *old = new;
            }
        }
        std::fs::write(&path, format!("{before}{BEGIN}\n{}{END}{after}", show(&rows)))?;
        return Ok(());
    }
    let mut wrong = String::new();
    for (cell, columns) in &seen {
        for (column, found) in columns.iter().enumerate().filter(|(_, found)| !found.is_empty()) {
            let told = written.get(cell).map_or("", |row| row[column].as_str());
            if told != found {
                let _ = writeln!(wrong, "{cell:?} on {}: seen {found:?}, told {told:?}", SERVERS[column].name);
            }
        }
    }
    for cell in written.keys().filter(|cell| all && !seen.contains_key(cell)) {
        let _ = writeln!(wrong, "{cell:?} is told and no longer seen");
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("{wrong}with {SWITCH}=write the suite writes what it has seen into {}", path.display()).into())
}

fn read(table: &str) -> Rows {
    let mut rows = Rows::new();
    for line in table.lines().filter(|line| line.starts_with('|')).skip(2) {
        let mut fields = line.trim_matches('|').split('|').map(|field| field.trim().to_owned());
        let mut next = || fields.next().unwrap_or_default();
        let (job, tracker, workers, event) = (next(), next(), next(), next());
        let columns = SERVERS.iter().map(|_| next()).collect();
        rows.insert(Cell { job, event, tracker, workers }, columns);
    }
    rows
}

fn show(rows: &Rows) -> String {
    let mut text = String::from("| job | task tracker | processor trackers | in the middle |");
    for server in &SERVERS {
        let _ = write!(text, " server {} |", server.name);
    }
    text.push_str("\n|---|---|---|---|");
    text.push_str(&"---|".repeat(SERVERS.len()));
    text.push('\n');
    for (cell, columns) in rows {
        let _ = write!(text, "| {} | {} | {} | {} |", cell.job, cell.tracker, cell.workers, cell.event);
        for column in columns {
            let _ = write!(text, " {column} |");
        }
        text.push('\n');
    }
    text
}
