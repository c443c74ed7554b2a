//! Random schedules of runs on a host whose agent is killed at any step. Everything that decides is the code that the agent
//! runs; the world (containers, processes, the file) is a model with one rule: what is not in the file or in the world is lost
//! with the agent.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::accelerators::{
    card::{CardState, Vendor},
    reap::{Owner, reapable},
    topology::Topology,
};

/// A small generator, so that a schedule is its seed.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// Where a run is, as its own record in the store says (it is written before the step is taken, as the agent does).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Lease,
    Start,
    Work,
    Teardown,
    Released,
    Done,
}

struct Run {
    holder: Holder,
    request: LeaseRequest,
    stage: Stage,
    /// Steps of work left.
    work: usize,
    /// Waited for a lease this often.
    waited: usize,
}

struct World {
    /// The file.
    book: Ledger,
    /// The runs' records.
    runs: Vec<Run>,
    /// Boundaries that hold something, with the cards that they were given.
    boundaries: BTreeMap<BoundaryId, Vec<String>>,
    /// Processes on cards: (card, boundary or nobody's).
    on_cards: Vec<(String, Option<BoundaryId>, u32)>,
    cards: usize,
    /// Which process of the agent lives.
    agent: (i32, u64),
    next_pid: u32,
    kills: usize,
    grants: usize,
}

impl World {
    fn new(rng: &mut Rng) -> Self {
        let cards = 1 + rng.below(8);
        let runs = (0..1 + rng.below(7))
            .map(|n| {
                let boundary = BoundaryId::new(n as i64, 1);
                let mut request = LeaseRequest {
                    holder: boundary.clone(),
                    count: 1 + rng.below(cards + 1) as u32,
                    kind: None,
                    min_memory_bytes: None,
                    device_ids: Vec::new(),
                    words: format!("run {n}"),
                    waits: false,
                };
                if rng.chance(20) {
                    request.device_ids = vec![rng.below(cards + 1).to_string()];
                }
                Run {
                    holder: Holder { agent: "a".into(), boundary },
                    request,
                    stage: Stage::Lease,
                    work: 1 + rng.below(4),
                    waited: 0,
                }
            })
            .collect();
        Self {
            book: Ledger::default(),
            runs,
            boundaries: BTreeMap::new(),
            on_cards: Vec::new(),
            cards,
            agent: (1, 1),
            next_pid: 100,
            kills: 0,
            grants: 0,
        }
    }

