//! Five thousand lines that are not like those of a textbook.

use std::fmt::Write;

/// Lines as services really print them. What a journal line cannot hold (line breaks) splits it.
pub(crate) fn text() -> String {
    let mut text = String::new();
    for i in 0..5000 {
        match i % 10 {
            0 => _ = writeln!(text, "{i} 中文日志：加载模型权重 ✓ émoji 🦀"),
            1 => text.push('\n'),
            2 => _ = writeln!(text, "{i} {}", "x".repeat(10_000)),
            3 => _ = writeln!(text, "{i} tab\tand \"quotes\" and \\backslash and 'single' {{}}"),
            4 => _ = writeln!(text, "   {i} leading and trailing spaces   "),
            5 => _ = write!(text, "{i} progress 10%\r{i} progress 100%\r\n"),
            6 => _ = writeln!(text, "{i} \u{1b}[31mred\u{1b}[0m and a bell \u{7}"),
            _ => _ = writeln!(text, "{i} plain"),
        }
    }
    text
}

/// The lines that a journal holds of the text: a carriage return alone ends a line as well, and the pair of both is one break.
pub(crate) fn lines() -> Vec<String> {
    text().replace("\r\n", "\n").replace('\r', "\n").lines().map(str::to_owned).collect()
}

/// Whether a log holds all these lines in their order; lines of others may stand between them.
pub(crate) fn within(log: &[String]) -> bool {
    let mut log = log.iter();
    lines().iter().all(|wanted| log.any(|line| line == wanted))
}

/// Where two logs begin to differ, with both lines.
pub(crate) fn first_difference(a: &[String], b: &[String]) -> Option<(usize, String, String)> {
    let line =
        |log: &[String], i: usize| log.get(i).map_or_else(|| "(no line)".to_owned(), |l| l.chars().take(200).collect());
    (0..a.len().max(b.len())).find(|i| a.get(*i) != b.get(*i)).map(|i| (i, line(a, i), line(b, i)))
}
