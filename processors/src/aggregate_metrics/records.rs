//! Reads record files line by line and adds up what belongs to the run.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use testrig_loadgen::{Phase, Record, Slo, Summarizer, Summary, Window};
use tokio_util::sync::CancellationToken;

use super::{
    definitions::{Custom, Tally, plain},
    reported::{self, Reported},
};

/// Longest line that is read; a record with a hundred thousand tokens stays far below.
const LINE_LIMIT: u64 = 16 << 20;
/// How many places of bad lines are told.
const PLACES: usize = 5;

/// What is added up.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) files: Vec<PathBuf>,
    pub(super) window: Window,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) custom: Vec<Custom>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) summary: Summary,
    /// Custom figures by name.
    pub(super) custom: Vec<(String, Option<f64>)>,
    /// Lines that are not blank.
    pub(super) lines: u64,
    /// Lines that are no records.
    pub(super) bad: u64,
    /// The first of them, with why.
    pub(super) places: Vec<String>,
    pub(super) other_tags: u64,
    pub(super) out_of_window: u64,
    /// Records in window and tags that measure something.
    pub(super) measured: u64,
    /// What a test script reported itself.
    pub(super) reported: Reported,
}

/// Reads and adds up. Blocking; ends with `Interrupted` soon after `stop`.
pub(super) fn add_up(wanted: &Wanted, stop: &CancellationToken) -> Result<Counted, (PathBuf, io::Error)> {
    let mut reader = Reader {
        sums: Summarizer::new(Window::default(), Slo::default()),
        tallies: wanted.custom.iter().cloned().map(Tally::new).collect(),
        wanted,
        lines: 0,
        bad: 0,
        places: Vec::new(),
        other_tags: 0,
        out_of_window: 0,
        measured: 0,
        reported: Reported::default(),
    };
    for path in &wanted.files {
        reader.file(path, stop).map_err(|error| (path.clone(), error))?;
    }
    Ok(Counted {
        summary: reader.sums.finish(),
        custom: reader.tallies.into_iter().map(Tally::finish).collect(),
        lines: reader.lines,
        bad: reader.bad,
        places: reader.places,
        other_tags: reader.other_tags,
        out_of_window: reader.out_of_window,
        measured: reader.measured,
        reported: reader.reported,
    })
}

struct Reader<'a> {
    wanted: &'a Wanted,
    sums: Summarizer,
    tallies: Vec<Tally>,
    lines: u64,
    bad: u64,
    places: Vec<String>,
    other_tags: u64,
    out_of_window: u64,
    measured: u64,
    reported: Reported,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, stop: &CancellationToken) -> io::Result<()> {
        let mut file = BufReader::with_capacity(256 * 1024, File::open(path)?);
        let mut line = Vec::new();
        let mut number = 0_u64;
        loop {
            if stop.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            line.clear();
            number += 1;
            let read = (&mut file).take(LINE_LIMIT).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            if read as u64 == LINE_LIMIT && line.last() != Some(&b'\n') {
                self.lines += 1;
                self.bad(path, number, "is longer than 16 MiB");
                file.skip_until(b'\n')?;
                continue;
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            self.lines += 1;
            if let Some(line) = std::str::from_utf8(text).ok().and_then(reported::parse) {
                self.reported(line);
                continue;
            }
            match std::str::from_utf8(text)
                .map_err(|e| e.to_string())
                .and_then(|text| Record::parse(text).map_err(|e| e.to_string()))
            {
                Ok(record) => self.record(&record),
                Err(error) => self.bad(path, number, &error),
            }
        }
    }

    fn reported(&mut self, line: reported::Line) {
        let window = self.wanted.window;
        let at = line.start_unix_ms;
        let inside = window.start_unix_ms.is_none_or(|start| at.is_none_or(|at| start <= at))
            && window.end_unix_ms.is_none_or(|end| at.is_none_or(|at| at <= end));
        if !self.is_wanted(&line.tags) {
            self.other_tags += 1;
        } else if inside {
            self.reported.take(line);
        } else {
            self.out_of_window += 1;
        }
    }

    fn is_wanted(&self, tags: &serde_json::Map<String, serde_json::Value>) -> bool {
        let tagged = |(key, value): (&String, &String)| tags.get(key).is_some_and(|found| plain(found) == *value);
        self.wanted.tags.iter().all(tagged)
    }

    fn record(&mut self, record: &Record) {
        if !self.is_wanted(&record.tags) {
            self.other_tags += 1;
            return;
        }
        if !self.wanted.window.contains(record) {
            // The warm-up lies before the window on purpose.
            self.out_of_window += u64::from(record.phase != Phase::Warmup);
            return;
        }
        self.sums.add(record);
        if record.phase != Phase::Warmup {
            self.measured += 1;
            self.tallies.iter_mut().for_each(|tally| tally.add(record));
        }
    }

    fn bad(&mut self, path: &Path, number: u64, why: &str) {
        self.bad += 1;
        if self.places.len() < PLACES {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.places.push(format!("{name}:{number} ({why})"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(phase: &str, start_ms: i64, tag: &str) -> String {
        json!({"v": 1, "id": "x", "phase": phase, "start_unix_ms": start_ms, "sent_us": 1000, "first_token_us": 11_000, "last_token_us": 31_000,
               "end_us": 31_000, "ok": true, "completion_tokens": 3, "tags": {"bizLine": tag}})
        .to_string()
    }

    fn wanted(text: &str) -> (tempfile::TempDir, Wanted) {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("metrics-chat.log");
        std::fs::write(&file, text).expect("written");
        (dir, Wanted { files: vec![file], window: Window::default(), tags: BTreeMap::new(), custom: Vec::new() })
    }

    #[test]
    fn only_measured_records_in_window_and_tags_count_and_bad_lines_are_counted() {
        let text = [
            line("warmup", 50, "a"),
            line("load", 100, "a"),
            "{broken".into(),
            line("load", 200, "b"),
            String::new(),
            line("functional", 300, "a"),
            line("load", 999, "a"),
            "[]".into(),
        ]
        .join("\n");
        let (_dir, mut wanted) = wanted(&text);
        wanted.window = Window { start_unix_ms: Some(100), end_unix_ms: Some(500) };
        wanted.tags = BTreeMap::from([("bizLine".into(), "a".into())]);
        let counted = add_up(&wanted, &CancellationToken::new()).expect("read");
        assert_eq!((counted.measured, counted.summary.requests), (2, 2));
        assert_eq!((counted.lines, counted.bad, counted.other_tags, counted.out_of_window), (7, 2, 1, 1));
        assert!(
            counted.places[0].starts_with("metrics-chat.log:3 (")
                && counted.places[1].starts_with("metrics-chat.log:8 ("),
            "{:?}",
            counted.places
        );
        assert_eq!(counted.summary.metric("ttft_avg"), Some(10.0));
        assert_eq!(counted.summary.metric("tpot_avg"), Some(10.0));
    }

    #[test]
    fn a_raised_stop_ends_the_reading() {
        let (_dir, wanted) = wanted(&line("load", 1, "a"));
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(add_up(&wanted, &stop).expect_err("stopped").1.kind(), io::ErrorKind::Interrupted);
    }
}
