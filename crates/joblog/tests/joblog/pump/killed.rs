//! A process that is killed while it sends.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use testrig_joblog::{Cursors, Journals, Level, Limits, Line, MIGRATIONS, Pump, PumpOptions, Sink, SinkError};
use testrig_store::Store;

use super::sink::{quick, until};

/// A sink that another process can look at: one line of the file for each line sent.
struct FileSink(Mutex<std::fs::File>);

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &str {
        "file"
    }

    async fn send(&self, _: i64, lines: &[Line]) -> Result<(), SinkError> {
        let text: String = lines.iter().map(|l| format!("{} {} {}\n", l.index, l.log_time_ms, lines.len())).collect();
        self.0.lock().write_all(text.as_bytes()).map_err(|e| SinkError::Retry(e.to_string()))
    }
}

async fn pump_into_file(dir: &std::path::Path) {
    let store = Store::open(&dir.join("state.db"), MIGRATIONS).expect("a store");
    let journals = Journals::open(&dir.join("journals"), Limits::default(), store.clone()).expect("journals");
    let file = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("sink")).expect("a file");
    let sink = Arc::new(FileSink(Mutex::new(file)));
    let journal = journals.journal(1).expect("a journal");
    let options = PumpOptions { max_lines: 7, ..quick() };
    assert!(Pump::spawn(journal, sink, Cursors::new(store), options).drained(None).await);
}

#[tokio::test]
async fn a_process_killed_at_any_moment_loses_no_line_and_doubles_one_batch_at_most() {
    let dir = tempfile::tempdir().expect("a directory");
    let total = 4000;
    {
        let store = Store::open(&dir.path().join("state.db"), MIGRATIONS).expect("a store");
        let journals = Journals::open(&dir.path().join("journals"), Limits::default(), store).expect("journals");
        let text: Vec<_> = (0..total).map(|i| i.to_string()).collect();
        journals.journal(1).expect("a journal").append(Level::Info, "a", &text.join("\n"));
    }
    let sink = dir.path().join("sink");
    let kills = 6;
    for kill in 1..=kills {
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", "pump::killed::what_a_child_does"])
            .env("PUMP_TEST_DIR", dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("the test binary starts");
        let wanted = kill * 400 * 12;
        until(|| std::fs::metadata(&sink).is_ok_and(|meta| meta.len() > wanted)).await;
        child.kill().expect("SIGKILL");
        child.wait().expect("the child is gone");
    }
    pump_into_file(dir.path()).await;
    let text = std::fs::read_to_string(&sink).expect("the sink's file");
    let rows: Vec<Vec<u64>> =
        text.lines().map(|l| l.split(' ').map(|word| word.parse().expect("a number")).collect()).collect();
    let (mut next, mut doubled, mut times) = (0, 0, std::collections::HashMap::new());
    for row in &rows {
        let &[index, log_time, _] = row.as_slice() else { panic!("three numbers: {row:?}") };
        assert!(index <= next, "line {next} is missing");
        if index < next {
            assert!(next - index <= 7, "more than a batch doubled");
            doubled += 1;
        } else {
            next += 1;
        }
        assert_eq!(*times.entry(index).or_insert(log_time), log_time, "the same log time each time");
    }
    assert_eq!(next, total);
    assert!(doubled <= kills * 7, "{doubled} lines doubled by {kills} kills");
}

/// Does nothing unless started by the test above.
#[tokio::test]
async fn what_a_child_does() {
    if let Some(dir) = std::env::var_os("PUMP_TEST_DIR") {
        pump_into_file(std::path::Path::new(&dir)).await;
    }
}
