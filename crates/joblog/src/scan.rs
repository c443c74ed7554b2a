//! Reading a journal's file once at opening.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
};

use crate::{
    format::{Fields, Mark},
    index::SparseIndex,
    line::{Position, decode_line},
};

/// What the file holds.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Where the good part ends.
    pub(crate) end: u64,
    /// Counted lines.
    pub(crate) len: u64,
    pub(crate) index: SparseIndex,
    /// Log time of the last line.
    pub(crate) log_time_ms: i64,
    /// The last position of each source.
    pub(crate) positions: HashMap<String, Position>,
    pub(crate) closed: Option<String>,
    pub(crate) dropped: u64,
    pub(crate) header: Option<Mark>,
}

/// The state at the last point where no text was unfinished.
struct Whole {
    end: u64,
    len: u64,
    log_time_ms: i64,
}

impl Scan {
    /// What a file without a byte holds.
    pub(crate) fn of_nothing() -> Self {
        Self {
            end: 0,
            len: 0,
            index: SparseIndex::new(),
            log_time_ms: 0,
            positions: HashMap::new(),
            closed: None,
            dropped: 0,
            header: None,
        }
    }

    /// Reads everything up to the last line that a kill did not cut.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let mut scan = Self::of_nothing();
        let mut whole = Whole { end: 0, len: 0, log_time_ms: 0 };
        let mut reader = BufReader::with_capacity(128 * 1024, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                break;
            }
            let goes_on = scan.take(&line);
            scan.end += read as u64;
            if !goes_on {
                whole = Whole { end: scan.end, len: scan.len, log_time_ms: scan.log_time_ms };
            }
        }
        scan.end = whole.end;
        scan.len = whole.len;
        scan.log_time_ms = whole.log_time_ms;
        scan.index.truncate(whole.len);
        Ok(scan)
    }

    /// Takes one line without its line break in; true if its text goes on in the next one.
    fn take(&mut self, line: &[u8]) -> bool {
        match Mark::parse(line) {
            None => return self.take_counted(line),
            Some(Mark::Closed(status)) => self.closed = Some(status),
            Some(Mark::Reopened) => self.closed = None,
            Some(Mark::Dropped(lines)) => self.dropped = self.dropped.max(lines),
            Some(header @ Mark::Header(..)) if self.end == 0 => self.header = Some(header),
            Some(Mark::Header(..) | Mark::Unknown) => {}
        }
        false
    }

    fn take_counted(&mut self, line: &[u8]) -> bool {
        self.index.note(self.len, self.end);
        self.len += 1;
        let Some(fields) = Fields::split(line) else {
            self.log_time_ms += 1;
            return false;
        };
        // A damaged line counts one millisecond, as it does where it is read.
        self.log_time_ms = fields.times().map_or(self.log_time_ms + 1, |(_, log)| log.max(self.log_time_ms + 1));
        match fields.position() {
            Some((_, true)) => true,
            Some((position, false)) => {
                let source = decode_line(fields.source);
                match self.positions.get_mut(source.as_ref()) {
                    Some(last) => *last = position,
                    None => {
                        self.positions.insert(source.into_owned(), position);
                    }
                }
                false
            }
            None => false,
        }
    }
}
