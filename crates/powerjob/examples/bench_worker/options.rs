//! What the benchmark is told.

use std::path::PathBuf;

use clap::Parser;

/// Compares two workers against one server.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Web address of the server.
    #[arg(long)]
    pub(crate) server: String,
    /// The example worker (release build).
    #[arg(long)]
    pub(crate) ours: PathBuf,
    /// The program that starts the Java worker; it takes `-a APP -s SERVERS -p PORT [-t TAG]`. Without it only ours is measured.
    #[arg(long)]
    pub(crate) java: Option<PathBuf>,
    /// The example `measure_many` (release build): a million instances through the stand-in server.
    #[arg(long)]
    pub(crate) many: Option<PathBuf>,
    /// Folder for state and logs of the workers.
    #[arg(long)]
    pub(crate) work: PathBuf,
    /// A few minutes instead of most of an hour: smaller numbers, and the table says so.
    #[arg(long)]
    pub(crate) short: bool,
    /// Instances of the case `empties`, in place of 20,000 (with --short: 1,000).
    #[arg(long)]
    pub(crate) instances: Option<usize>,
    /// Only cases with this in their name.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Not the cases with this in their name.
    #[arg(long)]
    pub(crate) except: Option<String>,
    /// File with the markers `<!-- bench-worker -->` and `<!-- /bench-worker -->` that gets the table.
    #[arg(long)]
    pub(crate) write: Option<PathBuf>,
    /// What was measured, for the table's head.
    #[arg(long, default_value = "")]
    pub(crate) commit: String,
}

impl Options {
    /// Whether a case of this name is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
            && !self.except.as_ref().is_some_and(|except| name.contains(except.as_str()))
    }

    /// `whole`, or `short` with `--short`.
    pub(crate) fn size<T>(&self, whole: T, short: T) -> T {
        if self.short { short } else { whole }
    }
}
