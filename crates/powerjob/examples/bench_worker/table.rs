//! The result: one row for each figure.

use std::{fmt, path::Path};

use anyhow::Context;

use crate::{Failure, options::Options};

const BEGIN: &str = "<!-- bench-worker -->";
const END: &str = "<!-- /bench-worker -->";

/// One figure of both workers.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) java: Option<String>,
    pub(crate) ours: String,
    pub(crate) goal: &'static str,
    pub(crate) met: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = if self.met { "met" } else { "NOT MET" };
        let java = self.java.as_deref().unwrap_or("-");
        write!(f, "{}: Java {java}; ours {}; goal {}: {met}", self.what, self.ours, self.goal)
    }
}

/// All figures of a run.
pub(crate) struct Table {
    head: String,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(options: &Options) -> Self {
        let size = options.size("whole size", "short size (`--short`)");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let head = format!("{size}, commit {}, {cores} cores, release build", options.commit);
        Self { head, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n\n| what | Java worker 5.1.1 | this worker | goal | met |\n|---|---|---|---|---|\n",
            self.head
        );
        for row in &self.rows {
            let java = row.java.as_deref().unwrap_or("not measured");
            let met = if row.met { "yes" } else { "**no**" };
            text.push_str(&format!("| {} | {java} | {} | {} | {met} |\n", row.what, row.ours, row.goal));
        }
        text
    }

    /// Puts the table between the markers of a page.
    pub(crate) fn write_into(&self, file: &Path) -> Result<(), Failure> {
        let page = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{} has no {BEGIN}", file.display()))?;
        let (_, after) = rest.split_once(END).with_context(|| format!("{} has no {END}", file.display()))?;
        std::fs::write(file, format!("{before}{BEGIN}\n{}{END}{after}", self.markdown()))?;
        Ok(())
    }
}
