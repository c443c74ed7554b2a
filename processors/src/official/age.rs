//! How old a file is, and how long something took, in Java's words.

use std::time::{Duration, SystemTime};

/// Hours since a moment, begun ones counted as whole; 0 for a moment that is now or has yet to come.
pub(super) fn hours(now: SystemTime, then: SystemTime) -> i64 {
    let ms = now.duration_since(then).unwrap_or_default().as_millis();
    i64::try_from(ms.div_ceil(3_600_000)).unwrap_or(i64::MAX)
}

/// Four digits and the largest unit that fits, e.g. `12.34 ms`.
pub(super) fn four_digits(took: Duration) -> String {
    let ns = took.as_nanos() as f64;
    let units = [(86_400e9, "d"), (3_600e9, "h"), (60e9, "min"), (1e9, "s"), (1e6, "ms"), (1e3, "μs")];
    let (size, unit) = units.into_iter().find(|(size, _)| ns >= *size).unwrap_or((1.0, "ns"));
    let value = ns / size;
    let digits = match value {
        v if v < 10.0 => 3,
        v if v < 100.0 => 2,
        v if v < 1000.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begun_hour_is_an_hour() {
        let then = SystemTime::UNIX_EPOCH;
        let at = |ms| hours(then + Duration::from_millis(ms), then);
        assert_eq!((at(0), at(1), at(3_600_000), at(3_600_001)), (0, 1, 1, 2));
        assert_eq!(hours(then, then + Duration::from_secs(5)), 0);
    }

    #[test]
    fn a_duration_has_four_digits() {
        for (ns, text) in
            [(5, "5.000 ns"), (12_340_000, "12.34 ms"), (1_500_000_000, "1.500 s"), (90_000_000_000, "1.500 min")]
        {
            assert_eq!(four_digits(Duration::from_nanos(ns)), text);
        }
    }
}
