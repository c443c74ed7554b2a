//! Reading a file that somebody else appends to.

use std::{
    fs::Metadata,
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use crate::{Journal, LineSplitter, Piece, Position, decode_line};

const CHUNK: usize = 64 * 1024;
/// How often a file at its end is looked at again.
const POLL: Duration = Duration::from_millis(100);

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailLine {
    /// The text; what is no UTF-8 is U+FFFD.
    pub text: String,
    /// Behind the line, to resume there.
    pub position: Position,
}

/// Where a [`Tail`] began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resumed {
    /// The file has not been there yet.
    #[default]
    NotYet,
    /// At the start: nothing was known of the source.
    AtStart,
    /// Behind the last known line.
    At(u64),
    /// At the start, because the file is another one than before, or shorter.
    Replaced,
}

/// Follows one file. Every method may be dropped in the middle; nothing is lost by that.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    from: Option<Position>,
    max_line: usize,
    open: Option<Open>,
    resumed: Resumed,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: u64,
    splitter: LineSplitter,
    /// Another file has its name; it is only read to its end.
    left: bool,
}

impl Tail {
    /// Follows `path` behind `from`, which is [`crate::Journal::last_position`] of its source. The file need not be
    /// there yet. Lines longer than `max_line` bytes come in pieces.
    pub fn new(path: &Path, from: Option<Position>, max_line: usize) -> Self {
        Self { path: path.to_owned(), from, max_line, open: None, resumed: Resumed::NotYet }
    }

    /// Follows `path` behind the last line of `source` in the journal.
    pub fn resume(path: &Path, journal: &Journal, source: &str) -> Self {
        Self::new(path, journal.last_position(source), journal.max_line_bytes())
    }

    /// Where it began.
    pub fn resumed(&self) -> Resumed {
        self.resumed
    }

    /// The next lines that are there now: `None` at the end of the file, and a list without lines where one has begun
    /// but not ended. A file that was replaced or shortened begins again, after the last line of what it was.
    ///
    /// # Errors
    /// The file cannot be read. One that is not there (yet) is no error.
    pub async fn read(&mut self) -> io::Result<Option<Vec<TailLine>>> {
        loop {
            let Some(open) = self.opened().await? else {
                return Ok(None);
            };
            let mut chunk = vec![0; CHUNK];
            let got = open.file.read(&mut chunk).await?;
            if got > 0 {
                let mut pieces = Vec::new();
                open.splitter.push(&chunk[..got], &mut pieces);
                let id = open.id;
                return Ok(Some(pieces.into_iter().map(|piece| line(piece, id)).collect()));
            }
            if open.left {
                let last = self.finish();
                self.open = None;
                self.from = None;
                self.resumed = Resumed::Replaced;
                if let Some(last) = last {
                    return Ok(Some(vec![last]));
                }
            } else if self.is_replaced().await? {
                // Read once more: it may have grown between its last read and its replacement.
                if let Some(open) = &mut self.open {
                    open.left = true;
                }
            } else {
                return Ok(None);
            }
        }
    }

    /// As [`Tail::read`], waiting for the file to grow.
    ///
    /// # Errors
    /// As [`Tail::read`].
    pub async fn next(&mut self) -> io::Result<Vec<TailLine>> {
        loop {
            match self.read().await? {
                Some(lines) if !lines.is_empty() => return Ok(lines),
                Some(_) => {}
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// The last line if it has no line break. To be called when the writer is gone and [`Tail::read`] gave `None`.
    pub fn finish(&mut self) -> Option<TailLine> {
        let open = self.open.as_mut()?;
        open.splitter.finish().map(|piece| line(piece, open.id))
    }

    async fn opened(&mut self) -> io::Result<Option<&mut Open>> {
        if self.open.is_none() {
            let mut file = match File::open(&self.path).await {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(told(&e, &self.path)),
            };
            let meta = file.metadata().await?;
            let id = file_id(&meta);
            let (offset, resumed) = match self.from {
                None if self.resumed == Resumed::Replaced => (0, Resumed::Replaced),
                None => (0, Resumed::AtStart),
                Some(from) if from.file == id && from.offset <= meta.len() => (from.offset, Resumed::At(from.offset)),
                Some(_) => (0, Resumed::Replaced),
            };
            let after_cr = offset > 0 && {
                file.seek(SeekFrom::Start(offset - 1)).await?;
                // Which also brings the file to the offset.
                file.read_u8().await? == b'\r'
            };
            self.open =
                Some(Open { file, id, splitter: LineSplitter::new(offset, after_cr, self.max_line), left: false });
            self.resumed = resumed;
        }
        Ok(self.open.as_mut())
    }

    /// Whether the path now leads to another file than the open one, or the file has become shorter.
    async fn is_replaced(&self) -> io::Result<bool> {
        let Some(open) = &self.open else {
            return Ok(false);
        };
        match tokio::fs::metadata(&self.path).await {
            Ok(meta) => Ok(file_id(&meta) != open.id || meta.len() < open.splitter.offset()),
            // Moved away: its writer may still be writing to it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(told(&e, &self.path)),
        }
    }
}

/// Tells one file from another that later has the same name: its inode, mixed with its birth where the file system
/// knows it, because inodes are used again.
pub fn file_id(meta: &Metadata) -> u64 {
    let born = meta
        .created()
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos() as u64);
    meta.ino() ^ born.rotate_left(17)
}

fn line(piece: Piece, file: u64) -> TailLine {
    let position = Position { file, offset: piece.end, time_ns: 0, ordinal: 0 };
    let text = String::from_utf8(piece.bytes).unwrap_or_else(|e| decode_line(e.as_bytes()).into_owned());
    TailLine { text, position }
}

fn told(e: &io::Error, path: &Path) -> io::Error {
    io::Error::new(e.kind(), format!("failed to follow {path:?}: {e}"))
}
