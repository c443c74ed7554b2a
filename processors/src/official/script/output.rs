//! What a script prints: line by line into the log as it comes, and its end for the result.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use encoding_rs::Encoding;
use powerjob_worker::{JobLogger, TaskContext};
use testrig_host::tail::{FileLine, FileTail};
use testrig_joblog::{Level, Position, file_id};

/// File of standard output in the run's directory.
pub(super) const STDOUT: &str = "stdout.log";
/// File of standard error.
pub(super) const STDERR: &str = "stderr.log";
/// Bytes that one look at a file reads at most.
const AT_ONCE: usize = 256 * 1024;
/// Bytes at the end of a file that may get into the result.
const KEEP: u64 = 16 * 1024;

/// Both streams of a script.
pub(super) struct Output {
    streams: [Stream; 2],
    charset: &'static Encoding,
    log: JobLogger,
}

struct Stream {
    path: PathBuf,
    source: String,
    tail: FileTail,
    file: u64,
}

/// The end of what a stream got, and whether there was more in front of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) end: String,
    pub(super) cut: bool,
}

impl Output {
    /// Goes on behind the last lines that the journal has of these very files.
    pub(super) fn new(dir: &Path, ctx: &TaskContext, charset: &'static Encoding) -> Self {
        let log = &ctx.log;
        let task = super::task_of(ctx).map(|task| format!(" {task}")).unwrap_or_default();
        let stream = |name: &str, kind: &str| {
            let source = format!("{kind}{task}");
            let path = dir.join(name);
            let file = fs::metadata(&path).map_or(0, |meta| file_id(&meta));
            let known = log.journal().last_position(&source).filter(|position| position.file == file);
            let tail = FileTail::new(&path, known.map_or(0, |position| position.offset));
            Stream { path, source, tail, file }
        };
        Self { streams: [stream(STDOUT, "stdout"), stream(STDERR, "stderr")], charset, log: log.clone() }
    }

    /// Brings what has come since into the log.
    pub(super) fn read(&mut self) {
        for stream in &mut self.streams {
            match stream.tail.lines(AT_ONCE) {
                Ok(lines) => stream.tell(&self.log, &lines, self.charset),
                Err(error) => tracing::warn!(file = %stream.path.display(), %error, "output cannot be read"),
            }
        }
    }

    /// The same to the very end, when the script writes no more.
    pub(super) fn finish(&mut self) {
        for stream in &mut self.streams {
            loop {
                match stream.tail.lines(AT_ONCE) {
                    Ok(lines) if lines.is_empty() => break,
                    Ok(lines) => stream.tell(&self.log, &lines, self.charset),
                    Err(error) => {
                        self.log.warn(format!("[SYSTEM] the rest of {} cannot be read: {error}", stream.source));
                        break;
                    }
                }
            }
            if let Ok(last) = stream.tail.finish() {
                stream.tell(&self.log, &last, self.charset);
            }
        }
    }

    /// The ends of standard output and standard error.
    pub(super) fn texts(&self) -> [Text; 2] {
        [0, 1].map(|i| self.streams[i].end(self.charset).unwrap_or_default())
    }
}

impl Stream {
    fn tell(&self, log: &JobLogger, lines: &[FileLine], charset: &'static Encoding) {
        for line in lines {
            let position = Position { file: self.file, offset: line.end, time_ns: 0, ordinal: 0 };
            log.log_at(Level::Info, &self.source, &decode(&line.bytes, charset), position);
        }
    }

    fn end(&self, charset: &'static Encoding) -> std::io::Result<Text> {
        let mut file = fs::File::open(&self.path)?;
        let length = file.metadata()?.len();
        let begin = length.saturating_sub(KEEP);
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(KEEP).read_to_end(&mut bytes)?;
        // A text that begins in the middle of a line begins with the next one, if there is any.
        let skip = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) if begin > 0 => at + 1,
            _ => 0,
        };
        let lines = bytes[skip..].split_inclusive(|byte| *byte == b'\n');
        let mut end: String = lines.map(|line| decode(line, charset)).collect();
        if !end.is_empty() && !end.ends_with('\n') {
            end.push('\n');
        }
        Ok(Text { end, cut: begin > 0 })
    }
}

/// UTF-8 if it is that, else the agent's other charset if it is that, else UTF-8 with marks where it is not.
fn decode(bytes: &[u8], charset: &'static Encoding) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    match charset.decode_without_bom_handling_and_without_replacement(bytes) {
        Some(text) => text.into_owned(),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_read_in_the_charset_that_fits_it() {
        assert_eq!(decode("你好".as_bytes(), encoding_rs::GBK), "你好");
        assert_eq!(decode(b"\xc4\xe3\xba\xc3", encoding_rs::GBK), "你好");
        assert_eq!(decode(b"\x93\xfa\x96\x7b", encoding_rs::SHIFT_JIS), "日本");
        assert_eq!(decode(b"a\xff\xffb", encoding_rs::GBK), "a\u{fffd}\u{fffd}b");
    }
}
