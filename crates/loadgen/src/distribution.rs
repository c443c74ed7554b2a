//! Exact percentiles in memory that is bounded by the number of different values.

use std::sync::OnceLock;

/// Pending values that are sorted in at once; more when there are many different ones, so that adding stays cheap.
const PENDING: usize = 4096;

/// A set of durations with exact mean and percentiles. Equal values are stored once, with their count.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    /// Value in nanoseconds and how often, sorted.
    counts: Vec<(u64, u64)>,
    pending: Vec<u64>,
    count: u64,
    sum_ns: u128,
    settled: OnceLock<Vec<(u64, u64)>>,
}

impl Distribution {
    /// Adds a duration in nanoseconds.
    pub fn add_ns(&mut self, value: u64) {
        self.settled.take();
        self.count += 1;
        self.sum_ns += u128::from(value);
        self.pending.push(value);
        if self.pending.len() >= PENDING.max(self.counts.len()) {
            self.counts = merged(&self.counts, std::mem::take(&mut self.pending));
        }
    }

    /// Adds a duration in microseconds.
    pub fn add_us(&mut self, value: u64) {
        self.add_ns(value.saturating_mul(1000));
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Arithmetic mean in milliseconds; None without values.
    #[must_use]
    pub fn mean_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ns as f64 / self.count as f64 / 1e6)
    }

    /// Smallest value in milliseconds.
    #[must_use]
    pub fn min_ms(&self) -> Option<f64> {
        self.counts().first().map(|(value, _)| *value as f64 / 1e6)
    }

    /// Largest value in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> Option<f64> {
        self.counts().last().map(|(value, _)| *value as f64 / 1e6)
    }

    /// Population standard deviation in milliseconds, as numpy's default.
    #[must_use]
    pub fn std_ms(&self) -> Option<f64> {
        let mean = self.mean_ms()?;
        let squares: f64 =
            self.counts().iter().map(|(value, times)| (*value as f64 / 1e6 - mean).powi(2) * *times as f64).sum();
        Some((squares / self.count as f64).sqrt())
    }

    /// Percentile `p` from 0 to 100 in milliseconds, by linear interpolation between the two nearest ranks: the value at rank
    /// `p / 100 * (count - 1)` of the sorted values, counted from 0. This is numpy's default and what vLLM reports.
    #[must_use]
    pub fn percentile_ms(&self, p: f64) -> Option<f64> {
        if self.count == 0 || !(0.0..=100.0).contains(&p) {
            return None;
        }
        let rank = p / 100.0 * (self.count - 1) as f64;
        let low = self.at_rank(rank.floor() as u64);
        let high = self.at_rank(rank.ceil() as u64);
        Some((low + (high - low) * rank.fract()) / 1e6)
    }

    /// The value in nanoseconds at `rank` of the sorted values, from 0.
    fn at_rank(&self, rank: u64) -> f64 {
        let mut seen = 0;
        for (value, times) in self.counts() {
            seen += times;
            if rank < seen {
                return *value as f64;
            }
        }
        self.counts().last().map_or(0.0, |(value, _)| *value as f64)
    }

    fn counts(&self) -> &[(u64, u64)] {
        if self.pending.is_empty() {
            return &self.counts;
        }
        self.settled.get_or_init(|| merged(&self.counts, self.pending.clone()))
    }
}

fn merged(counts: &[(u64, u64)], mut pending: Vec<u64>) -> Vec<(u64, u64)> {
    pending.sort_unstable();
    let mut result: Vec<(u64, u64)> = Vec::with_capacity(counts.len() + pending.len() / 4);
    let mut push = |value: u64, times: u64| match result.last_mut() {
        Some((last, count)) if *last == value => *count += times,
        _ => result.push((value, times)),
    };
    let mut old = counts.iter().copied().peekable();
    for value in pending {
        while let Some((known, times)) = old.next_if(|(known, _)| *known <= value) {
            push(known, times);
        }
        push(value, 1);
    }
    for (known, times) in old {
        push(known, times);
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_ms(values: &[u64]) -> Distribution {
        let mut distribution = Distribution::default();
        values.iter().for_each(|value| distribution.add_us(value * 1000));
        distribution
    }

    #[test]
    fn percentiles_interpolate_between_ranks_as_numpy_does() {
        // numpy.percentile([10, 20, 30, 40], [50, 90, 95, 99, 25]) = 25, 37, 38.5, 39.7, 17.5
        let four = of_ms(&[40, 10, 30, 20]);
        for (p, expected) in
            [(0.0, 10.0), (25.0, 17.5), (50.0, 25.0), (90.0, 37.0), (95.0, 38.5), (99.0, 39.7), (100.0, 40.0)]
        {
            let found = four.percentile_ms(p).expect("has values");
            assert!((found - expected).abs() < 1e-9, "p{p} is {found}, expected {expected}");
        }
        assert_eq!(four.mean_ms(), Some(25.0));
        assert_eq!((four.min_ms(), four.max_ms()), (Some(10.0), Some(40.0)));
        // numpy.std([10, 20, 30, 40]) = 11.180339887498949
        assert!((four.std_ms().expect("has values") - 11.180_339_887_498_949).abs() < 1e-9);
    }

    #[test]
    fn equal_values_count_as_often_as_they_came() {
        // sorted: 5 5 5 5 5 5 5 5 5 100; rank of p95 is 8.55, so 5 + 0.55 * 95
        let mut values = vec![5; 9];
        values.push(100);
        let ten = of_ms(&values);
        assert_eq!(ten.percentile_ms(50.0), Some(5.0));
        assert!((ten.percentile_ms(95.0).expect("has values") - 57.25).abs() < 1e-9);
    }

    #[test]
    fn one_value_is_every_percentile_and_none_has_none() {
        let one = of_ms(&[7]);
        assert_eq!((one.percentile_ms(1.0), one.percentile_ms(99.0)), (Some(7.0), Some(7.0)));
        assert_eq!(Distribution::default().percentile_ms(50.0), None);
        assert_eq!(one.percentile_ms(101.0), None);
    }

    proptest! {
        #[test]
        fn any_values_give_what_sorting_them_all_gives(values in prop::collection::vec(0u64..3000, 1..9000), p in 0.0f64..=100.0) {
            let mut distribution = Distribution::default();
            values.iter().for_each(|value| distribution.add_us(*value));
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let rank = p / 100.0 * (sorted.len() - 1) as f64;
            let (low, high) = (sorted[rank.floor() as usize] as f64, sorted[rank.ceil() as usize] as f64);
            let expected = (low + (high - low) * rank.fract()) / 1000.0;
            prop_assert!((distribution.percentile_ms(p).expect("has values") - expected).abs() < 1e-6);
            prop_assert_eq!(distribution.count(), values.len() as u64);
        }
    }
}
