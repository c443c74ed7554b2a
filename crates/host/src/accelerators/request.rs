//! What a run asks for, and why it does not get it.

use serde::{Deserialize, Serialize};

use super::card::{Accelerator, bytes_in_words};
use crate::BoundaryId;

/// What a run asks for (`resources.gpus`, `.gpuType`, `.gpuMemory`, `.deviceIds`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Who holds the lease.
    pub holder: BoundaryId,
    /// How many cards; 0 = none are needed, or as many as `device_ids` names.
    pub count: u32,
    /// Only cards of this type.
    pub kind: Option<String>,
    /// Only cards with at least this much memory, bytes.
    pub min_memory_bytes: Option<u64>,
    /// Exactly these, by index or UUID.
    pub device_ids: Vec<String>,
    /// Whose run it is, for the people who look at the cards, e.g. `instance 5123, task T1`.
    pub words: String,
    /// It asks again soon if it gets nothing now: who comes later does not get the cards that it waits for.
    pub waits: bool,
}

impl LeaseRequest {
    /// Whether any card is asked for.
    pub fn wants_any(&self) -> bool {
        self.count > 0 || !self.device_ids.is_empty()
    }

    /// How many cards.
    pub fn size(&self) -> usize {
        if self.device_ids.is_empty() { self.count as usize } else { self.device_ids.len() }
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
            words.push_str(&format!(" with at least {} each", bytes_in_words(bytes)));
        }
        words
    }

    /// Whether a card is of the type and size that is asked for.
    pub fn fits(&self, card: &Accelerator) -> bool {
        self.kind.as_ref().is_none_or(|kind| card.is_of_kind(kind))
            && self.min_memory_bytes.is_none_or(|bytes| card.memory_bytes >= bytes)
    }

    /// Whether this card is one of those that it could be given.
    pub(super) fn could_use(&self, card: &Accelerator) -> bool {
        self.fits(card) && (self.device_ids.is_empty() || self.device_ids.iter().any(|id| card.is_named(id)))
    }
}

/// Exclusive use of some cards by one boundary. Given back with [`super::Accelerators::release`] once the boundary is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it.
    pub holder: BoundaryId,
    /// The cards.
    pub devices: Vec<Accelerator>,
}

impl Lease {
    /// The cards in words, e.g. `0 (NVIDIA H200), 1 (NVIDIA H200)`.
    pub fn in_words(&self) -> String {
        let cards: Vec<String> = self.devices.iter().map(Accelerator::in_words).collect();
        if cards.is_empty() { "none".to_owned() } else { cards.join(", ") }
    }
}

/// Why no lease was given.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// This host can never give it: fail at once.
    #[error("this host cannot give what was asked: asked were {asked}, there is {there}")]
    Impossible {
        /// The request.
        asked: String,
        /// The inventory, with what stands against single cards.
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
    /// The book of leases cannot be read or written.
    #[error("failed to keep the leases of the accelerators: {0}")]
    Book(String),
}
