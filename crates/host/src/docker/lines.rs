//! Lines of a container's log, made of what the engine sends.

use std::collections::VecDeque;

use bollard::container::LogOutput;
use bytes::Bytes;

/// A longer line is handed out in parts of this size.
const LONGEST_LINE: usize = 1 << 20;

/// Which of the two output streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 1 for the first line of the container, and so on; give it to [`Docker::logs`] to go on behind this line.
    pub number: u64,
    /// When the engine read its beginning, nanoseconds since 1970.
    pub time_ns: i64,
    /// Where it was written to.
    pub stream: OutputStream,
    /// The line without its line feed.
    pub bytes: Bytes,
    /// The line goes on in the next part of the same stream: it is longer than 1 MiB.
    pub continues: bool,
}

/// Makes lines of the engine's frames: a frame is a line or, above 16 KiB, a part of one. The same frames always give the
/// same lines with the same numbers.
#[derive(Default)]
pub(super) struct Assembler {
    lines: u64,
    open: [Option<OpenLine>; 2],
}

struct OpenLine {
    time_ns: i64,
    bytes: Vec<u8>,
}

impl Assembler {
    pub(super) fn push(&mut self, frame: LogOutput, ready: &mut VecDeque<LogLine>) {
        let stream = match frame {
            LogOutput::StdErr { .. } => OutputStream::Stderr,
            LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => OutputStream::Stdout,
        };
        let (time_ns, text) = split_time(frame.into_bytes());
        let (text, complete) = match text.strip_suffix(b"\n") {
            Some(line) => (text.slice(..line.len()), true),
            None => (text, false),
        };
        let open = &mut self.open[stream as usize];
        if complete && open.is_none() && text.len() <= LONGEST_LINE {
            self.lines += 1;
            ready.push_back(LogLine { number: self.lines, time_ns, stream, bytes: text, continues: false });
            return;
        }
        let line = open.get_or_insert_with(|| OpenLine { time_ns, bytes: Vec::new() });
        line.bytes.extend_from_slice(&text);
        while line.bytes.len() > LONGEST_LINE {
            let rest = line.bytes.split_off(LONGEST_LINE);
            let part = std::mem::replace(&mut line.bytes, rest);
            self.lines += 1;
            let (number, time_ns) = (self.lines, line.time_ns);
            ready.push_back(LogLine { number, time_ns, stream, bytes: part.into(), continues: true });
        }
        if complete {
            self.close(stream, ready);
        }
    }

    /// No further frame will come: a line without its end is a line.
    pub(super) fn finish(&mut self, ready: &mut VecDeque<LogLine>) {
        self.close(OutputStream::Stdout, ready);
        self.close(OutputStream::Stderr, ready);
    }

    fn close(&mut self, stream: OutputStream, ready: &mut VecDeque<LogLine>) {
        if let Some(OpenLine { time_ns, bytes }) = self.open[stream as usize].take() {
            self.lines += 1;
            ready.push_back(LogLine { number: self.lines, time_ns, stream, bytes: bytes.into(), continues: false });
        }
    }
}

/// Takes the engine's time stamp off the front: `2025-11-23T10:00:00.000000001Z text`.
fn split_time(frame: Bytes) -> (i64, Bytes) {
    let parsed = frame.iter().take(40).position(|b| *b == b' ').and_then(|end| {
        let time: jiff::Timestamp = std::str::from_utf8(&frame[..end]).ok()?.parse().ok()?;
        Some((i64::try_from(time.as_nanosecond()).ok()?, end + 1))
    });
    match parsed {
        Some((time_ns, start)) => (time_ns, frame.slice(start..)),
        None => (0, frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut { message: Bytes::from(format!("2025-11-23T10:00:00.000000001Z {text}")) }
    }

    fn err(text: &str) -> LogOutput {
        LogOutput::StdErr { message: Bytes::from(format!("2025-11-23T10:00:00.000000002Z {text}")) }
    }

    fn lines(frames: impl IntoIterator<Item = LogOutput>) -> Vec<(u64, OutputStream, String, bool)> {
        let (mut assembler, mut ready) = (Assembler::default(), VecDeque::new());
        for frame in frames {
            assembler.push(frame, &mut ready);
        }
        assembler.finish(&mut ready);
        ready
            .into_iter()
            .map(|l| (l.number, l.stream, String::from_utf8_lossy(&l.bytes).into_owned(), l.continues))
            .collect()
    }

    #[test]
    fn parts_of_a_long_line_are_joined_although_the_other_stream_comes_in_between() {
        use OutputStream::{Stderr, Stdout};
        let got = lines([out("aaa"), err("warn\n"), out("bbb"), out("ccc\n"), out("\n")]);
        assert_eq!(
            got,
            [
                (1, Stderr, "warn".into(), false),
                (2, Stdout, "aaabbbccc".into(), false),
                (3, Stdout, String::new(), false)
            ]
        );
    }

    #[test]
    fn a_line_without_end_is_a_line_once_nothing_more_can_come() {
        assert_eq!(lines([out("last words")]), [(1, OutputStream::Stdout, "last words".into(), false)]);
    }

    #[test]
    fn an_endless_line_is_handed_out_in_parts_and_memory_stays_bounded() {
        let part = "x".repeat(16 * 1024);
        let mut frames: Vec<LogOutput> = (0..65).map(|_| out(&part)).collect();
        frames.push(out("end\n"));
        let got = lines(frames);
        assert_eq!(got.iter().map(|l| l.2.len()).collect::<Vec<_>>(), [LONGEST_LINE, 16 * 1024 + 3]);
        assert_eq!(got.iter().map(|l| l.3).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn the_time_stamp_is_nanoseconds_and_text_without_one_is_kept_whole() {
        let (time, text) = split_time(Bytes::from_static(b"1970-01-01T00:00:01.000000002Z  two spaces\n"));
        assert_eq!((time, &text[..]), (1_000_000_002, &b" two spaces\n"[..]));
        assert_eq!(split_time(Bytes::from_static(b"no time here")).0, 0);
    }
}
