//! When the requests of an open loop are due: fixed in advance, whatever the service does.

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::plan::Arrival;

/// Due times in microseconds since the start of the run, increasing, without end.
#[derive(Debug)]
pub struct Schedule {
    qps: f64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Constant { next: u64 },
    Poisson { rng: Box<StdRng>, at_us: f64 },
}

impl Schedule {
    /// The schedule of an open loop; None for a closed one, which has none.
    #[must_use]
    pub fn of(arrival: &Arrival) -> Option<Self> {
        match *arrival {
            Arrival::Closed { .. } => None,
            Arrival::Constant { qps, .. } => Some(Self { qps, kind: Kind::Constant { next: 0 } }),
            Arrival::Poisson { qps, seed, .. } => {
                Some(Self { qps, kind: Kind::Poisson { rng: Box::new(StdRng::seed_from_u64(seed)), at_us: 0.0 } })
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let gap_us = 1e6 / self.qps;
        Some(match &mut self.kind {
            Kind::Constant { next } => {
                // From the number, not from the last time: nothing adds up over a long run.
                let at = *next as f64 * gap_us;
                *next += 1;
                at.round() as u64
            }
            Kind::Poisson { rng, at_us } => {
                // 1 - u lies in (0, 1], so that the logarithm is finite.
                *at_us += -(1.0 - rng.random::<f64>()).ln() * gap_us;
                at_us.round() as u64
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrival: Arrival, count: usize) -> Vec<u64> {
        Schedule::of(&arrival).expect("an open loop").take(count).collect()
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_do_not_drift() {
        let times = times(Arrival::Constant { qps: 3.0, concurrency: None }, 3_000_001);
        assert_eq!(times[..4], [0, 333_333, 666_667, 1_000_000]);
        assert_eq!(times[3_000_000], 1_000_000_000_000);
    }

    #[test]
    fn poisson_arrivals_repeat_with_their_seed_and_have_the_asked_rate() {
        let of = |seed| times(Arrival::Poisson { qps: 100.0, concurrency: None, seed }, 20_000);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let all = of(7);
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]));
        let mean = all[19_999] as f64 / 20_000.0;
        assert!((9_700.0..10_300.0).contains(&mean), "mean gap is {mean} us");
        // Exponential gaps: standard deviation equals the mean, and 1 - 1/e of them are shorter than it.
        let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let shorter = gaps.iter().filter(|gap| **gap < mean).count() as f64 / gaps.len() as f64;
        assert!((0.61..0.65).contains(&shorter), "{shorter} of the gaps are shorter than the mean");
    }
}
