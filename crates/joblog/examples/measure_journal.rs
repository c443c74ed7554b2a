//! Measures a journal of a million lines: `cargo run -p testrig-joblog --example measure_journal [LINES]`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use testrig_joblog::{Entry, Journals, Level, Limits, Line, MIGRATIONS, Pump, PumpOptions, Sink, SinkError};
use testrig_store::Store;

struct Count(AtomicUsize);

#[async_trait]
impl Sink for Count {
    fn name(&self) -> &str {
        "count"
    }

    async fn send(&self, _: i64, lines: &[Line]) -> Result<(), SinkError> {
        self.0.fetch_add(lines.len(), Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let lines: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |word| word.parse())?;
    let dir = tempfile::tempdir()?;
    let store = Store::open(&dir.path().join("state.db"), MIGRATIONS)?;
    let open = || Journals::open(&dir.path().join("journals"), Limits::default(), store.clone());
    let text = "INFO 09-01 12:00:00 engine.py:310] Avg prompt throughput: 120.5 tokens/s, running: 8 reqs";

    let journal = open()?.journal(1)?;
    let before = memory_kib()?;
    let start = Instant::now();
    for _ in 0..lines {
        journal.append(Level::Info, "service", text);
    }
    report("append, one by one", lines, start);
    let start = Instant::now();
    let entry = Entry { level: Level::Info, source: "service", text, position: None };
    for _ in 0..lines / 100 {
        journal.append_many(&[entry; 100]);
    }
    report("append, 100 a call", lines, start);
    println!("memory grew by {} KiB for {} lines", memory_kib()?.saturating_sub(before), journal.len());

    let start = Instant::now();
    let mut next = 0;
    while let Some(last) = journal.read(next, 1000, 1 << 20)?.last() {
        next = last.index + 1;
    }
    report("read, 1000 a call", 2 * lines, start);
    let start = Instant::now();
    for i in 0..1000 {
        journal.read(i * journal.len() / 1000, 1, 1)?;
    }
    println!("read of one line anywhere: {:.1} us", start.elapsed().as_secs_f64() * 1000.0);

    drop(journal);
    let before = memory_kib()?;
    let start = Instant::now();
    let journals = open()?;
    let journal = journals.journal(1)?;
    report("open again", 2 * lines, start);
    println!("memory grew by {} KiB", memory_kib()?.saturating_sub(before));

    let sink = Arc::new(Count(AtomicUsize::new(0)));
    let start = Instant::now();
    let pump = Pump::spawn(journal, Arc::clone(&sink) as _, journals.cursors().clone(), PumpOptions::default());
    assert!(pump.drained(None).await, "the pump goes on");
    report("pump into nothing", sink.0.load(Ordering::Relaxed), start);
    println!("memory at the end {} KiB", memory_kib()?);
    Ok(())
}

fn report(what: &str, lines: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {:.0} lines/s ({seconds:.2} s)", lines as f64 / seconds);
}

fn memory_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number in VmRSS")?.parse()?)
}
