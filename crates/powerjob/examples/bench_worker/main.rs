//! Worker benchmark: this project's example worker and the Java worker in turn, against the same real server, in one run.
//!
//! ```text
//! scripts/bench-worker.sh [--short] [--only NAME]        builds, starts and stops everything that it needs
//! ```
//!
//! Prints a table in Markdown; with `--write FILE` it takes the place between the markers in that file.

mod app;
mod cases;
mod options;
#[path = "../common/process.rs"]
mod process;
mod subject;
mod table;

use std::process::ExitCode;

use clap::Parser;

use self::{cases::Bench, options::Options, table::Table};

/// Whatever went wrong, as a text with its causes.
type Failure = anyhow::Error;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("benchmark ended early: {why:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<(), Failure> {
    let bench = Bench::new(options).await?;
    let mut table = Table::new(options);
    for case in cases::ALL {
        if !options.wants(case.name) {
            continue;
        }
        eprintln!("== {}", case.name);
        for row in (case.run)(&bench).await? {
            eprintln!("   {row}");
            table.add(row);
        }
    }
    println!("{}", table.markdown());
    match &options.write {
        Some(file) => table.write_into(file),
        None => Ok(()),
    }
}
