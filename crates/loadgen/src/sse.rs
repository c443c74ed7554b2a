//! Reads server-sent events from bytes that may be split anywhere.
//!
//! Follows the event stream format of the HTML standard: lines end with LF, CRLF or CR, a blank line ends an event, several
//! `data` lines are one text, a line that starts with a colon is a comment. Lines are decoded when they are whole, so a
//! character that is split between two reads is not harmed.

use std::collections::VecDeque;

/// Longest line that is kept. A longer one is no token event of any service.
pub const LINE_LIMIT: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty where there was none.
    pub name: String,
    /// The `data` lines, joined by line feeds.
    pub data: String,
}

/// A line grew beyond [`LINE_LIMIT`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a line of the event stream is longer than {LINE_LIMIT} bytes")]
pub struct LineTooLong;

/// Turns bytes into events.
#[derive(Debug, Default)]
pub struct SseReader {
    line: Vec<u8>,
    /// The last byte was CR, so that an LF right behind it belongs to the same line end.
    after_cr: bool,
    any_line: bool,
    name: String,
    data: Option<String>,
    events: VecDeque<Event>,
}

impl SseReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When a line is too long.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), LineTooLong> {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > LINE_LIMIT {
                return Err(LineTooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line();
        }
        Ok(())
    }

    /// The next whole event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What stands after the last blank line when the stream has ended. The standard drops it; a caller may look whether it is
    /// an end mark whose blank line was left out.
    #[must_use]
    pub fn unfinished(mut self) -> Option<Event> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.end_event();
        self.events.pop_back()
    }

    fn end_line(&mut self) {
        let mut bytes = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.any_line, true) && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        if bytes.is_empty() {
            self.end_event();
            return;
        }
        let line = String::from_utf8_lossy(&bytes);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => value.clone_into(&mut self.name),
            // Comments, `id`, `retry` and unknown fields mean nothing to a client that never reconnects.
            _ => {}
        }
    }

    fn end_event(&mut self) {
        let name = std::mem::take(&mut self.name);
        if let Some(data) = self.data.take() {
            self.events.push_back(Event { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(parts: &[&[u8]]) -> Vec<Event> {
        let mut reader = SseReader::new();
        let mut events = Vec::new();
        for part in parts {
            reader.push(part).expect("short lines");
            events.extend(std::iter::from_fn(|| reader.next_event()));
        }
        events
    }

    fn data(parts: &[&[u8]]) -> Vec<String> {
        read(parts).into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn every_line_end_of_the_standard_ends_a_line() {
        assert_eq!(data(&[b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\n"]), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_line_end_split_between_reads_is_one_line_end() {
        assert_eq!(data(&[b"data: a\r", b"\n\r", b"\ndata: b\r", b"\n\r\n"]), ["a", "b"]);
        assert_eq!(data(&[b"data: a\r\n", b"", b"data: b\r\n\r\n"]), ["a\nb"]);
    }

    #[test]
    fn comments_other_fields_and_events_without_data_say_nothing() {
        assert_eq!(data(&[b": ping\n\nid: 7\nretry: 10\nevent: x\n\ndata:a\n: in between\nfoo: bar\n\n"]), ["a"]);
    }

    #[test]
    fn several_data_lines_are_one_text() {
        assert_eq!(data(&[b"data: a\ndata\ndata:  b\n\n"]), ["a\n\n b"]);
    }

    #[test]
    fn the_event_name_belongs_to_one_event_only() {
        let events = read(&[b"event: error\ndata: x\n\ndata: y\n\n"]);
        assert_eq!((events[0].name.as_str(), events[1].name.as_str()), ("error", ""));
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_only() {
        assert_eq!(data(&[b"\xef\xbb", b"\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"]), ["a"]);
    }

    #[test]
    fn an_event_without_its_blank_line_is_not_delivered_but_can_be_looked_at() {
        let mut reader = SseReader::new();
        reader.push(b"data: a\n\ndata: [DONE]").expect("short lines");
        assert_eq!(reader.next_event().map(|event| event.data), Some("a".to_owned()));
        assert_eq!(reader.next_event(), None);
        assert_eq!(reader.unfinished().map(|event| event.data), Some("[DONE]".to_owned()));
    }

    #[test]
    fn a_line_without_end_is_refused_instead_of_filling_the_memory() {
        let mut reader = SseReader::new();
        let part = vec![b'x'; 1 << 20];
        let result = (0..17).try_for_each(|_| reader.push(&part));
        assert_eq!(result, Err(LineTooLong));
    }

    proptest! {
        #[test]
        fn any_split_of_any_stream_gives_the_same_events(
            texts in prop::collection::vec("[ -~é试🦀\u{85}]{0,12}(\n[a-z试]{0,5}){0,2}", 0..8),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r"]), 1..5),
            comments in any::<bool>(),
            cuts in prop::collection::vec(0usize..400, 0..40),
        ) {
            let mut ends = ends.iter().cycle();
            let mut end = || *ends.next().expect("cycles");
            let mut stream = String::new();
            for text in &texts {
                if comments {
                    stream += &format!(": 注释{}", end());
                }
                for line in text.split('\n') {
                    stream += &format!("data: {line}{}", end());
                }
                // An LF behind a CR would be the same line end, so the blank line always has a CR or follows none.
                let blank = end();
                stream += if stream.ends_with('\r') && blank == "\n" { "\r" } else { blank };
            }
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            cuts.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for cut in cuts {
                parts.push(&bytes[from..cut]);
                from = cut;
            }
            parts.push(&bytes[from..]);
            prop_assert_eq!(data(&parts), texts.clone());
        }
    }
}
