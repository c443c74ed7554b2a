//! Append-only, disk-backed journal of an instance: index per line, cursors, live subscription.
//!
//! Producers append lines and never wait for a reader: the disk is the buffer. Each line has an index, counted from 0
//! without gaps, and the log time that every sink carries, so that a line that is sent twice is the same line.
//!
//! ```text
//! producers --append--> Journal (one file) <--read-- Pump --send--> Sink    (durable cursor for each sink)
//! Tail (a growing file) --^                <--read-- WebSocket, console     (index given by the reader)
//! ```
//!
//! - [`Journals`] is a directory of journals, [`Journal`] one of them. The file's format is in `format.rs`; it can be
//!   read with `less`.
//! - [`Pump`] brings one journal to one [`Sink`]: in order, one batch in flight, the cursor durable after the answer.
//! - [`Tail`] and [`follow`] bring the output file of a process into a journal, with no hole and no double after a
//!   restart.
//!
//! What survives: everything that was appended before a `kill -9`. A write that the kill cut is taken back at the next
//! opening, as a whole text if it has a position. Power loss is not promised.
//!
//! What a journal takes can be narrowed ([`Keep`]): lines of a lower level are not kept at all, so that index and line
//! mean the same to every reader. What it says of lines that it lost is always kept.
//!
//! Absent on purpose: level filters of single sinks, compression, several files a journal.

mod cursors;
mod draft;
mod follow;
mod format;
mod index;
mod journal;
mod journals;
mod line;
mod loss;
mod medium;
mod pump;
mod read;
mod scan;
mod sink;
mod split;
mod tail;
mod time;

pub use cursors::{Cursors, MIGRATIONS};
pub use follow::{Followed, follow};
pub use journal::{Journal, JournalState};
pub use journals::{Journals, Limits};
pub use line::{Entry, Keep, Level, Line, Position, UnknownLevel, decode_line};
pub use pump::{OnRefused, Pump, PumpOptions, PumpState};
pub use sink::{Sink, SinkError};
pub use split::{LineSplitter, Piece, split_lines};
pub use tail::{Resumed, Tail, TailLine, file_id};
