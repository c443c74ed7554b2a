//! Reading lines out of the part of the file that is written.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::{
    format::{Mark, read_line},
    line::Line,
};

const CHUNK: usize = 64 * 1024;

/// What to read.
pub(crate) struct Range {
    /// A line before or at the wanted one and where it begins.
    pub(crate) start: (u64, u64),
    /// Where the written part ends.
    pub(crate) end: u64,
    pub(crate) from: u64,
    pub(crate) max_lines: usize,
    pub(crate) max_bytes: usize,
}

/// Reads lines from `range.from` on; at least one if there is one, whatever its size.
pub(crate) fn read(file: &File, range: &Range) -> io::Result<Vec<Line>> {
    let mut taker = Taker { index: range.start.0, bytes: 0, before_ms: 0, lines: Vec::new(), range };
    let mut offset = range.start.1;
    // The part of a line that the chunk before ended with.
    let mut held: Vec<u8> = Vec::new();
    let all = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(CHUNK);
    let mut chunk = vec![0; CHUNK.min(all)];
    while offset < range.end {
        let want = usize::try_from(range.end - offset).map_or(chunk.len(), |left| left.min(chunk.len()));
        let got = file.read_at(&mut chunk[..want], offset)?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the journal ends at byte {offset} and had {} bytes: somebody shortened it", range.end),
            ));
        }
        offset += got as u64;
        let mut rest = &chunk[..got];
        while let Some(at) = rest.iter().position(|&b| b == b'\n') {
            let (head, tail) = rest.split_at(at);
            rest = &tail[1..];
            let full = if held.is_empty() {
                taker.take(head)
            } else {
                held.extend_from_slice(head);
                let full = taker.take(&held);
                held.clear();
                full
            };
            if full {
                return Ok(taker.lines);
            }
        }
        held.extend_from_slice(rest);
    }
    Ok(taker.lines)
}

struct Taker<'a> {
    index: u64,
    bytes: usize,
    before_ms: i64,
    lines: Vec<Line>,
    range: &'a Range,
}

impl Taker<'_> {
    /// Takes the next line of the file; true when nothing more is wanted.
    fn take(&mut self, bytes: &[u8]) -> bool {
        if Mark::parse(bytes).is_some() {
            return false;
        }
        let index = self.index;
        self.index += 1;
        if index < self.range.from {
            return false;
        }
        if !self.lines.is_empty() && self.bytes + bytes.len() > self.range.max_bytes {
            return true;
        }
        let line = read_line(bytes, index, self.before_ms);
        self.before_ms = line.log_time_ms;
        self.bytes += bytes.len();
        self.lines.push(line);
        self.lines.len() >= self.range.max_lines
    }
}
