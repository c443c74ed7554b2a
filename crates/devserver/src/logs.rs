//! The online log: lines in the server's private database, a page file rebuilt at most every 10 s, and a stable file written 60 s
//! after the end. Asking before the first line writes the stub as the stable file, and the stub then stays for good: a bug of the
//! real server that agents must live with.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Lines a page.
const PAGE: usize = 100;
const STUB: &str = "SYSTEM: There is no online log for this job instance.\n";

#[derive(Debug, Default)]
pub(crate) struct LogStore {
    live: HashMap<i64, Live>,
    stable: HashMap<i64, String>,
}

#[derive(Debug, Default)]
struct Live {
    lines: Vec<LogLine>,
    /// Built page file and when.
    file: Option<(i64, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) time: i64,
    pub(crate) level: i64,
    pub(crate) address: String,
    pub(crate) text: String,
}

/// One page as `/instance/log` gives it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) index: i64,
    pub(crate) total: i64,
    pub(crate) text: String,
}

impl Page {
    /// A text of trouble in the shape of a page.
    pub(crate) fn trouble(text: String) -> Self {
        Self { index: 0, total: 1, text }
    }
}

impl LogStore {
    pub(crate) fn submit(&mut self, instance_id: i64, line: LogLine) {
        self.live.entry(instance_id).or_default().lines.push(line);
    }

    /// One page at `now`; `cache_ms` = how old a built page file may be.
    pub(crate) fn page(&mut self, instance_id: i64, index: i64, now: i64, cache_ms: i64, zone: &TimeZone) -> Page {
        let Some(live) = self.live.get_mut(&instance_id) else {
            return cut(self.stable.entry(instance_id).or_insert_with(|| STUB.to_owned()), index);
        };
        if live.file.as_ref().is_none_or(|(built, _)| now - built >= cache_ms) {
            live.file = Some((now, render(&live.lines, zone)));
        }
        cut(live.file.as_ref().map_or("", |(_, text)| text), index)
    }

    /// Archives: an existing stable file stays as it is, the lines are gone either way.
    pub(crate) fn sync(&mut self, instance_id: i64, zone: &TimeZone) {
        let live = self.live.remove(&instance_id);
        self.stable
            .entry(instance_id)
            .or_insert_with(|| live.map_or_else(|| STUB.to_owned(), |live| render(&live.lines, zone)));
    }

    /// Nothing of the instance's log stays.
    pub(crate) fn forget(&mut self, instance_id: i64) {
        self.live.remove(&instance_id);
        self.stable.remove(&instance_id);
    }

    /// The private database of a server does not survive its restart.
    pub(crate) fn forget_unarchived(&mut self) {
        self.live.clear();
    }

    /// All lines that have arrived for an instance and are not archived yet, in the order of the log.
    pub(crate) fn lines(&self, instance_id: i64) -> Vec<LogLine> {
        let mut lines = self.live.get(&instance_id).map(|live| live.lines.clone()).unwrap_or_default();
        lines.sort_by_key(|line| line.time);
        lines
    }
}

fn render(lines: &[LogLine], zone: &TimeZone) -> String {
    let mut order: Vec<&LogLine> = lines.iter().collect();
    order.sort_by_key(|line| line.time);
    order.into_iter().fold(String::new(), |mut text, line| {
        let time = Timestamp::from_millisecond(line.time).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone());
        let level = match line.level {
            1 => "DEBUG",
            2 => "INFO",
            3 => "WARN",
            4 => "ERROR",
            99 => "OFF",
            _ => "UNKNOWN",
        };
        text.push_str(&format!(
            "{} [{}] {level} {}\n",
            time.strftime("%Y-%m-%d %H:%M:%S.%3f"),
            line.address,
            line.text
        ));
        text
    })
}

/// Cuts a page out of a file as Java's line reader sees it: `\n`, `\r\n` and a lone `\r` end a line.
fn cut(file: &str, index: i64) -> Page {
    let mut lines: Vec<&str> = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        match rest.find(['\n', '\r']) {
            Some(end) => {
                lines.push(&rest[..end]);
                let breaks = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
                rest = &rest[end + breaks..];
            }
            None => {
                lines.push(rest);
                rest = "";
            }
        }
    }
    let total = lines.len().div_ceil(PAGE);
    let first = usize::try_from(index).map_or(usize::MAX, |index| index.saturating_mul(PAGE));
    let text = lines.iter().skip(first).take(PAGE).fold(String::new(), |mut text, line| {
        text.push_str(line);
        text.push('\n');
        text
    });
    Page { index, total: i64::try_from(total).unwrap_or(i64::MAX), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: i64, text: &str) -> LogLine {
        LogLine { time, level: 2, address: "w".into(), text: text.into() }
    }

    #[test]
    fn pages_hold_a_hundred_physical_lines_sorted_by_log_time() {
        let mut logs = LogStore::default();
        for n in (0..150).rev() {
            logs.submit(1, line(n, &format!("line {n}")));
        }
        logs.submit(1, line(150, "two\nparts\rthree"));
        let page = logs.page(1, 0, 0, 10, &TimeZone::UTC);
        assert_eq!(page.total, 2);
        assert!(page.text.starts_with("1970-01-01 00:00:00.000 [w] INFO line 0\n"));
        assert_eq!(page.text.lines().count(), 100);
        assert_eq!(logs.page(1, 1, 0, 10, &TimeZone::UTC).text.lines().count(), 53);
        assert_eq!(logs.page(1, 9, 0, 10, &TimeZone::UTC).text, "");
    }

    #[test]
    fn a_page_is_rebuilt_only_when_the_last_one_is_old_enough() {
        let mut logs = LogStore::default();
        logs.submit(1, line(1, "a"));
        assert_eq!(logs.page(1, 0, 0, 10, &TimeZone::UTC).text.lines().count(), 1);
        logs.submit(1, line(2, "b"));
        assert_eq!(logs.page(1, 0, 9, 10, &TimeZone::UTC).text.lines().count(), 1);
        assert_eq!(logs.page(1, 0, 10, 10, &TimeZone::UTC).text.lines().count(), 2);
    }

    #[test]
    fn asking_too_early_poisons_the_archived_log() {
        let mut logs = LogStore::default();
        assert_eq!(logs.page(1, 0, 0, 10, &TimeZone::UTC).text, STUB);
        logs.submit(1, line(1, "real"));
        assert!(logs.page(1, 0, 0, 10, &TimeZone::UTC).text.ends_with("real\n"));
        logs.sync(1, &TimeZone::UTC);
        assert_eq!(logs.page(1, 0, 0, 10, &TimeZone::UTC).text, STUB);
    }

    #[test]
    fn lines_after_the_archiving_hide_what_was_archived() {
        let mut logs = LogStore::default();
        logs.submit(1, line(1, "early"));
        logs.sync(1, &TimeZone::UTC);
        assert!(logs.page(1, 0, 0, 10, &TimeZone::UTC).text.ends_with("early\n"));
        logs.submit(1, line(2, "late"));
        let text = logs.page(1, 0, 0, 10, &TimeZone::UTC).text;
        assert!(text.ends_with("late\n") && !text.contains("early"));
    }
}
