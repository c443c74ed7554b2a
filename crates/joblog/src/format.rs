//! A journal's file.
//!
//! ```text
//! #testrig-journal 1 <instance id>
//! 2026-01-02T03:04:05.678Z <TAB> +0 <TAB> INFO <TAB> service <TAB> 77:1024:0:0 <TAB> text to the end of the line
//! #closed <TAB> <time> <TAB> SUCCEED
//! ```
//!
//! Lines count from 0 in the order they stand there; those that begin with `#` are not counted. The second field is how
//! much later the log time is than the time. The position is `file:offset:time_ns:ordinal` or `-`; a `+` behind it says
//! that the text goes on in the next line, and a text that does not end so at the end of the file was cut by a kill and
//! is taken back at the next opening.

use std::borrow::Cow;

use crate::{
    line::{Level, Line, Position, decode_line},
    split::is_break,
    time,
};

/// What a journal's file begins with; the number is the format's version.
const MAGIC: &str = "#testrig-journal";
/// The version that this program writes.
const VERSION: u32 = 1;

/// A line that is not counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The first line of the file: version and instance.
    Header(u32, i64),
    /// The journal was closed with this status.
    Closed(String),
    /// A further attempt began.
    Reopened,
    /// So many lines were dropped at the limit up to here.
    Dropped(u64),
    /// Something that a newer program knows.
    Unknown,
}

impl Mark {
    pub(crate) fn header(instance_id: i64) -> Self {
        Self::Header(VERSION, instance_id)
    }

    /// Whether this program can read the file.
    pub(crate) fn is_readable_header(&self) -> bool {
        matches!(self, Self::Header(VERSION, _))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, now_ms: i64) {
        let (name, value) = match self {
            Self::Header(version, id) => {
                out.extend_from_slice(format!("{MAGIC} {version} {id}\n").as_bytes());
                return;
            }
            Self::Closed(status) => ("#closed", flat(status)),
            Self::Reopened => ("#reopened", Cow::Borrowed("")),
            Self::Dropped(lines) => ("#dropped", Cow::Owned(lines.to_string())),
            Self::Unknown => return,
        };
        out.extend_from_slice(name.as_bytes());
        out.push(b'\t');
        time::write(out, time::clamp(now_ms));
        out.push(b'\t');
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }

    /// Reads a line without its line break; `None` if it is one that counts.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        if line.first() != Some(&b'#') {
            return None;
        }
        let text = decode_line(line);
        if let Some(rest) = text.strip_prefix(MAGIC) {
            let mut words = rest.split_whitespace();
            let mut number = || words.next().and_then(|word| word.parse::<i64>().ok());
            return Some(match (number(), number()) {
                (Some(version), Some(id)) => Self::Header(u32::try_from(version).unwrap_or(u32::MAX), id),
                _ => Self::Unknown,
            });
        }
        let mut fields = text.splitn(3, '\t');
        let (name, value) = (fields.next(), fields.nth(1).unwrap_or_default());
        Some(match name {
            Some("#closed") => Self::Closed(value.to_owned()),
            Some("#reopened") => Self::Reopened,
            Some("#dropped") => value.parse().map_or(Self::Unknown, Self::Dropped),
            _ => Self::Unknown,
        })
    }
}

/// One line to write.
pub(crate) struct Row<'a> {
    pub(crate) time_ms: i64,
    pub(crate) log_time_ms: i64,
    pub(crate) level: Level,
    pub(crate) source: &'a str,
    pub(crate) text: &'a str,
    pub(crate) position: Option<Position>,
    /// The text goes on in the next line.
    pub(crate) goes_on: bool,
}

impl Row<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        time::write(out, self.time_ms);
        out.extend_from_slice(b"\t+");
        number(out, self.log_time_ms.abs_diff(self.time_ms));
        out.push(b'\t');
        out.extend_from_slice(self.level.name().as_bytes());
        out.push(b'\t');
        out.extend_from_slice(self.source.as_bytes());
        out.push(b'\t');
        match self.position {
            None => out.push(b'-'),
            Some(at) => {
                number(out, at.file);
                out.push(b':');
                number(out, at.offset);
                out.push(b':');
                if at.time_ns < 0 {
                    out.push(b'-');
                }
                number(out, at.time_ns.unsigned_abs());
                out.push(b':');
                number(out, u64::from(at.ordinal));
                if self.goes_on {
                    out.push(b'+');
                }
            }
        }
        out.push(b'\t');
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'\n');
    }
}

