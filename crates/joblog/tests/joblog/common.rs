//! A directory with journals, and ways to look at them.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use testrig_joblog::{Journal, Journals, Limits, Line, MIGRATIONS};
use testrig_store::Store;

/// Journals in a directory of their own.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) journals: Journals,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open_in_memory(MIGRATIONS).expect("a store");
        let journals = Journals::open(&dir.path().join("journals"), limits, store.clone()).expect("a directory");
        Self { dir, store, journals }
    }

    pub(crate) fn with_clock(limits: Limits, clock: Arc<AtomicI64>) -> Self {
        let place = Self::with(limits);
        let dir = place.journals.dir().to_owned();
        let journals =
            Journals::open_with_clock(&dir, limits, place.store.clone(), move || clock.load(Ordering::Relaxed))
                .expect("a directory");
        Self { journals, ..place }
    }

    pub(crate) fn journal(&self, id: i64) -> Arc<Journal> {
        self.journals.journal(id).expect("a journal")
    }
}

/// Every line, page by page.
pub(crate) fn all(journal: &Journal) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let page = journal.read(lines.len() as u64, 50, 10_000).expect("a read");
        if page.is_empty() {
            assert_eq!(lines.len() as u64, journal.len());
            return lines;
        }
        lines.extend(page);
    }
}

pub(crate) fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// How many lines of at most `max` bytes a line gives, cut between characters.
pub(crate) fn pieces(line: &str, max: usize) -> u64 {
    let (mut pieces, mut length) = (1, 0);
    for c in line.chars() {
        if length + c.len_utf8() > max {
            pieces += 1;
            length = 0;
        }
        length += c.len_utf8();
    }
    pieces
}
