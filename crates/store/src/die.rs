//! Death at a chosen moment, so that tests can kill a process at each of them.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// A moment at which a `kill -9` could make a difference: around a commit here, before an action elsewhere. A debug build
/// whose environment says `TESTRIG_DIE_AT=N` dies at the Nth of its process; a release build has none of this.
pub fn kill_point() {
    static LEFT: OnceLock<Option<AtomicU64>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return;
    }
    let wanted = || std::env::var("TESTRIG_DIE_AT").ok()?.parse().ok().map(AtomicU64::new);
    if let Some(left) = LEFT.get_or_init(wanted)
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}
