//! What a pull says while it lasts: few lines of many events.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use tokio::time::Instant;

/// Adds up the events of one pull. Layers are counted; their sizes are known from when their download begins.
#[derive(Debug)]
pub(super) struct Progress {
    every: Duration,
    layers: BTreeMap<String, Layer>,
    /// When the latest summary was given (at first: the begin), and how many bytes there were then.
    said: (Instant, u64),
    /// The rest of the layer's pause as it was told last, to tell the begin of a countdown from its course.
    countdown: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Layer {
    downloaded: u64,
    /// 0 = not known yet.
    total: u64,
    unpacked: bool,
    /// It was here before.
    here: bool,
}

impl Progress {
    /// Gives a summary every so often.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self { every, layers: BTreeMap::new(), said: (now, 0), countdown: BTreeMap::new() }
    }

    /// Takes an event; `Some` = a line for people.
    pub(super) fn event(&mut self, event: &CreateImageInfo, now: Instant) -> Option<String> {
        let status = event.status.as_deref()?.trim();
        let id = event.id.as_deref().unwrap_or_default();
        let bytes = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok());
        let current = event.progress_detail.as_ref().and_then(|detail| bytes(detail.current));
        let total = event.progress_detail.as_ref().and_then(|detail| bytes(detail.total));
        match status {
            "" | "Waiting" => None,
            "Pulling fs layer" => {
                self.layers.entry(id.to_owned()).or_default();
                None
            }
            "Already exists" => {
                self.layers.entry(id.to_owned()).or_default().here = true;
                None
            }
            "Downloading" => {
                let layer = self.layers.entry(id.to_owned()).or_default();
                let total = total.unwrap_or(0);
                layer.total = layer.total.max(total);
                // Of a download that is resumed the engine counts only the rest.
                layer.downloaded = layer.total - total + current.unwrap_or(0);
                self.countdown.remove(id);
                self.summary(now)
            }
            "Verifying Checksum" | "Download complete" => {
                let layer = self.layers.entry(id.to_owned()).or_default();
                layer.downloaded = layer.total.max(layer.downloaded);
                layer.total = layer.downloaded;
                self.summary(now)
            }
            "Extracting" => self.summary(now),
            "Pull complete" => {
                self.layers.entry(id.to_owned()).or_default().unpacked = true;
                Some(format!("{id}: Pull complete ({})", self.unpacked()))
            }
            _ => match status.strip_prefix("Retrying in ").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
                Some(seconds) => self.retrying(id, seconds),
                None if id.is_empty() => Some(status.to_owned()),
                None => Some(format!("{id}: {status}")),
            },
        }
    }

    fn retrying(&mut self, id: &str, seconds: u64) -> Option<String> {
        let before = self.countdown.insert(id.to_owned(), seconds);
        before.is_none_or(|before| before < seconds).then(|| {
            format!("{id}: the connection to the registry was lost; the engine goes on with this layer in {seconds} s")
        })
    }

    fn summary(&mut self, now: Instant) -> Option<String> {
        let (then, before) = self.said;
        let passed = now.saturating_duration_since(then);
        if passed < self.every {
            return None;
        }
        let wanted = || self.layers.values().filter(|layer| !layer.here);
        let done: u64 = wanted().map(|layer| layer.downloaded).sum();
        let total: u64 = wanted().map(|layer| layer.total).sum();
        let unknown = wanted().filter(|layer| layer.total == 0).count();
        self.said = (now, done);
        let share = match (unknown, total) {
            (0, 1..) => format!(" ({} %)", done.saturating_mul(100) / total),
            (0, 0) => String::new(),
            (unknown, _) => format!(", layers that have not begun: {unknown}"),
        };
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let rate = (done.saturating_sub(before) as f64 / passed.as_secs_f64().max(0.001)).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes a second, not negative")]
        let rate = rate as u64;
        Some(format!("{} of {} downloaded{share}, {}/s, {}", size(done), size(total), size(rate), self.unpacked()))
    }

    fn unpacked(&self) -> String {
        let there = self.layers.values().filter(|layer| layer.unpacked || layer.here).count();
        format!("{there} of {} layers here", self.layers.len())
    }
}

/// `3.4 MiB`.
fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn event(id: &str, status: &str, bytes: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: (!id.is_empty()).then(|| id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: bytes
                .map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn many_events_make_few_lines_with_bytes_and_percent() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut progress = Progress::new(Duration::from_secs(5), begin);
        assert_eq!(
            progress.event(&event("1", "Pulling from rig/bb", None), at(0)).as_deref(),
            Some("1: Pulling from rig/bb")
        );
        for id in ["a", "b", "c"] {
            assert_eq!(progress.event(&event(id, "Pulling fs layer", None), at(1)), None);
        }
        assert_eq!(progress.event(&event("c", "Already exists", None), at(2)), None);
        for ms in (10..5000).step_by(10) {
            let now = i64::try_from(ms).expect("small");
            assert_eq!(progress.event(&event("a", "Downloading", Some((now << 10, 20 << 20))), at(ms)), None);
        }
        let line = progress.event(&event("a", "Downloading", Some((5 << 20, 20 << 20))), at(5000)).expect("its time");
        assert_eq!(
            line,
            "5.0 MiB of 20.0 MiB downloaded, layers that have not begun: 1, 1.0 MiB/s, 1 of 3 layers here"
        );
        assert_eq!(progress.event(&event("b", "Download complete", None), at(5001)), None);
        assert_eq!(progress.event(&event("b", "Downloading", Some((1 << 20, 1 << 20))), at(5002)), None);
        let line = progress.event(&event("a", "Extracting", Some((1, 2))), at(10_000)).expect("its time");
        assert_eq!(line, "6.0 MiB of 21.0 MiB downloaded (28 %), 204.8 KiB/s, 1 of 3 layers here");
        let line = progress.event(&event("a", "Pull complete", None), at(10_001)).expect("the end of a layer");
        assert_eq!(line, "a: Pull complete (2 of 3 layers here)");
    }

    #[test]
    fn a_layer_that_is_resumed_is_told_once_and_goes_on_from_where_it_was() {
        let begin = Instant::now();
        let mut progress = Progress::new(Duration::ZERO, begin);
        let mut say = |event: &CreateImageInfo| progress.event(event, begin + Duration::from_secs(1));
        say(&event("a", "Downloading", Some((700, 1000))));
        assert!(
            say(&event("a", "Retrying in 5 seconds", None)).expect("told").contains("goes on with this layer in 5 s")
        );
        for seconds in (1..5).rev() {
            assert_eq!(say(&event("a", &format!("Retrying in {seconds} seconds"), None)), None);
        }
        let line = say(&event("a", "Downloading", Some((100, 300)))).expect("every is zero");
        assert!(line.starts_with("800 B of 1000 B downloaded (80 %)"), "{line}");
        assert!(say(&event("a", "Retrying in 5 seconds", None)).is_some(), "a second loss is told again");
        assert!(say(&event("a", "Retrying in 10 seconds", None)).is_some(), "and a third without bytes between them");
    }

    #[test]
    fn sizes_are_for_people() {
        let shown: Vec<String> = [0, 1023, 1024, 3_565_158, 9_019_431_321].into_iter().map(size).collect();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "3.4 MiB", "8.4 GiB"]);
    }
}
