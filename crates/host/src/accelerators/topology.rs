//! How near cards are to each other, and which set of free ones is the best.

use std::cmp::Reverse;

/// No more sets than this are compared; beyond it cards are taken one by one.
const MOST_SETS: u64 = 50_000;

/// How a machine's cards belong together. Positions are those in the observation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Nearness of two cards, higher = nearer; empty = all alike.
    pub scores: Vec<Vec<u32>>,
    /// What sets the machine allows.
    pub rule: Rule,
}

/// Sets that a machine allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// Any.
    #[default]
    Any,
    /// First-generation 910 servers: 1, 2 or 4 in one ring, or all.
    Rings(Vec<Vec<usize>>),
    /// A3 boards: one card, or whole modules of two dies.
    Modules(Vec<Vec<usize>>),
}

impl Topology {
    /// Scores of pairs by a function; `score(i, j)` is asked once for each pair.
    pub fn of(cards: usize, mut score: impl FnMut(usize, usize) -> u32) -> Self {
        let mut scores = vec![vec![0; cards]; cards];
        let pairs = (0..cards).flat_map(|i| (i + 1..cards).map(move |j| (i, j)));
        for (i, j) in pairs {
            let score = score(i, j);
            scores[i][j] = score;
            scores[j][i] = score;
        }
        Self { scores, rule: Rule::Any }
    }

    fn score(&self, a: usize, b: usize) -> u32 {
        self.scores.get(a).and_then(|row| row.get(b)).copied().unwrap_or(0)
    }

    /// Numbers of cards that the machine gives at once, in words; `None` = any.
    pub fn counts_in_words(&self) -> Option<&'static str> {
        match self.rule {
            Rule::Any => None,
            Rule::Rings(_) => Some("1, 2 or 4 cards in one ring, or all"),
            Rule::Modules(_) => Some("1 card, or an even number (whole modules of two)"),
        }
    }

    /// The best `count` of these cards, in ascending order; `None` if the machine cannot give so many of them together.
    pub fn choose(&self, count: usize, from: &[usize]) -> Option<Vec<usize>> {
        let mut from = from.to_vec();
        from.sort_unstable();
        from.dedup();
        if count > from.len() {
            return None;
        }
        let mut chosen = match &self.rule {
            Rule::Any => self.nearest(count, &from),
            Rule::Rings(rings) => self.in_rings(count, &from, rings)?,
            Rule::Modules(modules) => self.in_modules(count, &from, modules)?,
        };
        chosen.sort_unstable();
        Some(chosen)
    }

    /// The set with the highest sum of scores; among equals the one that is least missed by the cards that stay, then the
    /// lowest positions.
    fn nearest(&self, count: usize, from: &[usize]) -> Vec<usize> {
        if count == 0 || count == from.len() {
            return from[..count].to_vec();
        }
        if sets(from.len(), count) > MOST_SETS {
            return self.one_by_one(count, from);
        }
        let mut best: Option<(Value, Vec<usize>)> = None;
        let mut set: Vec<usize> = (0..count).collect();
        loop {
            let cards: Vec<usize> = set.iter().map(|&at| from[at]).collect();
            let value = self.value(&cards, from);
            if best.as_ref().is_none_or(|(found, _)| value > *found) {
                best = Some((value, cards));
            }
            // The next combination in lexical order.
            let Some(at) = (0..count).rev().find(|&at| set[at] < from.len() - count + at) else { break };
            set[at] += 1;
            for later in at + 1..count {
                set[later] = set[later - 1] + 1;
            }
        }
        best.map(|(_, cards)| cards).unwrap_or_default()
    }

    fn value(&self, cards: &[usize], from: &[usize]) -> Value {
        let (mut inside, mut outside) = (0, 0);
        for (at, &a) in cards.iter().enumerate() {
            inside += cards[at + 1..].iter().map(|&b| u64::from(self.score(a, b))).sum::<u64>();
            outside += from.iter().filter(|b| !cards.contains(b)).map(|&b| u64::from(self.score(a, b))).sum::<u64>();
        }
        (inside, Reverse(outside))
    }

    fn one_by_one(&self, count: usize, from: &[usize]) -> Vec<usize> {
        let mut best: Option<(u64, Vec<usize>)> = None;
        for &first in from {
            let mut cards = vec![first];
            let mut sum = 0;
            while cards.len() < count {
                let near = |b: usize| cards.iter().map(|&a| u64::from(self.score(a, b))).sum::<u64>();
                let next = from.iter().copied().filter(|b| !cards.contains(b)).max_by_key(|&b| (near(b), Reverse(b)));
                let Some(next) = next else { break };
                sum += near(next);
                cards.push(next);
            }
            if best.as_ref().is_none_or(|(found, _)| sum > *found) {
                best = Some((sum, cards));
            }
        }
        best.map(|(_, cards)| cards).unwrap_or_default()
    }

    /// One ring gives them all; which ring depends on how many it has free, so that whole rings stay whole.
    fn in_rings(&self, count: usize, from: &[usize], rings: &[Vec<usize>]) -> Option<Vec<usize>> {
        let whole: usize = rings.iter().map(Vec::len).sum();
        if count == whole {
            return (from.len() == whole).then(|| from.to_vec());
        }
        let order: &[usize] = match count {
            0 => return Some(Vec::new()),
            1 => &[1, 3, 2, 4],
            2 => &[2, 4, 3],
            4 => &[4],
            _ => return None,
        };
        let free = |ring: &Vec<usize>| -> Vec<usize> { ring.iter().copied().filter(|at| from.contains(at)).collect() };
        let rings: Vec<Vec<usize>> = rings.iter().map(free).collect();
        let ring = order.iter().find_map(|&left| rings.iter().find(|ring| ring.len() == left))?;
        Some(self.nearest(count, ring))
    }

    /// One card from a module that is half used, else whole modules.
    fn in_modules(&self, count: usize, from: &[usize], modules: &[Vec<usize>]) -> Option<Vec<usize>> {
        let free =
            |module: &Vec<usize>| -> Vec<usize> { module.iter().copied().filter(|at| from.contains(at)).collect() };
        let modules: Vec<(usize, Vec<usize>)> = modules.iter().map(|module| (module.len(), free(module))).collect();
        match count {
            0 => Some(Vec::new()),
            1 => {
                let half = modules.iter().find(|(size, free)| !free.is_empty() && free.len() < *size);
                let module = half.or_else(|| modules.iter().find(|(_, free)| !free.is_empty()))?;
                Some(vec![module.1[0]])
            }
            count if count % 2 == 0 => {
                let whole: Vec<usize> = modules
                    .iter()
                    .filter(|(size, free)| *size == 2 && free.len() == 2)
                    .flat_map(|(_, free)| free.clone())
                    .collect();
                (whole.len() >= count).then(|| whole[..count].to_vec())
            }
            _ => None,
        }
    }
}

