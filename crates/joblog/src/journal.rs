//! One instance's journal.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    draft::Draft,
    format::{Mark, flat},
    index::SparseIndex,
    journals::{AGENT, Clock, Limits},
    line::{Entry, Keep, Level, Line, Position},
    loss::Loss,
    medium::{Handles, Medium},
    read::{self, Range},
    scan::Scan,
};

/// How far a journal is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalState {
    /// Lines in it; the next one gets this index.
    pub len: u64,
    /// The status it was closed with.
    pub closed: Option<String>,
}

/// The append-only log of one instance. Appending is one `write(2)` and never waits for a reader.
#[derive(Debug)]
pub struct Journal {
    instance_id: i64,
    path: PathBuf,
    /// The file was made when it was opened, and no sink has begun with it.
    fresh: AtomicBool,
    limits: Limits,
    clock: Clock,
    state: Mutex<State>,
    watch: watch::Sender<JournalState>,
}

#[derive(Debug)]
struct State {
    medium: Medium,
    /// Bytes of the file that hold whole lines.
    end: u64,
    len: u64,
    index: SparseIndex,
    log_time_ms: i64,
    positions: HashMap<String, Position>,
    closed: Option<String>,
    keep: Keep,
    /// The file does not say yet that it is closed.
    end_unwritten: bool,
    /// A line was dropped at the limit: later ones are too, even shorter ones that would fit.
    full: bool,
    loss: Loss,
    draft: Draft,
}

impl Journal {
    /// Opens or makes the file and reads it once.
    pub(crate) fn open(
        path: &Path,
        instance_id: i64,
        limits: Limits,
        clock: Clock,
        handles: Arc<Handles>,
    ) -> io::Result<Self> {
        let (file, scan) = match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
            Ok(file) => (file, Scan::of_nothing()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read_whole(path)?,
            Err(e) => return Err(e),
        };
        let fresh = AtomicBool::new(scan.end == 0);
        let mut state = State {
            medium: Medium::new(handles),
            end: scan.end,
            len: scan.len,
            index: scan.index,
            log_time_ms: scan.log_time_ms,
            positions: scan.positions,
            closed: scan.closed,
            keep: Keep::default(),
            end_unwritten: false,
            full: false,
            loss: Loss::found(scan.dropped),
            draft: Draft::default(),
        };
        if state.closed.is_none() {
            state.medium.hold(file);
        }
        let watch = watch::Sender::new(JournalState { len: state.len, closed: state.closed.clone() });
        Ok(Self { instance_id, path: path.to_owned(), fresh, limits, clock, state: Mutex::new(state), watch })
    }

