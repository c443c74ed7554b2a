//! The lines of `client-req-{scenario}.log`: what a person wants to know of one request.

use std::fmt::Write;

use crate::{failure::excerpt, record::Record};

/// Characters of the answer that a line shows.
pub(crate) const ANSWER_EXCERPT: usize = 120;

/// One line without line breaks.
pub(crate) fn line(record: &Record, answer: &str) -> String {
    let mut line = format!(
        "{} {} {} item={}",
        time(record.start_unix_ms),
        record.id,
        record.phase.as_str(),
        one_line(&record.item)
    );
    if record.ok {
        line.push_str(" ok");
    } else {
        let class = record.error_class.map_or("other", |class| class.as_str());
        let _ = write!(line, " FAILED {class}");
    }
    if let Some(status) = record.http_status {
        let _ = write!(line, " status={status}");
    }
    if let Some(reason) = &record.finish_reason {
        let _ = write!(line, " finish={}", one_line(reason));
    }
    for (name, value) in [("prompt_tokens", record.prompt_tokens), ("completion_tokens", record.completion_tokens)] {
        if let Some(value) = value {
            let _ = write!(line, " {name}={value}");
        }
    }
    let ms = |us: u64| us as f64 / 1e3;
    let times = [
        ("queue", record.queue_us().map(ms)),
        ("ttft", record.ttft_us().map(ms)),
        ("tpot", record.tpot_ns().map(|ns| ns as f64 / 1e6)),
        ("e2el", record.e2el_us().map(ms)),
    ];
    for (name, value) in times {
        if let Some(value) = value {
            let _ = write!(line, " {name}={value:.3}ms");
        }
    }
    if let Some(score) = &record.score {
        let _ = write!(line, " {}={}", one_line(&score.name), score.value);
    }
    if let Some(error) = &record.error {
        let _ = write!(line, " error={}", quoted(error));
    }
    if !answer.is_empty() {
        let _ = write!(line, " answer={}", quoted(&excerpt(answer, ANSWER_EXCERPT)));
    }
    line
}

fn time(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).map_or_else(
        |_| unix_ms.to_string(),
        |time| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string(),
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", one_line(text).replace('"', "\\\""))
}

/// `text` with everything that some reader takes for a line break written out.
fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(breaks) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut line, c| {
        if breaks(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_happened_and_breaks_nowhere() {
        let record = r#"{"id":"req-000001","ok":true,"item":"7","http_status":200,"finish_reason":"stop","intended_us":0,"sent_us":2000,
            "first_token_us":52000,"last_token_us":152000,"end_us":152500,"prompt_tokens":5,"completion_tokens":11}"#;
        let record = Record::parse(record).expect("a record");
        let text = line(&record, "two\nlines, \u{2028}\"quoted\"");
        let (time, rest) = text.split_once(' ').expect("begins with the time");
        assert!(time.starts_with("19") && time.contains('T'), "{time}");
        assert_eq!(
            rest,
            "req-000001 load item=7 ok status=200 finish=stop prompt_tokens=5 completion_tokens=11 queue=2.000ms ttft=50.000ms \
             tpot=10.000ms e2el=150.500ms answer=\"two\\nlines, \\u{2028}\\\"quoted\\\"\""
        );
        let failed =
            r#"{"id":"a","ok":false,"error_class":"timeout","error":"not\r\ncomplete","sent_us":0,"end_us":1000}"#;
        let failed = line(&Record::parse(failed).expect("a record"), "");
        assert!(failed.ends_with("a load item= FAILED timeout e2el=1.000ms error=\"not\\r\\ncomplete\""), "{failed}");
    }
}
