//! Reading output files that still grow.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A longer line is handed out in parts of this size.
const LONGEST_LINE: usize = 1 << 20;
const CHUNK: usize = 64 * 1024;

/// Reads a growing file line by line from a byte offset on. Positions are offsets, so that a reader that was killed goes on
/// where its last line ended, with no hole and no double.
#[derive(Debug)]
pub struct FileTail {
    path: PathBuf,
    file: Option<File>,
    /// Where the next read begins.
    read_to: u64,
    /// Where the last handed out line ended.
    delivered: u64,
    buffer: Vec<u8>,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLine {
    /// Offset behind this line and its line feed; give it to [`FileTail::new`] to go on behind it.
    pub end: u64,
    /// The line without its line feed.
    pub bytes: Vec<u8>,
    /// The line goes on in the next one: it is longer than 1 MiB.
    pub continues: bool,
}

impl FileTail {
    /// Starts at `offset`; the file need not exist yet.
    pub fn new(path: impl Into<PathBuf>, offset: u64) -> Self {
        Self { path: path.into(), file: None, read_to: offset, delivered: offset, buffer: Vec::new() }
    }

    /// Complete lines that are there now, at most about `max_bytes` of them. None does not mean the end: the file may grow.
    ///
    /// # Errors
    /// Reading fails. A missing file is an empty one.
    pub fn lines(&mut self, max_bytes: usize) -> io::Result<Vec<FileLine>> {
        let mut lines = Vec::new();
        let mut taken = 0;
        loop {
            while let Some(line) = self.take_line() {
                taken += line.bytes.len() + 1;
                lines.push(line);
                if taken >= max_bytes {
                    return Ok(lines);
                }
            }
            if self.fill()? == 0 {
                return Ok(lines);
            }
        }
    }

    /// The rest behind the last line feed, if there is any. For when nobody writes any more.
    ///
    /// # Errors
    /// Reading fails.
    pub fn finish(&mut self) -> io::Result<Vec<FileLine>> {
        let mut lines = self.lines(usize::MAX)?;
        if !self.buffer.is_empty() {
            let bytes = std::mem::take(&mut self.buffer);
            self.delivered += bytes.len() as u64;
            lines.push(FileLine { end: self.delivered, bytes, continues: false });
        }
        Ok(lines)
    }

    /// Offset behind the last line handed out.
    pub fn offset(&self) -> u64 {
        self.delivered
    }

    fn take_line(&mut self) -> Option<FileLine> {
        let window = &self.buffer[..self.buffer.len().min(LONGEST_LINE + 1)];
        let (keep, used, continues) = match window.iter().position(|b| *b == b'\n') {
            Some(end) => (end, end + 1, false),
            None if window.len() > LONGEST_LINE => (LONGEST_LINE, LONGEST_LINE, true),
            None => return None,
        };
        let bytes = self.buffer[..keep].to_vec();
        self.buffer.drain(..used);
        self.delivered += used as u64;
        Some(FileLine { end: self.delivered, bytes, continues })
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &self.file else { return Ok(0) };
        let start = self.buffer.len();
        self.buffer.resize(start + CHUNK, 0);
        let read = file.read_at(&mut self.buffer[start..], self.read_to);
        self.buffer.truncate(start + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.read_to += read as u64;
        Ok(read)
    }
}

/// The last `keep` bytes of what the file holds from `begin` on, as text. Empty if it cannot be read.
pub fn last_bytes(path: &Path, begin: u64, keep: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let start = end.saturating_sub(keep as u64).max(begin).min(end);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    // A cut in the midst of a character leaves at most three bytes of it.
    let skip = bytes.iter().take(3).take_while(|b| (**b & 0xC0) == 0x80).count();
    String::from_utf8_lossy(&bytes[skip..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("out.log");
        std::fs::write(&path, content).expect("file");
        (dir, path)
    }

    fn texts(lines: &[FileLine]) -> Vec<String> {
        lines.iter().map(|l| String::from_utf8_lossy(&l.bytes).into_owned()).collect()
    }

    #[test]
    fn a_reader_that_starts_at_a_lines_end_goes_on_behind_it() {
        let (_dir, path) = file(b"one\n\nthree\nfo");
        let lines = FileTail::new(&path, 0).lines(usize::MAX).expect("readable");
        assert_eq!(texts(&lines), ["one", "", "three"]);
        for (at, line) in lines.iter().enumerate() {
            let rest = FileTail::new(&path, line.end).lines(usize::MAX).expect("readable");
            assert_eq!(rest, lines[at + 1..]);
        }
    }

    #[test]
    fn a_line_is_handed_out_when_it_is_complete_and_the_rest_when_nobody_writes() {
        let (_dir, path) = file(b"ha");
        let mut tail = FileTail::new(&path, 0);
        assert!(tail.lines(usize::MAX).expect("readable").is_empty());
        let mut writer = File::options().append(true).open(&path).expect("writable");
        writer.write_all(b"lf\nlast").expect("written");
        assert_eq!(texts(&tail.lines(usize::MAX).expect("readable")), ["half"]);
        let rest = tail.finish().expect("readable");
        assert_eq!((texts(&rest), rest[0].end), (vec!["last".to_owned()], 9));
        assert!(tail.finish().expect("readable").is_empty());
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_empty() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("later.log");
        let mut tail = FileTail::new(&path, 0);
        assert!(tail.lines(100).expect("no error").is_empty());
        std::fs::write(&path, "here\n").expect("file");
        assert_eq!(texts(&tail.lines(100).expect("readable")), ["here"]);
    }

    #[test]
    fn a_line_without_end_is_handed_out_in_parts() {
        let (_dir, path) = file(&vec![b'x'; LONGEST_LINE + 5]);
        let mut tail = FileTail::new(&path, 0);
        let lines = tail.finish().expect("readable");
        assert_eq!(
            lines.iter().map(|l| (l.bytes.len(), l.continues)).collect::<Vec<_>>(),
            [(LONGEST_LINE, true), (5, false)]
        );
    }

    #[test]
    fn the_end_of_a_file_begins_at_a_whole_character() {
        let (_dir, path) = file("ääöö".as_bytes());
        assert_eq!(last_bytes(&path, 0, 5), "öö");
        assert_eq!(last_bytes(&path, 6, 100), "ö");
        assert_eq!(last_bytes(Path::new("/nope"), 0, 5), "");
    }
}
