//! Accelerators of the host and who may use them.
//!
//! ```text
//! provider (NVML, DCMI, npu-smi, declared) ─ looks ─► Observation ─┐
//!                                                                  ├─► Ledger decides ─► Book keeps ─► Lease ─► Passing
//! run ─ asks ─► LeaseRequest ──────────────────────────────────────┘
//! ```
//!
//! The [`Ledger`] is the truth, the hardware only vetoes: a card in a lease is given to nobody else, and a card that somebody
//! else uses is not given away although it is in no lease. A lease is on disk ([`Book`]) before anything starts with it, and
//! ends when the boundary is empty *and* the card shows no process of the run. [`passing`] says how a container or a process
//! gets exactly these cards and no others.

mod ascend;
mod book;
mod card;
mod dcmi;
mod declared;
#[cfg(test)]
mod fakes;
mod health;
mod idle;
mod ledger;
mod none;
mod npu_smi;
mod nvml;
mod owners;
pub mod passing;
mod pool;
mod queue;
mod reap;
mod request;
mod sysfs;
mod topology;
mod view;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::BoundaryId;

pub use book::Book;
pub use card::{
    Accelerator, CardProcess, CardState, DeviceNode, Observation, Observed, Provider, Slice, Vendor, bytes_in_words,
};
pub use dcmi::AscendDcmi;
pub use declared::{Declared, DeclaredCard};
pub use health::{Health, HealthClass, HealthMap};
pub use ledger::{Availability, Change, Decision, Entry, Holder, Ledger, Policy, in_words};
pub use none::NoAccelerators;
pub use npu_smi::NpuSmi;
pub use nvml::NvidiaNvml;
pub use pool::{Pool, Settings};
pub use request::{Lease, LeaseError, LeaseRequest};
pub use sysfs::Sysfs;
pub use topology::{Rule, Topology};
pub use view::{CardView, LeaseView, View};

/// What became of a lease that was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// Its cards are free.
    Now,
    /// Something of the run is still on them (the text says what); they are free once that is gone.
    Later(String),
}

/// What gives accelerators to runs.
#[async_trait]
pub trait Accelerators: Send + Sync {
    /// Short name of the provider, e.g. `none`.
    fn provider(&self) -> &str;

    /// All cards of the host, free or not, as they are now.
    ///
    /// # Errors
    /// [`LeaseError::Provider`], [`LeaseError::Book`].
    async fn view(&self) -> Result<View, LeaseError>;

    /// The newest view that anybody asked for; `None` where there never are cards.
    fn watch(&self) -> Option<watch::Receiver<Option<Arc<View>>>> {
        None
    }

    /// Gives cards to `request.holder`, or says why not. The lease is durable when this returns. A holder that has one gets
    /// the same again.
    ///
    /// # Errors
    /// [`LeaseError`], each told apart.
    async fn lease(&self, request: &LeaseRequest) -> Result<Lease, LeaseError>;

    /// The cards that such a request would get now. Nothing is taken.
    ///
    /// # Errors
    /// As [`Accelerators::lease`].
    async fn would_get(&self, request: &LeaseRequest) -> Result<Vec<Accelerator>, LeaseError>;

    /// The holder's lease, if it has one.
    ///
    /// # Errors
    /// [`LeaseError::Book`].
    async fn leased(&self, holder: &BoundaryId) -> Result<Option<Lease>, LeaseError>;

    /// Takes the holder's cards back; its boundary is empty. Without a lease nothing happens.
    ///
    /// # Errors
    /// [`LeaseError::Book`].
    async fn release(&self, holder: &BoundaryId) -> Result<Released, LeaseError>;

    /// What the holder's cards do now, by index; `None` where that cannot be said.
    async fn sample(&self, holder: &BoundaryId) -> Option<Vec<(u32, CardState)>>;

    /// Holders whose run is not among these that are at work: whoever knows that their boundary is empty gives their cards
    /// back with [`Accelerators::release`].
    ///
    /// # Errors
    /// [`LeaseError::Book`].
    async fn forgotten(&self, open: &BTreeSet<BoundaryId>) -> Result<Vec<BoundaryId>, LeaseError>;
}
