//! Splitting text and bytes into lines.
//!
//! A line ends at `\n`, `\r\n`, a lone `\r` (progress bars), U+0085, U+2028, U+2029, VT and FF, because somebody who
//! shows the log breaks the line there. A break ends a line and does not begin one: `"a\n"` is one line.

/// The lines of a text. An empty text is one empty line.
pub fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let mut first = true;
    std::iter::from_fn(move || {
        let text = rest.take()?;
        if text.is_empty() && !std::mem::take(&mut first) {
            return None;
        }
        first = false;
        let Some((at, found)) = text.char_indices().find(|&(_, c)| is_break(c)) else {
            return Some(text);
        };
        let width = if text[at..].starts_with("\r\n") { 2 } else { found.len_utf8() };
        rest = Some(&text[at + width..]);
        Some(&text[..at])
    })
}

/// Whether a line ends at this character.
pub(crate) fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Cuts a line into pieces of at most `max` bytes, between characters; nothing is lost.
pub(crate) fn cut(line: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest.take()?;
        if line.len() <= max {
            return Some(line);
        }
        let at = (1..=max).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(line.len());
        rest = Some(&line[at..]).filter(|rest| !rest.is_empty());
        Some(&line[..at])
    })
}

/// A line of bytes, or a part of one that is longer than the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The bytes without the line break.
    pub bytes: Vec<u8>,
    /// Bytes from the start of the source up to the end of this piece, its line break included. Behind a `\r` a `\n`
    /// may follow that belongs to the same break.
    pub end: u64,
}

/// Splits a stream of bytes into lines, however it is cut into chunks. Memory is bounded by the longest line allowed.
#[derive(Debug)]
pub struct LineSplitter {
    line: Vec<u8>,
    offset: u64,
    after_cr: bool,
    max: usize,
}

impl LineSplitter {
    /// A splitter for a stream that goes on at `offset`; `after_cr` says that the byte before was a `\r`. Lines longer
    /// than `max` bytes (at least 4) come in several pieces.
    pub fn new(offset: u64, after_cr: bool, max: usize) -> Self {
        Self { line: Vec::new(), offset, after_cr, max: max.max(4) }
    }

    /// Bytes from the start of the source that were taken in.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that wait for the end of their line.
    pub fn pending(&self) -> usize {
        self.line.len()
    }

    /// Takes the next bytes and adds the lines that they complete to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Piece>) {
        for &byte in bytes {
            self.offset += 1;
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                // The break was counted with its `\r`; a reader who resumes there skips this byte the same way.
                continue;
            }
            match (byte, self.line.as_slice()) {
                (b'\n' | 0xb | 0xc, _) => self.emit(0, out),
                (b'\r', _) => {
                    self.emit(0, out);
                    self.after_cr = true;
                }
                (0x85, [.., 0xc2]) => self.emit(1, out),
                (0xa8 | 0xa9, [.., 0xe2, 0x80]) => self.emit(2, out),
                _ => {
                    self.line.push(byte);
                    if self.line.len() > self.max {
                        self.overflow(out);
                    }
                }
            }
        }
    }

    /// The last line, if it has no line break.
    pub fn finish(&mut self) -> Option<Piece> {
        (!self.line.is_empty()).then(|| Piece { bytes: std::mem::take(&mut self.line), end: self.offset })
    }

    /// Ends the line; its last `drop` bytes belong to the break.
    fn emit(&mut self, drop: usize, out: &mut Vec<Piece>) {
        self.line.truncate(self.line.len() - drop);
        out.push(Piece { bytes: std::mem::take(&mut self.line), end: self.offset });
    }

    /// Cuts off all but the last character, which may be incomplete, so that no character and no break is torn.
    fn overflow(&mut self, out: &mut Vec<Piece>) {
        let keep = self.line.iter().rev().take(4).position(|b| b & 0xc0 != 0x80).map_or(1, |at| at + 1);
        let tail = self.line.split_off(self.line.len() - keep);
        let bytes = std::mem::replace(&mut self.line, tail);
        out.push(Piece { bytes, end: self.offset - keep as u64 });
    }
}
