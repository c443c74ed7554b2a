//! Who has which card. Pure: what is decided here is written down by [`super::book`] before anybody acts on it.
//!
//! ```text
//! free ─ grant ─► held ─ give_back ─► returning ─ settle ─► free
//!                                      (the boundary is empty; the card may still show a process of it)
//! ```
//!
//! * The ledger is the truth: a card that is in it is given to nobody else, whatever the hardware shows.
//! * The hardware only vetoes: a card that somebody else uses, or that is sick, is not granted although it is in no lease.
//! * A holder that asks again gets the same cards again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    card::{Accelerator, CardProcess, Observation, Observed, bytes_in_words},
    health::HealthClass,
    request::LeaseRequest,
};
use crate::BoundaryId;

/// A holder. Agents that share one host's leases may know the same instance ids, so the boundary alone is not enough.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The agent, by its state directory.
    pub agent: String,
    /// The boundary.
    pub boundary: BoundaryId,
}

/// One leased card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who has it.
    pub holder: Holder,
    /// The card as it was when it was granted.
    pub card: Accelerator,
    /// Whose run it is, in words.
    pub words: String,
    /// Since when, epoch ms.
    pub since_ms: i64,
    /// The process that asked for it (pid and start time); a restarted agent has another one.
    pub by: (i32, u64),
    /// The boundary is empty; the card waits for the last process of it to be gone.
    pub returning: bool,
}

/// What has to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This card is now in a lease.
    Put(Box<Entry>),
    /// This card is on its way back.
    Returning(String),
    /// This card is free again.
    Free(String),
}

/// All leases, by the card's UUID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
}

/// What the host lets runs have.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Cards (index or UUID) that are never given away.
    pub excluded: Vec<String>,
    /// How much memory of a card may be in use without its counting as busy; `None` = what is usual for its type.
    pub idle_memory_bytes: Option<u64>,
}

/// Whether a card can be given away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state", content = "why")]
pub enum Availability {
    /// Yes.
    Free,
    /// It is in a lease.
    Leased(String),
    /// Its lease has ended, but a process of the run is still on it.
    Returning(String),
    /// Somebody else uses it, or it cannot be told.
    Busy(String),
    /// Never, as things are: sick, excluded, or set up in another way.
    Unusable(String),
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// These cards, by their positions in the observation.
    Grant(Vec<usize>),
    /// Not now: which cards stand against it, and why.
    Busy(String),
    /// Never: what there is instead.
    Impossible(String),
}

impl Ledger {
    /// A ledger with these entries.
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self { entries: entries.into_iter().map(|entry| (entry.card.uuid.clone(), entry)).collect() }
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of a card.
    pub fn entry(&self, uuid: &str) -> Option<&Entry> {
        self.entries.get(uuid)
    }

    /// The cards of a holder, in the order of their indices.
    pub fn cards_of(&self, holder: &Holder) -> Vec<Accelerator> {
        let mut cards: Vec<Accelerator> =
            self.entries.values().filter(|entry| entry.holder == *holder).map(|entry| entry.card.clone()).collect();
        cards.sort_by_key(|card| card.index);
        cards
    }

