//! Every ending, brought about for real and classified: a table of seeded endings (see `docs/jobs.md`, "Endings").
//!
//! A row seeds one ending and says what `result.json`, the result text and the log must then hold of it. Nothing here waits
//! for a time: each step follows a line of the log or a file, and the load lasts until the ending comes.

mod containers;
mod devices;
mod health;
mod host;
mod memory;
mod outside;
mod plan;
mod process;
mod resumed;
mod row;
