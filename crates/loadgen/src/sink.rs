//! Writes what happened to files while it happens, and adds it up.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    plan::{Scenario, Slo},
    readable,
    record::Record,
    summary::{Summarizer, Summary, Window},
};

/// Records that wait for the writer. When it is full, requests that have ended wait before the next one is sent.
const BACKLOG: usize = 1024;

/// Sees every record.
type Observer = Box<dyn FnMut(&Record) + Send>;

/// Where records go. Files are created, or appended to.
#[derive(Default)]
pub struct RecordSink {
    records: Option<PathBuf>,
    readable: Option<PathBuf>,
    observer: Option<Observer>,
}

impl RecordSink {
    /// Keeps nothing but the summary.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// `metrics-{scenario}.log` and `client-req-{scenario}.log` in `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path, scenario: Scenario) -> Self {
        Self::none()
            .records(dir.join(format!("metrics-{scenario}.log")))
            .readable(dir.join(format!("client-req-{scenario}.log")))
    }

    /// One JSON record a line into `path`.
    #[must_use]
    pub fn records(self, path: PathBuf) -> Self {
        Self { records: Some(path), ..self }
    }

    /// One readable line a request into `path`.
    #[must_use]
    pub fn readable(self, path: PathBuf) -> Self {
        Self { readable: Some(path), ..self }
    }

    /// Shows every record to `observer`, on the writer's thread.
    #[must_use]
    pub fn observe(self, observer: impl FnMut(&Record) + Send + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    /// Opens the files and starts the writer.
    pub(crate) fn start(self, slo: Slo) -> Result<(RecordWriter, JoinHandle<Result<Summary, WriteError>>), WriteError> {
        let records = self.records.map(LogFile::open).transpose()?;
        let readable = self.readable.map(LogFile::open).transpose()?;
        let (entries, backlog) = mpsc::channel(BACKLOG);
        let summarizer = Summarizer::new(Window::default(), slo);
        let writer = Writer { records, readable, observer: self.observer, summarizer };
        Ok((RecordWriter { entries }, tokio::task::spawn_blocking(move || writer.write_all(backlog))))
    }
}

impl fmt::Debug for RecordSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordSink")
            .field("records", &self.records)
            .field("readable", &self.readable)
            .finish_non_exhaustive()
    }
}

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write `{}`", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A record, and what of the answer the readable line shows.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) answer: String,
}

/// The sending side; the writer ends when all of them are gone.
#[derive(Debug, Clone)]
pub(crate) struct RecordWriter {
    entries: mpsc::Sender<Entry>,
}

impl RecordWriter {
    /// Hands `entry` over; false when the writer has failed and nothing more can be kept.
    pub(crate) async fn write(&self, entry: Entry) -> bool {
        self.entries.send(entry).await.is_ok()
    }

    /// Lasts until the writer has failed.
    pub(crate) async fn failed(&self) {
        self.entries.closed().await;
    }
}

struct Writer {
    records: Option<LogFile>,
    readable: Option<LogFile>,
    observer: Option<Observer>,
    summarizer: Summarizer,
}

impl Writer {
    fn write_all(mut self, mut backlog: mpsc::Receiver<Entry>) -> Result<Summary, WriteError> {
        while let Some(entry) = backlog.blocking_recv() {
            self.write(&entry)?;
            while let Ok(entry) = backlog.try_recv() {
                self.write(&entry)?;
            }
            // Nothing waits, so whoever follows the files sees everything up to now, and a killed agent loses little.
            for file in [&mut self.records, &mut self.readable].into_iter().flatten() {
                file.apply(Write::flush)?;
            }
        }
        Ok(self.summarizer.finish())
    }

    fn write(&mut self, entry: &Entry) -> Result<(), WriteError> {
        let record = &entry.record;
        self.summarizer.add(record);
        if let Some(file) = &mut self.records {
            let line = serde_json::to_string(record).expect("a record is always JSON");
            file.apply(|file| writeln!(file, "{line}"))?;
        }
        if let Some(file) = &mut self.readable {
            let line = readable::line(record, &entry.answer);
            file.apply(|file| writeln!(file, "{line}"))?;
        }
        if let Some(observer) = &mut self.observer {
            observer(record);
        }
        Ok(())
    }
}

struct LogFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl LogFile {
    fn open(path: PathBuf) -> Result<Self, WriteError> {
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Ok(Self { path, file: BufWriter::with_capacity(64 << 10, file) }),
            Err(source) => Err(WriteError { path, source }),
        }
    }

    fn apply(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), WriteError> {
        write(&mut self.file).map_err(|source| WriteError { path: self.path.clone(), source })
    }
}