    /// Takes a change over.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(entry) => {
                self.entries.insert(entry.card.uuid.clone(), entry.as_ref().clone());
            }
            Change::Returning(uuid) => {
                if let Some(entry) = self.entries.get_mut(uuid) {
                    entry.returning = true;
                }
            }
            Change::Free(uuid) => {
                self.entries.remove(uuid);
            }
        }
    }

    /// Whether this card can be given away now, and if not, why not.
    pub fn availability(&self, seen: &Observed, policy: &Policy) -> Availability {
        let (card, state) = (&seen.card, &seen.state);
        if let Some(entry) = self.entries.get(&card.uuid) {
            let own = state.processes.iter().flatten().filter(|process| is_of(process, &entry.holder.boundary));
            return match entry.returning {
                false => Availability::Leased(entry.words.clone()),
                true => Availability::Returning(match list(own) {
                    Some(processes) => format!("{} has ended, but {processes} of it is still there", entry.words),
                    None => format!("{} has ended", entry.words),
                }),
            };
        }
        // A slice lies on its card: an older lease of the whole card holds it, too.
        if let Some(slice) = &card.slice_of
            && let Some(entry) = self.entries.get(&slice.gpu)
        {
            return Availability::Leased(entry.words.clone());
        }
        if policy.excluded.iter().any(|id| card.is_named(id)) {
            return Availability::Unusable("excluded by the configuration".to_owned());
        }
        if let Some(why) = &state.unusable {
            return Availability::Unusable(why.clone());
        }
        match state.health.class {
            HealthClass::Fault => return Availability::Unusable(format!("faulty: {}", state.health.detail)),
            HealthClass::Unknown => return Availability::Busy(format!("health unknown: {}", state.health.detail)),
            HealthClass::Ok | HealthClass::Warning => {}
        }
        if let Some(processes) = list(state.processes.iter().flatten().filter(|process| !process.graphics)) {
            return Availability::Busy(format!("in use by {processes}"));
        }
        let allowed = policy.idle_memory_bytes.unwrap_or_else(|| super::idle::usual(card));
        match (state.memory_used_bytes, &state.processes) {
            (Some(used), _) if used > allowed => Availability::Busy(format!(
                "{} are in use by no process that the driver shows (an idle card may have {})",
                bytes_in_words(used),
                bytes_in_words(allowed)
            )),
            (None, None) => Availability::Busy("the driver tells neither its processes nor its memory".to_owned()),
            _ => Availability::Free,
        }
    }

    /// What a request comes to now.
    pub fn decide(&self, request: &LeaseRequest, seen: &Observation, policy: &Policy) -> Decision {
        let availability: Vec<Availability> = seen.cards.iter().map(|card| self.availability(card, policy)).collect();
        let usable = |at: &usize| !matches!(availability[*at], Availability::Unusable(_));
        let free = |at: &usize| availability[*at] == Availability::Free;
        let wanted: Vec<usize> = if request.device_ids.is_empty() {
            (0..seen.cards.len()).filter(|at| request.fits(&seen.cards[*at].card)).collect()
        } else {
            match named(request, seen) {
                Ok(cards) => cards,
                Err(why) => return Decision::Impossible(format!("{why}; {}", there(seen, &availability))),
            }
        };
        if !request.device_ids.is_empty() {
            return if !wanted.iter().all(usable) {
                Decision::Impossible(there(seen, &availability))
            } else if wanted.iter().all(free) {
                Decision::Grant(wanted)
            } else {
                Decision::Busy(busy(seen, &availability, &wanted))
            };
        }
        let count = request.size();
        let possible: Vec<usize> = wanted.iter().copied().filter(usable).collect();
        if seen.topology.choose(count, &possible).is_none() {
            let mut text = there(seen, &availability);
            if let Some(counts) = seen.topology.counts_in_words().filter(|_| possible.len() >= count) {
                text = format!("{text}; this machine gives {counts}");
            }
            return Decision::Impossible(text);
        }
        let now: Vec<usize> = wanted.iter().copied().filter(free).collect();
        match seen.topology.choose(count, &now) {
            Some(cards) => Decision::Grant(cards),
            None => Decision::Busy(busy(seen, &availability, &possible)),
        }
    }

    /// How many cards could be granted together now, and how many there are at all.
    pub fn free_of_all(&self, seen: &Observation, policy: &Policy) -> (usize, usize) {
        let states: Vec<Availability> = seen.cards.iter().map(|card| self.availability(card, policy)).collect();
        let usable = states.iter().filter(|state| !matches!(state, Availability::Unusable(_))).count();
        (states.iter().filter(|state| **state == Availability::Free).count(), usable)
    }

    /// Writes a grant down.
    pub fn grant(
        &self,
        holder: &Holder,
        words: &str,
        by: (i32, u64),
        now_ms: i64,
        cards: &[Accelerator],
    ) -> Vec<Change> {
        let entry = |card: &Accelerator| Entry {
            holder: holder.clone(),
            card: card.clone(),
            words: words.to_owned(),
            since_ms: now_ms,
            by,
            returning: false,
        };
        cards.iter().map(|card| Change::Put(Box::new(entry(card)))).collect()
    }

    /// The holder's boundary is empty: its cards are on their way back.
    pub fn give_back(&self, holder: &Holder) -> Vec<Change> {
        let own = self.entries.values().filter(|entry| entry.holder == *holder && !entry.returning);
        own.map(|entry| Change::Returning(entry.card.uuid.clone())).collect()
    }

    /// The cards that are on their way back.
    pub fn returning(&self) -> BTreeSet<String> {
        self.entries.values().filter(|entry| entry.returning).map(|entry| entry.card.uuid.clone()).collect()
    }

    /// Cards on their way back that show no process of their run any more are free. One that is not seen at all shows none.
    /// `asked` are those that were on their way back before anybody looked: what was seen before says nothing of the others.
    pub fn settle(&self, seen: &Observation, asked: &BTreeSet<String>) -> Vec<Change> {
        let still_there = |entry: &Entry| {
            let cards = seen.cards.iter().filter(|card| card.card.uuid == entry.card.uuid);
            cards
                .flat_map(|card| card.state.processes.iter().flatten())
                .any(|process| is_of(process, &entry.holder.boundary))
        };
        let returning = self.entries.values().filter(|entry| entry.returning && asked.contains(&entry.card.uuid));
        let gone = returning.filter(|entry| !still_there(entry));
        gone.map(|entry| Change::Free(entry.card.uuid.clone())).collect()
    }
}