    /// Whose log it is.
    pub fn instance_id(&self) -> i64 {
        self.instance_id
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file was made by this process and no sink has begun with it. True once only: the caller begins at line 0
    /// without looking for a cursor, the next one looks.
    pub(crate) fn take_fresh(&self) -> bool {
        self.fresh.swap(false, Ordering::AcqRel)
    }

    /// Bytes of one line's text at most.
    pub fn max_line_bytes(&self) -> usize {
        self.limits.line()
    }

    /// Lines in it.
    pub fn len(&self) -> u64 {
        self.state.lock().len
    }

    /// Whether it has no line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it was closed and not opened again for a further attempt.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    /// Takes only such lines from now on. Not stored: whoever opens the journal says so again.
    pub fn keep(&self, keep: Keep) {
        self.state.lock().keep = keep;
    }

    /// Lines that could not be kept because of the limit on disk.
    pub fn dropped_at_limit(&self) -> u64 {
        self.state.lock().loss.dropped_at_limit()
    }

    /// Lines that came after [`Journal::close`].
    pub fn dropped_after_close(&self) -> u64 {
        self.state.lock().loss.dropped_after_close()
    }

    /// Appends a text; line breaks split it into several lines, and a line longer than the limit goes on in the next.
    /// What cannot be written is counted and said in the log as soon as it can be.
    pub fn append(&self, level: Level, source: &str, text: &str) {
        self.append_many(&[Entry { level, source, text, position: None }]);
    }

    /// Appends a text that was read from `position` of its source. If it is split, all its lines have that position, and
    /// after a kill all of them are there or none.
    pub fn append_at(&self, level: Level, source: &str, text: &str, position: Position) {
        self.append_many(&[Entry { level, source, text, position: Some(position) }]);
    }

    /// Appends several texts with one write.
    pub fn append_many(&self, entries: &[Entry<'_>]) {
        let mut state = self.state.lock();
        if let Err(e) = self.add(&mut state, entries) {
            let lines = state.draft.producer_lines();
            tracing::warn!(instance = self.instance_id, lines, error = %e, "lines of a job's log could not be written");
            state.loss.unwritten(lines, e.to_string());
        }
    }

    /// Appends several texts with one write, for a producer that can come again with the same texts.
    ///
    /// # Errors
    /// Nothing of it was written or counted as lost: the disk is full or broken.
    pub fn try_append_many(&self, entries: &[Entry<'_>]) -> io::Result<()> {
        self.add(&mut self.state.lock(), entries)
    }

    /// The position of the last text of a source, exactly as it was given, also by a former process. Resume behind it.
    pub fn last_position(&self, source: &str) -> Option<Position> {
        self.state.lock().positions.get(flat(source).as_ref()).copied()
    }

    /// Reads lines from an index on: at most `max_lines`, and as many as `max_bytes` hold but at least one. Empty if
    /// there is none yet. Works while others append.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, from: u64, max_lines: usize, max_bytes: usize) -> io::Result<Vec<Line>> {
        let (file, range) = {
            let mut state = self.state.lock();
            let Some(start) = state.index.seek(from).filter(|_| from < state.len && max_lines > 0) else {
                return Ok(Vec::new());
            };
            let range = Range { start, end: state.end, from, max_lines, max_bytes };
            (state.medium.file(&self.path)?, range)
        };
        read::read(&file, &range)
    }

    /// As [`Journal::read`], away from the async threads.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub async fn read_async(self: &Arc<Self>, from: u64, max_lines: usize, max_bytes: usize) -> io::Result<Vec<Line>> {
        let journal = Arc::clone(self);
        tokio::task::spawn_blocking(move || journal.read(from, max_lines, max_bytes)).await.map_err(io::Error::other)?
    }

    /// Tells of every change. A receiver sees the newest state only; what lies between is read from the journal.
    pub fn subscribe(&self) -> watch::Receiver<JournalState> {
        self.watch.subscribe()
    }

    /// Opens a closed journal for a further attempt of the instance; indices and log times go on.
    pub fn reopen(&self) {
        let mut state = self.state.lock();
        if state.closed.take().is_none() {
            return;
        }
        state.end_unwritten = false;
        self.begin(&mut state);
        state.draft.mark(&Mark::Reopened, self.clock.now_ms());
        let late = state.loss.late_line();
        if let Some(text) = &late {
            self.note(&mut state, Level::Warn, text);
        }
        match state.commit(&self.path) {
            Ok(()) if late.is_some() => state.loss.late_told(),
            Ok(()) => {}
            Err(e) => {
                tracing::warn!(instance = self.instance_id, error = %e, "failed to mark a job's log as open again");
            }
        }
        self.publish(&state);
    }

    /// Closes the journal with the name of the instance's status. Later lines are dropped and counted. Closing again
    /// changes nothing, but for an end that could not be written. False if it could not: after a restart the journal is
    /// open.
    pub fn close(&self, status: &str) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() && !state.end_unwritten {
            return true;
        }
        self.begin(&mut state);
        let unwritten = state.loss.unwritten_line();
        for text in unwritten.iter().chain(&state.loss.final_line()) {
            self.note(&mut state, Level::Warn, text);
        }
        state.draft.mark(&Mark::Closed(status.to_owned()), self.clock.now_ms());
        match state.commit(&self.path) {
            Ok(()) => {
                state.loss.unwritten_told();
                state.end_unwritten = false;
            }
            Err(e) => {
                tracing::warn!(instance = self.instance_id, status, error = %e, "failed to mark a job's log as closed");
                state.end_unwritten = true;
            }
        }
        state.closed = Some(flat(status).into_owned());
        state.medium.rest();
        self.publish(&state);
        !state.end_unwritten
    }

