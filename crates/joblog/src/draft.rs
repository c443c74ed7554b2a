//! Lines on their way into the file: encoded, not yet written.

use crate::{
    format::{Mark, Row, flat},
    line::{Entry, Position},
    split::{cut, split_lines},
    time,
};

/// A buffer larger than this is given back after its write.
const KEEP: usize = 256 * 1024;

/// What one write will bring.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    buffer: Vec<u8>,
    /// Where each counted line begins in the buffer.
    begins: Vec<u64>,
    positions: Vec<(String, Position)>,
    log_time_ms: Option<i64>,
    producer_lines: u64,
}

/// A point to go back to.
pub(crate) struct Saved {
    buffer: usize,
    begins: usize,
    positions: usize,
    log_time_ms: Option<i64>,
}

impl Draft {
    pub(crate) fn clear(&mut self) {
        if self.buffer.capacity() > KEEP {
            *self = Self::default();
        } else {
            self.buffer.clear();
            self.begins.clear();
            self.positions.clear();
            self.log_time_ms = None;
            self.producer_lines = 0;
        }
    }

    pub(crate) fn save(&self) -> Saved {
        Saved {
            buffer: self.buffer.len(),
            begins: self.begins.len(),
            positions: self.positions.len(),
            log_time_ms: self.log_time_ms,
        }
    }

    /// Takes back what was added since; the producer's lines stay counted.
    pub(crate) fn restore(&mut self, saved: &Saved) {
        self.buffer.truncate(saved.buffer);
        self.begins.truncate(saved.begins);
        self.positions.truncate(saved.positions);
        self.log_time_ms = saved.log_time_ms;
    }

    /// Adds a text and gives the number of its lines. `last_ms` is the log time of the line before.
    pub(crate) fn entry(&mut self, entry: &Entry<'_>, now_ms: i64, last_ms: i64, max_line: usize) -> u64 {
        let lines = self.note(entry, now_ms, last_ms, max_line);
        self.producer_lines += lines;
        lines
    }

    /// As [`Draft::entry`], for a line that is not the producer's.
    pub(crate) fn note(&mut self, entry: &Entry<'_>, now_ms: i64, last_ms: i64, max_line: usize) -> u64 {
        let time_ms = time::clamp(now_ms);
        let mut log_time_ms = last_ms;
        let source = flat(entry.source);
        let mut pieces = split_lines(entry.text).flat_map(|line| cut(line, max_line)).peekable();
        let mut lines = 0;
        let position = entry.position;
        while let Some(text) = pieces.next() {
            log_time_ms = time_ms.max(log_time_ms + 1);
            let goes_on = pieces.peek().is_some();
            self.begins.push(self.buffer.len() as u64);
            Row { time_ms, log_time_ms, level: entry.level, source: &source, text, position, goes_on }
                .write(&mut self.buffer);
            lines += 1;
        }
        self.log_time_ms = Some(log_time_ms);
        if let Some(position) = position {
            self.positions.push((source.into_owned(), position));
        }
        lines
    }

    /// Adds a line that is not counted.
    pub(crate) fn mark(&mut self, mark: &Mark, now_ms: i64) {
        mark.write(&mut self.buffer, now_ms);
    }

    /// How many lines a text gives.
    pub(crate) fn count(text: &str, max_line: usize) -> u64 {
        split_lines(text).flat_map(|line| cut(line, max_line)).count() as u64
    }

    pub(crate) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    pub(crate) fn begins(&self) -> impl Iterator<Item = u64> {
        self.begins.iter().copied()
    }

    pub(crate) fn positions(&mut self) -> impl Iterator<Item = (String, Position)> {
        self.positions.drain(..)
    }

    pub(crate) fn log_time_ms(&self) -> Option<i64> {
        self.log_time_ms
    }

    /// Lines that producers wanted in the draft, those that did not fit included, notes about the log itself not.
    pub(crate) fn producer_lines(&self) -> u64 {
        self.producer_lines
    }
}
