//! What a server's clock said.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A server's clock, read at a moment of this host's monotonic clock. Steps of this host's wall clock leave it right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    at: Instant,
    server_ms: i64,
}

impl Reading {
    /// `server_ms` stood in an answer to what was sent at `sent`: it was true half-way between then and now.
    pub(crate) fn half_way(sent: Instant, server_ms: i64) -> Self {
        Self { at: sent + sent.elapsed() / 2, server_ms }
    }

    /// From the `Date` of an HTTP answer, which is cut to whole seconds.
    pub(crate) fn of_date(sent: Instant, headers: &reqwest::header::HeaderMap) -> Option<Self> {
        let date = httpdate::parse_http_date(headers.get(reqwest::header::DATE)?.to_str().ok()?).ok()?;
        Some(Self::half_way(sent, epoch_ms(date) + 500))
    }

    /// The server's clock now.
    pub(crate) fn now_ms(&self) -> i64 {
        self.server_ms.saturating_add(ms(self.at.elapsed()))
    }
}

fn epoch_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, ms)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// This host's wall clock, epoch ms.
pub(crate) fn now_ms() -> i64 {
    epoch_ms(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_header_is_read_to_the_middle_of_its_second_and_nonsense_is_none() {
        let mut headers = reqwest::header::HeaderMap::new();
        assert_eq!(Reading::of_date(Instant::now(), &headers), None);
        headers.insert("date", "Sat, 21 Nov 2026 12:00:00 GMT".parse().expect("a header"));
        let now = Reading::of_date(Instant::now(), &headers).expect("a date").now_ms();
        assert!((1_795_262_400_500..1_795_262_410_500).contains(&now), "{now}");
        headers.insert("date", "yesterday".parse().expect("a header"));
        assert_eq!(Reading::of_date(Instant::now(), &headers), None);
    }
}
