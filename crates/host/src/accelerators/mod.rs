//! Accelerators of the host and who may use them.
//!
//! A provider knows the cards; a [`Lease`] gives some of them to one boundary. [`NoAccelerators`] is the provider of a host
//! without any.

mod none;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::BoundaryId;

pub use none::NoAccelerators;

/// One card, or one part of a card that can be given away by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accelerator {
    /// Index as the vendor's tools count.
    pub index: u32,
    /// Id that stays the same over reboots, e.g. the UUID.
    pub uuid: String,
    /// Model, e.g. `NVIDIA H200`, `Ascend 910B3`.
    pub kind: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// What a run asks for (`resources.gpus`, `.gpuType`, `.gpuMemory`, `.deviceIds`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Who holds the lease.
    pub holder: BoundaryId,
    /// How many cards; 0 = none are needed.
    pub count: u32,
    /// Only cards of this type.
    pub kind: Option<String>,
    /// Only cards with at least this much memory, bytes.
    pub min_memory_bytes: Option<u64>,
    /// Exactly these, by index or UUID.
    pub device_ids: Vec<String>,
}

impl LeaseRequest {
    /// Whether any card is asked for.
    pub fn wants_any(&self) -> bool {
        self.count > 0 || !self.device_ids.is_empty()
    }

    /// The request in words, e.g. `2 accelerators of type 910B with at least 32 GiB each`.
    pub fn in_words(&self) -> String {
        let mut words = if self.device_ids.is_empty() {
            format!("{} accelerator{}", self.count, if self.count == 1 { "" } else { "s" })
        } else {
            format!("accelerators {}", self.device_ids.join(", "))
        };
        if let Some(kind) = &self.kind {
            words.push_str(&format!(" of type {kind}"));
        }
        if let Some(bytes) = self.min_memory_bytes {
            words.push_str(&format!(" with at least {} MiB each", bytes >> 20));
        }
        words
    }
}

/// Exclusive use of some cards by one boundary. Given back with [`Accelerators::release`] once the boundary is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it.
    pub holder: BoundaryId,
    /// The cards.
    pub devices: Vec<Accelerator>,
}

/// Why no lease was given.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// This host can never give it: fail at once.
    #[error("this host cannot give what was asked: asked were {asked}, there is {there}")]
    Impossible {
        /// The request.
        asked: String,
        /// The inventory.
        there: String,
    },
    /// Not now: wait or leave the job to another host.
    #[error("not free now: asked were {asked}, busy are {busy}")]
    Busy {
        /// The request.
        asked: String,
        /// Which cards are in use, and by whom.
        busy: String,
    },
    /// The driver or the vendor's tool failed.
    #[error("failed to look at the accelerators: {0}")]
    Provider(String),
}

/// What gives accelerators to runs.
#[async_trait]
pub trait Accelerators: Send + Sync {
    /// Short name of the provider, e.g. `none`.
    fn provider(&self) -> &str;

    /// All cards of the host, free or not.
    ///
    /// # Errors
    /// [`LeaseError::Provider`].
    async fn inventory(&self) -> Result<Vec<Accelerator>, LeaseError>;

    /// Gives cards to `request.holder`, or says why not. A holder that has a lease gets the same one again.
    ///
    /// # Errors
    /// [`LeaseError`], each told apart.
    async fn lease(&self, request: &LeaseRequest) -> Result<Lease, LeaseError>;

    /// Takes the holder's cards back. Without a lease nothing happens.
    ///
    /// # Errors
    /// [`LeaseError::Provider`].
    async fn release(&self, holder: &BoundaryId) -> Result<(), LeaseError>;
}
