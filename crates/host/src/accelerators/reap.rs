//! Which leases nobody looks after any more.

use std::collections::BTreeSet;

use super::ledger::{Holder, Ledger};
use crate::BoundaryId;

/// Who looks.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// The agent.
    pub(super) agent: String,
    /// Its process: pid and start time.
    pub(super) by: (i32, u64),
}

/// Holders of this agent whose run is over, or never came to its own record: if their boundary is empty, their cards are given
/// back. `open` are the boundaries of the runs that are at work. Leases that another living process made (a local run beside
/// the agent) are that process's own business.
pub(super) fn reapable(
    ledger: &Ledger,
    owner: &Owner,
    open: &BTreeSet<BoundaryId>,
    lives: impl Fn((i32, u64)) -> bool,
) -> BTreeSet<Holder> {
    ledger
        .entries()
        .filter(|entry| !entry.returning && entry.holder.agent == owner.agent)
        .filter(|entry| !open.contains(&entry.holder.boundary))
        .filter(|entry| entry.by == owner.by || !lives(entry.by))
        .map(|entry| entry.holder.clone())
        .collect()
}
