//! The journal's file as a medium that may be full.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// As many files stay open; the journals beyond open theirs for each call. Half of the usual limit of 1024.
const MOST: usize = 512;

/// Counts the files that journals keep open.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    kept: AtomicUsize,
}

/// A journal's file, kept open if there is room.
#[derive(Debug)]
pub(crate) struct Medium {
    handles: Arc<Handles>,
    kept: Option<Arc<File>>,
    /// Bytes behind the good end may be there and must go before the next write.
    torn: bool,
}

impl Medium {
    pub(crate) fn new(handles: Arc<Handles>) -> Self {
        Self { handles, kept: None, torn: false }
    }

    /// Takes a file that is open already, if there is room.
    pub(crate) fn hold(&mut self, file: File) {
        if self.kept.is_none() {
            self.keep(&Arc::new(file));
        }
    }

    /// The open file.
    pub(crate) fn file(&mut self, path: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = &self.kept {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(path)?);
        self.keep(&file);
        Ok(file)
    }

    fn keep(&mut self, file: &Arc<File>) {
        if self.handles.kept.fetch_add(1, Ordering::Relaxed) < MOST {
            self.kept = Some(Arc::clone(file));
        } else {
            self.handles.kept.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Writes behind the good end, all or nothing.
    pub(crate) fn append(&mut self, path: &Path, end: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(path)?;
        if self.torn {
            file.set_len(end)?;
            self.torn = false;
        }
        let result = write_all_at(&file, bytes, end);
        if result.is_err() {
            // If this fails too, it is tried again before the next write.
            self.torn = file.set_len(end).is_err();
        }
        result
    }

    /// Lets go of the file until it is needed again.
    pub(crate) fn rest(&mut self) {
        if self.kept.take().is_some() {
            self.handles.kept.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(not(test))]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)
}

#[cfg(test)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    match fault::take(bytes.len()) {
        None => file.write_all_at(bytes, at),
        Some(fits) => {
            file.write_all_at(&bytes[..fits], at)?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
    }
}

#[cfg(test)]
pub(crate) mod fault {
    //! A disk that is full for the thread of one test.

    use std::cell::Cell;

    thread_local! {
        /// Bytes that still fit.
        static ROOM: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// From now on only so many bytes fit; `None` for a disk with space again.
    pub(crate) fn leave_room(bytes: Option<usize>) {
        ROOM.set(bytes);
    }

    pub(super) fn take(wanted: usize) -> Option<usize> {
        let room = ROOM.get()?;
        ROOM.set(Some(room.saturating_sub(wanted)));
        (room < wanted).then_some(room)
    }
}
