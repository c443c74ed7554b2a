//! A directory of journals.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use testrig_store::Store;

use crate::{Cursors, Journal, medium::Handles, time};

/// The source of the agent's own lines.
pub(crate) const AGENT: &str = "agent";
/// What the name of a journal's file ends with, behind the instance's id.
const ENDING: &str = ".log";
/// The journal's file where the instance had a directory of its own (formerly).
const FORMER: &str = "journal.log";
/// What the agent's own lines may take beyond the limit, so that the reason of a failure is always kept.
const RESERVE: u64 = 256 * 1024;

/// How much a journal may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one journal's file. Beyond it lines are dropped and counted; the agent's own have 256 KiB more.
    pub max_bytes_per_journal: u64,
    /// Bytes of one line's text (at least 4); a longer one goes on in the next line.
    pub max_line_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes_per_journal: 1 << 30, max_line_bytes: 32 * 1024 }
    }
}

impl Limits {
    pub(crate) fn line(&self) -> usize {
        self.max_line_bytes.max(4)
    }

    pub(crate) fn bytes_for(&self, source: &str) -> u64 {
        let reserve = if source == AGENT { RESERVE } else { 0 };
        self.max_bytes_per_journal.saturating_add(reserve)
    }
}

/// Milliseconds since 1970.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    pub(crate) fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// All journals of an agent: `<dir>/<instance id>.log`, one file each, because making one is what costs most of an
/// instance that says little. Cheap to clone. Only one process may have it open, which
/// the lock of the state directory sees to.
#[derive(Debug, Clone)]
pub struct Journals {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    limits: Limits,
    clock: Clock,
    cursors: Cursors,
    handles: Arc<Handles>,
    alive: Mutex<Alive>,
}

/// A journal is forgotten when nobody holds it.
#[derive(Debug, Default)]
struct Alive {
    journals: HashMap<i64, Arc<Place>>,
    /// Dead entries are swept out when the map has grown to this.
    sweep_at: usize,
}

/// The place of one journal. Its lock is held while the file is read at opening, which takes seconds for a long one and
/// must not keep others from theirs.
#[derive(Debug, Default)]
struct Place(Mutex<Weak<Journal>>);