/// A process belongs to a run if it carries the name of the run's boundary or of a part of it (its set-up script).
fn is_of(process: &CardProcess, boundary: &BoundaryId) -> bool {
    process.run.as_deref().is_some_and(|run| {
        run.strip_prefix(boundary.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// The cards that a request names, each once.
fn named(request: &LeaseRequest, seen: &Observation) -> Result<Vec<usize>, String> {
    let mut cards = Vec::new();
    for id in &request.device_ids {
        let Some(at) = seen.cards.iter().position(|card| card.card.is_named(id)) else {
            return Err(format!("no card has the index or UUID `{id}`"));
        };
        if cards.contains(&at) {
            return Err(format!("`{id}` names a card a second time"));
        }
        let card = &seen.cards[at].card;
        if !request.fits(card) {
            return Err(format!(
                "card {} with {} is not what was asked",
                card.in_words(),
                bytes_in_words(card.memory_bytes)
            ));
        }
        cards.push(at);
    }
    Ok(cards)
}

/// The inventory: `2 NVIDIA H200 with 139.7 GiB, 1 of them not usable (1: faulty: GPU is lost)`.
fn there(seen: &Observation, availability: &[Availability]) -> String {
    if seen.cards.is_empty() {
        return format!("none ({})", if seen.through.is_empty() { "no provider" } else { &seen.through });
    }
    let mut groups: Vec<(String, usize)> = Vec::new();
    for card in &seen.cards {
        let name = format!("{} with {}", card.card.kind, bytes_in_words(card.card.memory_bytes));
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => groups.push((name, 1)),
        }
    }
    let groups: Vec<String> = groups.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
    let broken: Vec<String> = seen
        .cards
        .iter()
        .zip(availability)
        .filter_map(|(card, state)| match state {
            Availability::Unusable(why) => Some(format!("{}: {why}", card.card.index)),
            _ => None,
        })
        .collect();
    let mut text = groups.join(", ");
    if !broken.is_empty() {
        text.push_str(&format!(", {} of them not usable ({})", broken.len(), broken.join("; ")));
    }
    text
}

/// What stands against these cards: `0 (NVIDIA H200): leased to instance 7; 1 (NVIDIA H200): in use by python (pid 4711)`.
fn busy(seen: &Observation, availability: &[Availability], cards: &[usize]) -> String {
    let lines: Vec<String> = cards
        .iter()
        .filter_map(|&at| {
            let why = match &availability[at] {
                Availability::Free => return None,
                Availability::Leased(words) => format!("leased to {words}"),
                Availability::Returning(why) | Availability::Busy(why) | Availability::Unusable(why) => why.clone(),
            };
            Some(format!("{}: {why}", seen.cards[at].card.in_words()))
        })
        .collect();
    if lines.is_empty() { "none, but the free ones do not belong together".to_owned() } else { lines.join("; ") }
}

/// `python (pid 4711) in container notebook, 18.9 GiB; ..`; `None` for no process.
fn list<'a>(processes: impl Iterator<Item = &'a CardProcess>) -> Option<String> {
    let words: Vec<String> = processes.map(in_words).collect();
    match words.len() {
        0 => None,
        1..=3 => Some(words.join("; ")),
        more => Some(format!("{}; and {} more", words[..3].join("; "), more - 3)),
    }
}

/// A process with everything that helps to find its owner.
pub fn in_words(process: &CardProcess) -> String {
    let mut text = format!("{} (pid {})", process.name.as_deref().unwrap_or("a process"), process.pid);
    if let Some(container) = &process.container {
        text.push_str(&format!(" in container {container}"));
    }
    if let Some(run) = &process.run {
        text.push_str(&format!(" of run {run}"));
    }
    if let Some(bytes) = process.memory_bytes {
        text.push_str(&format!(", {}", bytes_in_words(bytes)));
    }
    text
}

#[cfg(test)]
#[path = "ledger/simulation.rs"]
mod simulation;
#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
