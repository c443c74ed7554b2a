//! The cards of this host, given to runs: a provider that looks, the ledger that decides, the book that keeps.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    Accelerator, Accelerators, Released,
    book::{self, Book},
    card::{CardState, Observation, Provider},
    ledger::{Availability, Change, Decision, Ledger, Policy},
    owners::{self, ContainerNames},
    queue::Queue,
    reap::{self, Owner},
    request::{Lease, LeaseError, LeaseRequest},
    view::View,
};
use crate::{BoundaryId, docker::Docker};

/// How long one look at the cards may take. Drivers hang for minutes when a card is sick.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// How long the giver waits for the last process of a run to disappear from its cards.
const RELEASE_WAIT: Duration = Duration::from_secs(10);
const RELEASE_LOOK: Duration = Duration::from_millis(250);

/// How a pool behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the host lets runs have.
    pub policy: Policy,
    /// How long one look may take.
    pub look_limit: Duration,
    /// The engine that knows the names of containers.
    pub docker: Option<Docker>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { policy: Policy::default(), look_limit: LOOK_LIMIT, docker: None }
    }
}

/// A host with cards.
pub struct Pool {
    provider: Arc<dyn Provider>,
    book: Book,
    settings: Settings,
    names: ContainerNames,
    /// One look at a time.
    gate: tokio::sync::Mutex<()>,
    /// A thread is still inside of the driver.
    inside: Arc<AtomicBool>,
    newest: watch::Sender<Option<Arc<View>>>,
    queue: Arc<Mutex<Queue>>,
}

impl Pool {
    /// A pool over a provider's cards, with its leases in a book.
    pub fn new(provider: Arc<dyn Provider>, book: Book, settings: Settings) -> Self {
        let gate = tokio::sync::Mutex::new(());
        let newest = watch::channel(None).0;
        Self {
            provider,
            book,
            settings,
            names: ContainerNames::default(),
            gate,
            inside: Arc::default(),
            newest,
            queue: Arc::default(),
        }
    }

    /// Looks at the cards on a thread that can be left behind.
    async fn look(&self) -> Result<Observation, LeaseError> {
        let _gate = self.gate.lock().await;
        if self.inside.swap(true, Ordering::AcqRel) {
            return Err(LeaseError::Provider(format!(
                "an earlier look through {} has not come back: the driver hangs",
                self.provider.name()
            )));
        }
        let (provider, inside) = (Arc::clone(&self.provider), Arc::clone(&self.inside));
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new().name("accelerators".to_owned()).spawn(move || {
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| provider.observe()));
            let seen = seen.unwrap_or_else(|_| Err("the provider panicked".to_owned())).map(|mut seen| {
                owners::from_proc(&mut seen);
                seen
            });
            inside.store(false, Ordering::Release);
            // Nobody waits any more: that was told already.
            let _ = tell.send(seen);
        });
        if let Err(error) = thread {
            self.inside.store(false, Ordering::Release);
            return Err(LeaseError::Provider(format!("no thread to look with: {error}")));
        }
        let limit = self.settings.look_limit;
        let mut seen = match tokio::time::timeout(limit, told).await {
            Ok(Ok(seen)) => seen.map_err(LeaseError::Provider)?,
            Ok(Err(_)) => return Err(LeaseError::Provider("the looking thread ended without a word".to_owned())),
            Err(_) => {
                return Err(LeaseError::Provider(format!(
                    "no answer through {} within {} s: the driver hangs",
                    self.provider.name(),
                    limit.as_secs_f32()
                )));
            }
        };
        if let Some(docker) = &self.settings.docker {
            self.names.fill(docker, &mut seen).await;
        }
        Ok(seen)
    }

    /// Looks, settles what has come back, and shows the result to those who watch.
    async fn look_and_settle(&self) -> Result<(Observation, Ledger), LeaseError> {
        let asked = self.book.ledger().await?.returning();
        let seen = self.look().await?;
        let looked = seen.clone();
        let ledger = self
            .book
            .change(move |ledger| {
                let changes = ledger.settle(&looked, &asked);
                let after = after(ledger, &changes);
                (changes, after)
            })
            .await?;
        self.show(&seen, &ledger);
        Ok((seen, ledger))
    }

    fn show(&self, seen: &Observation, ledger: &Ledger) {
        let view = View::of(self.provider.name(), seen.clone(), ledger, &self.settings.policy);
        self.newest.send_replace(Some(Arc::new(view)));
    }

    /// Somebody took a card between the look and the grant, or while the grant was written down.
    async fn confirm(&self, request: &LeaseRequest, lease: Lease) -> Result<Lease, LeaseError> {
        let seen = self.look().await?;
        let bare = Ledger::default();
        let foreign: Vec<String> = seen
            .cards
            .iter()
            .filter(|card| lease.devices.iter().any(|own| own.uuid == card.card.uuid))
            .filter_map(|card| match bare.availability(card, &self.settings.policy) {
                Availability::Busy(why) | Availability::Unusable(why) => {
                    Some(format!("{}: {why}", card.card.in_words()))
                }
                _ => None,
            })
            .collect();
        if foreign.is_empty() {
            self.show(&seen, &self.book.ledger().await?);
            return Ok(lease);
        }
        self.free_now(&request.holder).await?;
        Err(LeaseError::Busy { asked: request.in_words(), busy: foreign.join("; ") })
    }

    /// Takes a grant back that nothing was started with.
    async fn free_now(&self, holder: &BoundaryId) -> Result<(), LeaseError> {
        let holder = self.book.holder(holder);
        self.book
            .change(move |ledger| {
                (ledger.cards_of(&holder).into_iter().map(|card| Change::Free(card.uuid)).collect(), ())
            })
            .await
    }
}