    /// Drafts and writes the texts; on an error the draft still knows how many lines the producer wanted.
    fn add(&self, state: &mut State, entries: &[Entry<'_>]) -> io::Result<()> {
        self.begin(state);
        let kept = |entry: &&Entry<'_>| state.keep.takes(entry.level);
        if !entries.iter().any(|entry| kept(&entry)) {
            return Ok(());
        }
        if state.closed.is_some() {
            let lines = entries.iter().filter(kept).map(|e| Draft::count(e.text, self.limits.line())).sum();
            if state.loss.after_close(lines) {
                tracing::warn!(instance = self.instance_id, "lines came after the end of a job's log and are dropped");
            }
            return Ok(());
        }
        let now = self.clock.now_ms();
        let unwritten = state.loss.unwritten_line();
        if let Some(text) = &unwritten {
            self.note(state, Level::Warn, text);
        }
        let mut dropped = 0;
        let keep = state.keep;
        for entry in entries.iter().filter(|entry| keep.takes(entry.level)) {
            let before = state.draft.save();
            let last = state.last_log_time();
            let lines = state.draft.entry(entry, now, last, self.limits.line());
            let full = (state.full && entry.source != AGENT)
                || state.end + state.draft.bytes() > self.limits.bytes_for(entry.source);
            if full {
                state.draft.restore(&before);
                dropped += lines;
                state.full = true;
            }
        }
        if dropped > 0 {
            if let Some(text) = state.loss.limit_line(self.limits.max_bytes_per_journal) {
                self.note(state, Level::Warn, &text);
            }
            if let Some(count) = state.loss.count_to_keep(dropped) {
                state.draft.mark(&Mark::Dropped(count), now);
            }
        }
        state.commit(&self.path)?;
        if dropped > 0 {
            state.loss.at_limit(dropped);
        }
        if unwritten.is_some() {
            state.loss.unwritten_told();
        }
        self.publish(state);
        Ok(())
    }

    /// Begins a draft; the first one of a file begins with what makes it a journal.
    fn begin(&self, state: &mut State) {
        state.draft.clear();
        if state.end == 0 {
            state.draft.mark(&Mark::header(self.instance_id), self.clock.now_ms());
        }
    }

    /// Drafts a line about the log itself.
    fn note(&self, state: &mut State, level: Level, text: &str) {
        let entry = Entry { level, source: AGENT, text, position: None };
        let last = state.last_log_time();
        state.draft.note(&entry, self.clock.now_ms(), last, self.limits.line());
    }

    fn publish(&self, state: &State) {
        self.watch.send_if_modified(|told| {
            let changed = told.len != state.len || told.closed != state.closed;
            told.len = state.len;
            if told.closed != state.closed {
                told.closed.clone_from(&state.closed);
            }
            changed
        });
    }
}

/// Opens a file that is there, reads it once and takes away what a kill cut in the middle of a write, whole lines of an
/// unfinished text included.
fn read_whole(path: &Path) -> io::Result<(File, Scan)> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let scan = Scan::of(&file)?;
    match &scan.header {
        Some(header) if !header.is_readable_header() => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the journal {} was written by a newer testrig; start that one", path.display()),
            ));
        }
        None if scan.end > 0 => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} does not begin as a journal does; move it away", path.display()),
            ));
        }
        _ => {}
    }
    if file.metadata()?.len() != scan.end {
        file.set_len(scan.end)?;
    }
    Ok((file, scan))
}

impl State {
    /// Log time of the last line, drafted or written.
    fn last_log_time(&self) -> i64 {
        self.draft.log_time_ms().unwrap_or(self.log_time_ms)
    }

    /// Writes the draft with one call and takes it over; on an error nothing has changed.
    fn commit(&mut self, path: &Path) -> io::Result<()> {
        if self.draft.bytes() == 0 {
            return Ok(());
        }
        self.medium.append(path, self.end, self.draft.buffer())?;
        for begin in self.draft.begins() {
            self.index.note(self.len, self.end + begin);
            self.len += 1;
        }
        self.end += self.draft.bytes();
        self.log_time_ms = self.last_log_time();
        for (source, position) in self.draft.positions() {
            self.positions.insert(source, position);
        }
        Ok(())
    }
}

#[cfg(test)]
mod full_disk_tests;