/// Nearness inside of a set, then how little it is missed.
type Value = (u64, Reverse<u64>);

/// n over k, as far as it matters.
fn sets(n: usize, k: usize) -> u64 {
    let k = k.min(n - k) as u64;
    let mut sets: u64 = 1;
    for i in 0..k {
        sets = sets.saturating_mul(n as u64 - i) / (i + 1);
        if sets > MOST_SETS {
            return sets;
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_with_a_link_between_them_come_first() {
        // Two pairs with NVLink bridges: 0-2 and 1-3, everything else over the host.
        let topology = Topology::of(4, |i, j| if (i, j) == (0, 2) || (i, j) == (1, 3) { 220 } else { 20 });
        assert_eq!(topology.choose(2, &[0, 1, 2, 3]), Some(vec![0, 2]));
        assert_eq!(topology.choose(2, &[0, 1, 3]), Some(vec![1, 3]));
        assert_eq!(topology.choose(2, &[0, 1]), Some(vec![0, 1]));
        assert_eq!(topology.choose(1, &[0, 1, 3]), Some(vec![0]), "the pair that is still whole is left whole");
        assert_eq!(topology.choose(3, &[0, 1]), None);
        assert_eq!(topology.choose(0, &[0, 1]), Some(vec![]));
    }

    #[test]
    fn one_socket_is_preferred_to_two() {
        let topology = Topology::of(8, |i, j| if i / 4 == j / 4 { 20 } else { 10 });
        assert_eq!(topology.choose(4, &[0, 1, 4, 5, 6, 7]), Some(vec![4, 5, 6, 7]));
        assert_eq!(topology.choose(2, &[3, 4, 5]), Some(vec![4, 5]));
    }

    #[test]
    fn many_slices_are_chosen_quickly() {
        let topology = Topology::of(56, |i, j| if i / 7 == j / 7 { 60 } else { 20 });
        let all: Vec<usize> = (0..56).collect();
        assert_eq!(topology.choose(7, &all[3..]), Some((7..14).collect()));
    }

    #[test]
    fn a_first_generation_server_gives_cards_of_one_ring_and_keeps_rings_whole() {
        let topology = Topology { scores: Vec::new(), rule: Rule::Rings(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]]) };
        let all: Vec<usize> = (0..8).collect();
        assert_eq!(topology.choose(1, &[0, 1, 2, 7]), Some(vec![7]), "the ring with one left");
        assert_eq!(topology.choose(2, &[0, 1, 2, 6, 7]), Some(vec![6, 7]), "the ring with two left");
        assert_eq!(topology.choose(4, &all[1..]), Some(vec![4, 5, 6, 7]));
        assert_eq!(topology.choose(4, &[0, 1, 2, 4, 5, 6]), None, "four, but in no ring");
        assert_eq!(topology.choose(8, &all), Some(all.clone()));
        for count in [3, 5, 6, 7] {
            assert_eq!(topology.choose(count, &all), None, "{count}");
        }
    }

    #[test]
    fn an_a3_host_gives_whole_modules_and_single_dies_of_broken_ones() {
        let topology =
            Topology { scores: Vec::new(), rule: Rule::Modules((0..8).map(|m| vec![2 * m, 2 * m + 1]).collect()) };
        assert_eq!(topology.choose(1, &[0, 1, 5]), Some(vec![5]));
        assert_eq!(topology.choose(1, &[0, 1]), Some(vec![0]));
        assert_eq!(topology.choose(4, &[1, 2, 3, 4, 6, 7]), Some(vec![2, 3, 6, 7]));
        assert_eq!(topology.choose(4, &[1, 2, 3, 4, 7]), None);
        assert_eq!(topology.choose(3, &[0, 1, 2, 3]), None);
    }
}
