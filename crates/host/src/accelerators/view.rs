//! What people and programs are shown of the cards.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    card::{Accelerator, CardState, Observation},
    ledger::{Availability, Ledger, Policy},
};

/// One card with its state, its lease and whether it can be given away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CardView {
    /// The card.
    pub card: Accelerator,
    /// What was seen of it.
    pub state: CardState,
    /// Whether it can be given away, and if not, why not.
    pub availability: Availability,
    /// Its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseView>,
}

/// A lease, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// Boundary of the run.
    pub run: String,
    /// Whose run it is.
    pub words: String,
    /// Since when, epoch ms.
    pub since_ms: i64,
}

/// All cards of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Name of the provider.
    pub provider: String,
    /// What the cards were seen through.
    pub through: String,
    /// The cards.
    pub cards: Vec<CardView>,
    /// What a person should know about the whole.
    pub notes: Vec<String>,
}

impl View {
    /// Puts together what was seen and what is written down.
    pub fn of(provider: &str, seen: Observation, ledger: &Ledger, policy: &Policy) -> Self {
        let cards = seen.cards.into_iter().map(|observed| {
            let availability = ledger.availability(&observed, policy);
            let lease = ledger.entry(&observed.card.uuid).map(|entry| LeaseView {
                run: entry.holder.boundary.to_string(),
                words: entry.words.clone(),
                since_ms: entry.since_ms,
            });
            CardView { card: observed.card, state: observed.state, availability, lease }
        });
        Self { provider: provider.to_owned(), through: seen.through, cards: cards.collect(), notes: seen.notes }
    }

    /// How many cards are free.
    pub fn free(&self) -> usize {
        self.cards.iter().filter(|card| card.availability == Availability::Free).count()
    }

    /// Type, count, free ones and memory as compact JSON: what a heartbeat carries in `systemMetrics.extra`, e.g.
    /// `{"accelerators":[{"type":"NVIDIA H200","total":8,"free":3,"memoryMiB":143360}]}`.
    pub fn extra(&self) -> String {
        let mut types: Vec<(String, u64, u32, u32)> = Vec::new();
        for card in self.cards.iter().filter(|card| !matches!(card.availability, Availability::Unusable(_))) {
            let free = u32::from(card.availability == Availability::Free);
            let memory = card.card.memory_bytes >> 20;
            match types.iter_mut().find(|(kind, bytes, ..)| *kind == card.card.kind && *bytes == memory) {
                Some((_, _, total, all_free)) => {
                    *total += 1;
                    *all_free += free;
                }
                None => types.push((card.card.kind.clone(), memory, 1, free)),
            }
        }
        let types: Vec<Value> = types
            .into_iter()
            .map(|(kind, memory, total, free)| json!({"type": kind, "total": total, "free": free, "memoryMiB": memory}))
            .collect();
        json!({ "accelerators": types }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerators::card::{Observed, Vendor};

    #[test]
    fn the_heartbeat_tells_types_counts_and_free_cards_in_few_bytes() {
        let mut seen = Observation::default();
        for at in 0..8 {
            let kind = if at < 6 { "NVIDIA H200" } else { "NVIDIA L4" };
            let mut state =
                CardState { memory_used_bytes: Some(0), processes: Some(Vec::new()), ..CardState::default() };
            if at == 0 {
                state.unusable = Some("MIG is on".into());
            }
            if at == 1 {
                state.memory_used_bytes = Some(50 << 30);
            }
            seen.cards
                .push(Observed { card: Accelerator::new(at, format!("G{at}"), Vendor::Nvidia, kind, 24 << 30), state });
        }
        let view = View::of("nvml", seen, &Ledger::default(), &Policy::default());
        assert_eq!(
            view.extra(),
            r#"{"accelerators":[{"type":"NVIDIA H200","total":5,"free":4,"memoryMiB":24576},{"type":"NVIDIA L4","total":2,"free":2,"memoryMiB":24576}]}"#
        );
        assert_eq!(view.free(), 6);
        assert_eq!(View::default().extra(), r#"{"accelerators":[]}"#);
    }
}
