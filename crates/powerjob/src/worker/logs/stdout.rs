//! Lines that a job wants printed (`logConfig` type STDOUT).

use std::io::{self, Write};

use async_trait::async_trait;
use testrig_joblog::{Level, Line, Sink, SinkError};

/// Name of its cursor.
const SINK: &str = "stdout";

/// Prints the lines as the Java worker does, with the instance in front: errors on standard error, the rest on standard output.
pub(super) struct StdoutSink;

#[async_trait]
impl Sink for StdoutSink {
    fn name(&self) -> &str {
        SINK
    }

    async fn send(&self, instance_id: i64, lines: &[Line]) -> Result<(), SinkError> {
        let (out, err) = render(instance_id, lines);
        // A reader that does not read holds up this log and no thread of the runtime.
        let printed = tokio::task::spawn_blocking(move || {
            print(&mut io::stdout(), &out)?;
            print(&mut io::stderr(), &err)
        });
        match printed.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Ok(()),
            Err(error) => Err(SinkError::Retry(format!("standard output cannot be written: {error}"))),
        }
    }
}

fn print(to: &mut impl Write, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    to.write_all(text.as_bytes())?;
    to.flush()
}

/// What goes to standard output, and to standard error.
fn render(instance_id: i64, lines: &[Line]) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    for line in lines {
        let to = if line.level == Level::Error { &mut err } else { &mut out };
        to.push_str(&format!("[PowerJob] [{}] [{instance_id}] {}\n", line.level, line.text));
    }
    (out, err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_printed_with_level_and_instance_and_errors_apart() {
        let line = |level, text: &str| Line {
            index: 0,
            time_ms: 0,
            log_time_ms: 0,
            level,
            source: "agent".to_owned(),
            text: text.to_owned(),
            position: None,
        };
        let (out, err) = render(7, &[line(Level::Info, "one"), line(Level::Error, "two"), line(Level::Warn, "three")]);
        assert_eq!(out, "[PowerJob] [INFO] [7] one\n[PowerJob] [WARN] [7] three\n");
        assert_eq!(err, "[PowerJob] [ERROR] [7] two\n");
    }
}