    fn seen(&self) -> Observation {
        let cards = (0..self.cards).map(|at| {
            let uuid = format!("GPU-{at}");
            let processes = self.on_cards.iter().filter(|(card, ..)| *card == uuid).map(|(_, boundary, pid)| {
                CardProcess { pid: *pid, run: boundary.as_ref().map(ToString::to_string), ..CardProcess::default() }
            });
            let state =
                CardState { processes: Some(processes.collect()), memory_used_bytes: Some(0), ..CardState::default() };
            Observed { card: Accelerator::new(at as u32, uuid, Vendor::Nvidia, "X", 1), state }
        });
        let cards: Vec<Observed> = cards.collect();
        let topology = Topology::of(cards.len(), |i, j| if i / 2 == j / 2 { 2 } else { 1 });
        Observation { cards, topology, ..Observation::default() }
    }

    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            if let Change::Put(entry) = &change {
                let there = self.book.entry(&entry.card.uuid);
                assert!(there.is_none(), "double lease of {}: {there:?} and {entry:?}", entry.card.uuid);
            }
            self.book.apply(&change);
        }
    }

    /// The next step of a run by the agent that lives. `false` = the run has ended.
    fn step(&mut self, at: usize, rng: &mut Rng) {
        let seen = self.seen();
        let run = &self.runs[at];
        let (holder, request) = (run.holder.clone(), run.request.clone());
        let boundary = holder.boundary.clone();
        match run.stage {
            Stage::Lease => {
                let have = self.book.cards_of(&holder);
                if !have.is_empty() {
                    self.runs[at].stage = Stage::Start;
                    return;
                }
                match self.book.decide(&request, &seen, &Policy::default()) {
                    Decision::Grant(cards) => {
                        let cards: Vec<Accelerator> =
                            cards.into_iter().map(|card| seen.cards[card].card.clone()).collect();
                        assert_eq!(cards.len(), request.size(), "as many as were asked");
                        self.write(self.book.grant(&holder, &request.words, self.agent, 0, &cards));
                        self.grants += 1;
                    }
                    Decision::Busy(_) => {
                        self.runs[at].waited += 1;
                        // A queue with a time limit.
                        if self.runs[at].waited > 12 {
                            self.runs[at].stage = Stage::Teardown;
                        }
                    }
                    Decision::Impossible(_) => self.runs[at].stage = Stage::Teardown,
                }
            }
            Stage::Start => {
                let cards: Vec<String> = self.book.cards_of(&holder).into_iter().map(|card| card.uuid).collect();
                assert_eq!(cards.len(), request.size(), "started with the cards of its lease");
                for card in &cards {
                    let others: Vec<_> = self
                        .on_cards
                        .iter()
                        .filter(|(on, of, _)| on == card && of.as_ref().is_some_and(|b| *b != boundary))
                        .collect();
                    assert!(others.is_empty(), "{boundary} starts on {card}, which {others:?} still uses");
                    if !self.on_cards.iter().any(|(on, of, _)| on == card && of.as_ref() == Some(&boundary)) {
                        self.next_pid += 1;
                        self.on_cards.push((card.clone(), Some(boundary.clone()), self.next_pid));
                    }
                }
                self.boundaries.insert(boundary, cards);
                self.runs[at].stage = Stage::Work;
            }
            Stage::Work => {
                self.runs[at].work -= 1;
                if self.runs[at].work == 0 {
                    self.runs[at].stage = Stage::Teardown;
                }
            }
            Stage::Teardown => {
                // The boundary is emptied; the driver may show its processes for a while longer.
                self.boundaries.remove(&boundary);
                self.on_cards.retain(|(_, of, _)| of.as_ref() != Some(&boundary) || rng.chance(40));
                self.runs[at].stage = Stage::Released;
            }
            Stage::Released => {
                // Now and then the giving back fails, and the agent has to find the lease later.
                if rng.chance(90) {
                    self.write(self.book.give_back(&holder));
                }
                self.runs[at].stage = Stage::Done;
            }
            Stage::Done => {}
        }
    }

    /// What the agent does from time to time: cards on their way back, leases of runs that are over.
    fn tend(&mut self) {
        let open: BTreeSet<BoundaryId> =
            self.runs.iter().filter(|run| run.stage != Stage::Done).map(|run| run.holder.boundary.clone()).collect();
        let owner = Owner { agent: "a".into(), by: self.agent };
        for holder in reapable(&self.book, &owner, &open, |by| by == self.agent) {
            if !self.boundaries.contains_key(&holder.boundary) {
                self.write(self.book.give_back(&holder));
            }
        }
        self.write(self.book.settle(&self.seen(), &self.book.returning()));
    }

    fn check(&self) {
        let mut users: BTreeMap<&str, BTreeSet<&BoundaryId>> = BTreeMap::new();
        for (boundary, cards) in &self.boundaries {
            for card in cards {
                users.entry(card).or_default().insert(boundary);
                let entry =
                    self.book.entry(card).unwrap_or_else(|| panic!("{boundary} runs on {card} without a lease"));
                assert_eq!(entry.holder.boundary, *boundary, "the lease of {card} is another's");
            }
        }
        for (card, users) in users {
            assert_eq!(users.len(), 1, "{card} is used by {users:?}");
        }
    }
}

/// One schedule; (kills, grants).
fn schedule(seed: u64) -> (usize, usize) {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut world = World::new(&mut rng);
    let steps = 60 + rng.below(120);
    for _ in 0..steps {
        match rng.below(20) {
            // Killed, and started again: only file, records and world are left.
            0 | 1 => {
                world.agent = (world.agent.0 + 1, world.agent.1);
                world.kills += 1;
            }
            2..=5 => world.tend(),
            // Somebody else comes and goes.
            6 => {
                world.next_pid += 1;
                let card = format!("GPU-{}", rng.below(world.cards));
                world.on_cards.push((card, None, world.next_pid));
            }
            7 | 8 => world.on_cards.retain(|(_, of, _)| of.is_some() || rng.chance(50)),
            // The driver forgets processes that have ended.
            9 => {
                let boundaries = &world.boundaries;
                world.on_cards.retain(|(_, of, _)| of.as_ref().is_none_or(|of| boundaries.contains_key(of)));
            }
            _ => {
                let at = rng.below(world.runs.len());
                world.step(at, &mut rng);
            }
        }
        world.check();
    }
    // Quiet: everything ends, and nothing may be left.
    for _ in 0..200 {
        for at in 0..world.runs.len() {
            world.step(at, &mut rng);
            world.check();
        }
        let boundaries = &world.boundaries;
        world.on_cards.retain(|(_, of, _)| of.as_ref().is_some_and(|of| boundaries.contains_key(of)));
        world.tend();
    }
    assert!(world.runs.iter().all(|run| run.stage == Stage::Done), "every run comes to its end");
    assert_eq!(world.book, Ledger::default(), "no lease is left");
    (world.kills, world.grants)
}

#[test]
fn random_schedules_with_kills_at_any_step_have_no_double_lease_and_leave_none() {
    let schedules: u64 = if std::env::var_os("TESTRIG_LONG").is_some() { 100_000 } else { 2_000 };
    let (mut kills, mut grants) = (0, 0);
    for seed in 1..=schedules {
        let done = std::panic::catch_unwind(|| schedule(seed));
        let (k, g) = done.unwrap_or_else(|_| panic!("schedule {seed} failed, see above"));
        kills += k;
        grants += g;
    }
    println!("{schedules} schedules, {kills} kills, {grants} leases: no double lease, none left");
    assert!(kills > schedules as usize && grants > schedules as usize, "the schedules do something");
}