fn after(ledger: &Ledger, changes: &[Change]) -> Ledger {
    let mut ledger = ledger.clone();
    changes.iter().for_each(|change| ledger.apply(change));
    ledger
}

#[async_trait]
impl Accelerators for Pool {
    fn provider(&self) -> &str {
        self.provider.name()
    }

    async fn view(&self) -> Result<View, LeaseError> {
        let looked = self.look_and_settle().await;
        if looked.is_err() {
            // Whoever watches must not go on with what was.
            self.newest.send_replace(None);
        }
        let (seen, ledger) = looked?;
        Ok(View::of(self.provider.name(), seen, &ledger, &self.settings.policy))
    }

    fn watch(&self) -> Option<watch::Receiver<Option<Arc<View>>>> {
        Some(self.newest.subscribe())
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Lease, LeaseError> {
        if !request.wants_any() {
            return Ok(Lease { holder: request.holder.clone(), devices: Vec::new() });
        }
        let asked = self.book.ledger().await?;
        let holder = self.book.holder(&request.holder);
        let devices = asked.cards_of(&holder);
        if !devices.is_empty() {
            return Ok(Lease { holder: request.holder.clone(), devices });
        }
        let asked = asked.returning();
        let seen = self.look().await?;
        let (policy, by, own) = (self.settings.policy.clone(), self.book.by(), request.clone());
        let queue = Arc::clone(&self.queue);
        let decided = self
            .book
            .change(move |ledger| {
                let mut changes = ledger.settle(&seen, &asked);
                let ledger = after(ledger, &changes);
                let decision = queue.lock().in_turn(&own, &seen, ledger.decide(&own, &seen, &policy), Instant::now());
                let mut devices = Vec::new();
                if let Decision::Grant(cards) = &decision {
                    devices = cards.iter().map(|&at| seen.cards[at].card.clone()).collect();
                    changes.extend(ledger.grant(&holder, &own.words, by, now_ms(), &devices));
                }
                (changes, (decision, devices))
            })
            .await?;
        match decided {
            (Decision::Grant(_), devices) => {
                self.confirm(request, Lease { holder: request.holder.clone(), devices }).await
            }
            (Decision::Busy(busy), _) => Err(LeaseError::Busy { asked: request.in_words(), busy }),
            (Decision::Impossible(there), _) => Err(LeaseError::Impossible { asked: request.in_words(), there }),
        }
    }

    async fn would_get(&self, request: &LeaseRequest) -> Result<Vec<Accelerator>, LeaseError> {
        if !request.wants_any() {
            return Ok(Vec::new());
        }
        let (seen, ledger) = self.look_and_settle().await?;
        match ledger.decide(request, &seen, &self.settings.policy) {
            Decision::Grant(cards) => Ok(cards.into_iter().map(|at| seen.cards[at].card.clone()).collect()),
            Decision::Busy(busy) => Err(LeaseError::Busy { asked: request.in_words(), busy }),
            Decision::Impossible(there) => Err(LeaseError::Impossible { asked: request.in_words(), there }),
        }
    }

    async fn leased(&self, holder: &BoundaryId) -> Result<Option<Lease>, LeaseError> {
        let devices = self.book.ledger().await?.cards_of(&self.book.holder(holder));
        Ok((!devices.is_empty()).then(|| Lease { holder: holder.clone(), devices }))
    }

    async fn release(&self, holder: &BoundaryId) -> Result<Released, LeaseError> {
        let own = self.book.holder(holder);
        let given = self
            .book
            .change(move |ledger| {
                let held = !ledger.cards_of(&own).is_empty();
                (ledger.give_back(&own), held)
            })
            .await?;
        if !given {
            return Ok(Released::Now);
        }
        let own = self.book.holder(holder);
        let until = Instant::now() + RELEASE_WAIT;
        loop {
            let left = match self.look_and_settle().await {
                Ok((seen, ledger)) => {
                    let cards = ledger.cards_of(&own);
                    if cards.is_empty() {
                        return Ok(Released::Now);
                    }
                    let words = seen.cards.iter().filter(|card| cards.contains(&card.card)).map(|card| {
                        match ledger.availability(card, &self.settings.policy) {
                            Availability::Returning(why) => format!("{}: {why}", card.card.in_words()),
                            _ => card.card.in_words(),
                        }
                    });
                    words.collect::<Vec<_>>().join("; ")
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() >= until {
                return Ok(Released::Later(left));
            }
            tokio::time::sleep(RELEASE_LOOK).await;
        }
    }

    async fn sample(&self, holder: &BoundaryId) -> Option<Vec<(u32, CardState)>> {
        let own: BTreeSet<String> = self
            .book
            .ledger()
            .await
            .ok()?
            .cards_of(&self.book.holder(holder))
            .into_iter()
            .map(|card| card.uuid)
            .collect();
        if own.is_empty() {
            return None;
        }
        let seen = self.look().await.ok()?;
        let cards = seen.cards.into_iter().filter(|card| own.contains(&card.card.uuid));
        Some(cards.map(|card| (card.card.index, card.state)).collect())
    }

    async fn forgotten(&self, open: &BTreeSet<BoundaryId>) -> Result<Vec<BoundaryId>, LeaseError> {
        let ledger = self.book.ledger().await?;
        let owner = Owner { agent: self.book.agent().to_owned(), by: self.book.by() };
        Ok(reap::reapable(&ledger, &owner, open, book::lives).into_iter().map(|holder| holder.boundary).collect())
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
#[path = "pool/tests.rs"]
mod tests;
