//! Time stamps of a journal's file: RFC 3339 in UTC with milliseconds. Written by hand because it is done once a line.

const DAY_MS: i64 = 86_400_000;
/// The last millisecond of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;
/// Bytes of `2026-01-02T03:04:05.678Z`.
pub(crate) const WIDTH: usize = 24;

/// The wall clock in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(LAST_MS))
}

/// Keeps a time within what the format can say.
pub(crate) fn clamp(ms: i64) -> i64 {
    ms.clamp(0, LAST_MS)
}

/// Appends the time; it must be within [`clamp`].
pub(crate) fn write(out: &mut Vec<u8>, ms: i64) {
    let (year, month, day) = civil(ms / DAY_MS);
    let rest = ms % DAY_MS;
    let mut digits = |number: i64, width: u32, behind: u8| {
        for place in (0..width).rev() {
            out.push(b'0' + (number / 10_i64.pow(place) % 10) as u8);
        }
        out.push(behind);
    };
    digits(year, 4, b'-');
    digits(month, 2, b'-');
    digits(day, 2, b'T');
    digits(rest / 3_600_000, 2, b':');
    digits(rest / 60_000 % 60, 2, b':');
    digits(rest / 1000 % 60, 2, b'.');
    digits(rest % 1000, 3, b'Z');
}

/// Reads what [`write`] wrote.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    if text.len() != WIDTH {
        return None;
    }
    let number = |from: usize, width: usize, behind: u8| {
        let digits = &text[from..from + width];
        (text[from + width] == behind && digits.iter().all(u8::is_ascii_digit))
            .then(|| digits.iter().fold(0_i64, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let days = days(number(0, 4, b'-')?, number(5, 2, b'-')?, number(8, 2, b'T')?);
    let seconds = (number(11, 2, b':')? * 60 + number(14, 2, b':')?) * 60 + number(17, 2, b'.')?;
    Some(days * DAY_MS + seconds * 1000 + number(20, 3, b'Z')?)
}

// Both are the well-known arithmetic of the Gregorian calendar with years that begin in March.

fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(ms: i64) -> String {
        let mut out = Vec::new();
        write(&mut out, ms);
        String::from_utf8(out).expect("digits are text")
    }

    #[test]
    fn known_days_are_written_as_people_know_them() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(1_732_158_001_002), "2024-11-21T03:00:01.002Z");
        assert_eq!(text(LAST_MS), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "2024-11-21T03:00:01.002", "2024-11-21 03:00:01.002Z", "2024-11-2xT03:00:01.002Z"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_time_is_read_back(ms in 0..=LAST_MS) {
            prop_assert_eq!(parse(text(ms).as_bytes()), Some(ms));
        }
    }
}
