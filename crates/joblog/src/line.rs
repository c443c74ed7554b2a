//! A line and what belongs to it.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How grave a line is. The numbers are those of the job protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Details for who looks for a fault.
    Debug = 1,
    /// What happens.
    Info = 2,
    /// Something is not as it should be; the job goes on.
    Warn = 3,
    /// Something failed.
    Error = 4,
}

impl Level {
    /// The name as people write it: `DEBUG`, `INFO`, `WARN` or `ERROR`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no level.
#[derive(Debug, thiserror::Error)]
#[error("found {0:?} where a level was expected; accepted are DEBUG, INFO, WARN and ERROR")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        [Self::Debug, Self::Info, Self::Warn, Self::Error]
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(word))
            .ok_or_else(|| UnknownLevel(word.to_owned()))
    }
}

/// Where a line stood in its source, so that a restarted agent goes on behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which file it was (see [`crate::file_id`]), 0 where the source is no file.
    pub file: u64,
    /// Bytes from the start of the source up to the end of this line, its line break included.
    pub offset: u64,
    /// The engine's time stamp of the line in nanoseconds since 1970, 0 where there is none.
    pub time_ns: i64,
    /// Counts the texts that have the same time stamp.
    pub ordinal: u32,
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Counts from 0 without gaps.
    pub index: u64,
    /// When it was appended: milliseconds since 1970 by the wall clock.
    pub time_ms: i64,
    /// The time that sinks carry: never before [`Line::time_ms`] and strictly greater than that of the line before,
    /// because the server sorts by it. The same however often the line is sent.
    pub log_time_ms: i64,
    /// How grave it is.
    pub level: Level,
    /// Who wrote it, such as `agent` or `service`.
    pub source: String,
    /// The text; it holds no line break.
    pub text: String,
    /// Where it stood in its source, if the producer said so. The lines that one text was split into share it.
    pub position: Option<Position>,
}

/// Which lines a journal takes; the others are not kept and not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Those of this level and graver ones.
    From(Level),
    /// None.
    Nothing,
}

impl Keep {
    /// Whether a line of this level is kept.
    pub fn takes(self, level: Level) -> bool {
        matches!(self, Self::From(least) if level >= least)
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self::From(Level::Debug)
    }
}

/// A text to append.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// How grave it is.
    pub level: Level,
    /// Who wrote it.
    pub source: &'a str,
    /// The text; line breaks split it into several lines.
    pub text: &'a str,
    /// Where it stood in its source.
    pub position: Option<Position>,
}

/// The text of bytes that a program wrote: what is no UTF-8 becomes U+FFFD.
pub fn decode_line(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