/// The fields of a counted line, not yet taken apart further than needed.
pub(crate) struct Fields<'a> {
    time: &'a [u8],
    ahead: &'a [u8],
    level: &'a [u8],
    pub(crate) source: &'a [u8],
    position: &'a [u8],
    text: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Splits a line without its line break; `None` if somebody damaged it.
    pub(crate) fn split(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |&b| b == b'\t');
        Some(Self {
            time: fields.next()?,
            ahead: fields.next()?,
            level: fields.next()?,
            source: fields.next()?,
            position: fields.next()?,
            text: fields.next()?,
        })
    }

    /// Time and log time.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        let time_ms = time::parse(self.time)?;
        let ahead: i64 = std::str::from_utf8(self.ahead.strip_prefix(b"+")?).ok()?.parse().ok()?;
        Some((time_ms, time_ms.checked_add(ahead)?))
    }

    /// The position, and whether the text goes on in the next line.
    pub(crate) fn position(&self) -> Option<(Position, bool)> {
        if self.position == b"-" {
            return None;
        }
        let text = std::str::from_utf8(self.position).ok()?;
        let (text, goes_on) = text.strip_suffix('+').map_or((text, false), |text| (text, true));
        let mut numbers = text.split(':');
        let position = Position {
            file: numbers.next()?.parse().ok()?,
            offset: numbers.next()?.parse().ok()?,
            time_ns: numbers.next()?.parse().ok()?,
            ordinal: numbers.next()?.parse().ok()?,
        };
        Some((position, goes_on))
    }

    fn line(&self, index: u64) -> Option<Line> {
        let (time_ms, log_time_ms) = self.times()?;
        Some(Line {
            index,
            time_ms,
            log_time_ms,
            level: std::str::from_utf8(self.level).ok()?.parse().ok()?,
            source: decode_line(self.source).into_owned(),
            text: decode_line(self.text).into_owned(),
            position: self.position().map(|(position, _)| position),
        })
    }
}

/// Reads a counted line without its line break. One that somebody damaged is shown as it is, so that the others keep
/// their index; `before_ms` is the log time of the line before.
pub(crate) fn read_line(bytes: &[u8], index: u64, before_ms: i64) -> Line {
    Fields::split(bytes).and_then(|fields| fields.line(index)).unwrap_or_else(|| Line {
        index,
        time_ms: before_ms + 1,
        log_time_ms: before_ms + 1,
        level: Level::Warn,
        source: "journal".to_owned(),
        text: format!("this line of the journal is damaged: {}", flat(&decode_line(bytes))),
        position: None,
    })
}

/// A word for a field: what would end the field or the line becomes a blank.
pub(crate) fn flat(word: &str) -> Cow<'_, str> {
    let ends = |c| c == '\t' || is_break(c);
    if word.contains(ends) { Cow::Owned(word.replace(ends, " ")) } else { Cow::Borrowed(word) }
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_line_is_read_back(
            time_ms in 0..=253_402_300_799_999_i64, ahead in 0..1_000_000_i64,
            source in "[^\t\r\n]{0,12}", text in "[^\n]{0,40}",
            place in proptest::option::of((any::<u64>(), any::<u64>(), any::<i64>(), any::<u32>())),
        ) {
            let position = place.map(|(file, offset, time_ns, ordinal)| Position { file, offset, time_ns, ordinal });
            let line = Line {
                index: 7, time_ms, log_time_ms: time_ms + ahead, level: Level::Error, source, text, position,
            };
            let mut bytes = Vec::new();
            Row {
                time_ms, log_time_ms: line.log_time_ms, level: line.level, source: &line.source, text: &line.text,
                position, goes_on: true,
            }.write(&mut bytes);
            prop_assert_eq!(bytes.pop(), Some(b'\n'));
            prop_assert_eq!(&read_line(&bytes, 7, 0), &line);
            let goes_on = Fields::split(&bytes).and_then(|f| f.position()).map(|(_, goes_on)| goes_on);
            prop_assert_eq!(goes_on, position.map(|_| true));
        }

        #[test]
        fn damaged_lines_are_shown_and_not_fatal(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let line = read_line(&bytes, 3, 41);
            prop_assert_eq!(line.index, 3);
            let _any_answer_will_do = Mark::parse(&bytes);
        }
    }

    #[test]
    fn marks_are_read_back() {
        for mark in [Mark::header(-5), Mark::Closed("SUCCEED".into()), Mark::Reopened, Mark::Dropped(12)] {
            let mut bytes = Vec::new();
            mark.write(&mut bytes, 1_732_158_001_002);
            bytes.pop();
            assert_eq!(Mark::parse(&bytes), Some(mark));
        }
        assert_eq!(Mark::parse(b"#newer thing"), Some(Mark::Unknown));
        assert_eq!(Mark::parse(b"2026"), None);
    }
}