impl Journals {
    /// Opens the directory, which is made if it is not there. The cursors of the sinks live in `store`, which must have
    /// been opened with [`crate::MIGRATIONS`].
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path, limits: Limits, store: Store) -> io::Result<Self> {
        Self::open_with_clock(dir, limits, store, time::now_ms)
    }

    /// As [`Journals::open`] with a wall clock of the caller's: milliseconds since 1970.
    ///
    /// # Errors
    /// As [`Journals::open`].
    pub fn open_with_clock(
        dir: &Path,
        limits: Limits,
        store: Store,
        clock: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| told(&e, "create the directory of the journals", dir))?;
        take_over_former(dir)?;
        let inner = Inner {
            dir: dir.to_owned(),
            limits,
            clock: Clock(Arc::new(clock)),
            cursors: Cursors::new(store),
            handles: Arc::default(),
            alive: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The sinks' cursors.
    pub fn cursors(&self) -> &Cursors {
        &self.inner.cursors
    }

    /// The limits of every journal.
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Where the journal of an instance is, if it is there.
    pub fn path(&self, instance_id: i64) -> PathBuf {
        file_of(&self.inner.dir, instance_id)
    }

    /// The instance's journal, opened or made. All holders share one. The first to open it waits while the file is read
    /// (about a second for a GiB).
    ///
    /// # Errors
    /// The file cannot be made or read, or a newer program wrote it.
    pub fn journal(&self, instance_id: i64) -> io::Result<Arc<Journal>> {
        let place = self.inner.alive.lock().place(instance_id);
        let mut known = place.0.lock();
        if let Some(journal) = known.upgrade() {
            return Ok(journal);
        }
        let path = self.path(instance_id);
        let Inner { limits, clock, handles, .. } = &*self.inner;
        let journal = Journal::open(&path, instance_id, *limits, clock.clone(), Arc::clone(handles))
            .map_err(|e| told(&e, "open the journal", &path))?;
        let journal = Arc::new(journal);
        *known = Arc::downgrade(&journal);
        Ok(journal)
    }

    /// The instance's journal if there is one.
    ///
    /// # Errors
    /// As [`Journals::journal`].
    pub fn existing(&self, instance_id: i64) -> io::Result<Option<Arc<Journal>>> {
        if self.is_held(instance_id) || self.path(instance_id).try_exists()? {
            self.journal(instance_id).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The instances that have a journal, in order.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> io::Result<Vec<i64>> {
        let entries = std::fs::read_dir(&self.inner.dir)
            .map_err(|e| told(&e, "read the directory of the journals", &self.inner.dir))?;
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            ids.extend(name.to_str().and_then(|name| name.strip_suffix(ENDING)?.parse::<i64>().ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes a journal with its cursors; false if there is none.
    ///
    /// # Errors
    /// Somebody still holds the journal (`ResourceBusy`), or the files or cursors cannot be removed.
    pub async fn remove(&self, instance_id: i64) -> io::Result<bool> {
        {
            // Under the lock of its place, so that nobody opens it in between.
            let place = self.inner.alive.lock().place(instance_id);
            let known = place.0.try_lock().filter(|known| known.strong_count() == 0);
            if known.is_none() {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!("the journal of instance {instance_id} is in use and cannot be removed"),
                ));
            }
            let path = self.path(instance_id);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(told(&e, "remove the journal", &path)),
            }
        }
        self.inner.cursors.remove(instance_id).await.map_err(io::Error::other)?;
        Ok(true)
    }

    /// Removes the journals that nobody holds, that were not written for `age` and that `keep` does not want kept; gives
    /// their instances. One that cannot be removed is reported and left.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn remove_older(&self, age: Duration, keep: impl Fn(i64) -> bool) -> io::Result<Vec<i64>> {
        let mut removed = Vec::new();
        for id in self.list()? {
            let old = std::fs::metadata(self.path(id))
                .and_then(|meta| meta.modified())
                .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|since| since >= age));
            if !old || self.is_held(id) || keep(id) {
                continue;
            }
            match self.remove(id).await {
                Ok(true) => removed.push(id),
                Ok(false) => {}
                Err(e) => tracing::warn!(instance = id, error = %e, "an old journal stays"),
            }
        }
        Ok(removed)
    }

    fn is_held(&self, instance_id: i64) -> bool {
        self.inner.alive.lock().holds(instance_id)
    }
}

impl Alive {
    fn holds(&self, instance_id: i64) -> bool {
        self.journals.get(&instance_id).is_some_and(|place| place.is_held())
    }

    fn place(&mut self, instance_id: i64) -> Arc<Place> {
        if self.journals.len() >= self.sweep_at {
            // A place that somebody has in hand stays: there must never be two of an instance.
            self.journals.retain(|_, place| Arc::strong_count(place) > 1 || place.is_held());
            self.sweep_at = (self.journals.len() * 2).max(64);
        }
        Arc::clone(self.journals.entry(instance_id).or_default())
    }
}

impl Place {
    /// Whether somebody holds the journal or is opening it.
    fn is_held(&self) -> bool {
        self.0.try_lock().is_none_or(|journal| journal.strong_count() > 0)
    }
}

fn file_of(dir: &Path, instance_id: i64) -> PathBuf {
    dir.join(format!("{instance_id}{ENDING}"))
}

/// Brings journals that lie in directories of their own to where they are looked for now. A kill in between leaves the
/// rest to the next start.
fn take_over_former(dir: &Path) -> io::Result<()> {
    let failed = |e: io::Error| told(&e, "read the directory of the journals", dir);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let id = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok());
        let Some(id) = id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) else { continue };
        let (former, path) = (entry.path().join(FORMER), file_of(dir, id));
        if former.exists() && !path.exists() {
            std::fs::rename(&former, &path).map_err(|e| told(&e, "bring a journal to its new place", &path))?;
        }
        // What somebody else put there stays, and harms nobody.
        let _empty = std::fs::remove_dir(entry.path());
    }
    Ok(())
}

fn told(e: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(e.kind(), format!("failed to {what} {path:?}: {e}"))
}
