//! What goes wrong, and with which requests.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Status 500.
    Http500,
    /// Status 429.
    Http429,
    /// Half of the answer, then an error object, all under status 200.
    InBandError,
    /// Half of the answer, then a clean end without finish reason and end mark.
    Truncate,
    /// Half of the answer, then the connection is closed within the body.
    Abort,
    /// Half of the answer, then nothing more while the connection stays open.
    Stall,
    /// The connection is reset instead of an answer.
    Reset,
    /// A complete answer without tokens.
    Empty,
    /// Half of the answer, then something that is not JSON.
    Malformed,
    /// A good answer that takes ten times as long.
    Slow,
}

impl FaultKind {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 10] = [
        ("http500", Self::Http500),
        ("http429", Self::Http429),
        ("in_band_error", Self::InBandError),
        ("truncate", Self::Truncate),
        ("abort", Self::Abort),
        ("stall", Self::Stall),
        ("reset", Self::Reset),
        ("empty", Self::Empty),
        ("malformed", Self::Malformed),
        ("slow", Self::Slow),
    ];
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            format!("`{text}` is no fault; accepted are {}", names.join(", "))
        })
    }
}

/// Faults and the share of requests that each hits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults(Vec<(FaultKind, f64)>);

impl Faults {
    /// Faults with their rates from 0 to 1.
    ///
    /// # Errors
    /// When a rate is no share or all of them are more than 1.
    pub fn new(rates: Vec<(FaultKind, f64)>) -> Result<Self, String> {
        if let Some((kind, rate)) = rates.iter().find(|(_, rate)| !(0.0..=1.0).contains(rate)) {
            return Err(format!("the rate of fault {kind:?} is {rate}; accepted is 0 to 1"));
        }
        let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
        if sum > 1.0 + 1e-9 {
            return Err(format!(
                "the fault rates add up to {sum}; accepted is at most 1, because a request has one fault"
            ));
        }
        Ok(Self(rates))
    }

    /// Reads one `KIND=RATE`.
    ///
    /// # Errors
    /// When it is not of that form, with what is accepted.
    pub fn parse_one(text: &str) -> Result<(FaultKind, f64), String> {
        let (kind, rate) =
            text.split_once('=').ok_or_else(|| format!("`{text}` is not KIND=RATE, e.g. http500=0.1"))?;
        let rate = rate.parse().map_err(|_| format!("`{rate}` in `{text}` is no number; accepted is 0 to 1"))?;
        Ok((kind.parse()?, rate))
    }

    /// The fault of request number `n`, the same for the same seed.
    pub(super) fn choose(&self, seed: u64, n: u64) -> Option<FaultKind> {
        let mut at = uniform(seed, n);
        for (kind, rate) in &self.0 {
            if at < *rate {
                return Some(*kind);
            }
            at -= rate;
        }
        None
    }
}

/// SplitMix64 of seed and number, as a number from 0 to below 1.
fn uniform(seed: u64, n: u64) -> f64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_hit_their_share_and_the_same_requests_again() {
        let faults = Faults::new(vec![(FaultKind::Http500, 0.2), (FaultKind::Stall, 0.1)]).expect("rates are good");
        let chosen: Vec<_> = (0..10_000).map(|n| faults.choose(3, n)).collect();
        let share = |kind| chosen.iter().filter(|fault| **fault == kind).count();
        assert!((1_850..2_150).contains(&share(Some(FaultKind::Http500))));
        assert!((890..1_110).contains(&share(Some(FaultKind::Stall))));
        assert!((6_800..7_200).contains(&share(None)));
        assert_eq!(chosen, (0..10_000).map(|n| faults.choose(3, n)).collect::<Vec<_>>());
    }

    #[test]
    fn bad_faults_are_refused_with_what_is_accepted() {
        assert!(
            Faults::parse_one("oom=0.1").expect_err("unknown").contains("accepted are http500, http429, in_band_error")
        );
        assert!(Faults::parse_one("http500").expect_err("no rate").contains("KIND=RATE"));
        assert!(Faults::parse_one("http500=often").expect_err("no number").contains("0 to 1"));
        assert!(Faults::new(vec![(FaultKind::Slow, 1.5)]).is_err());
        assert!(Faults::new(vec![(FaultKind::Slow, 0.6), (FaultKind::Empty, 0.6)]).is_err());
        assert_eq!(Faults::parse_one("in_band_error=0.25"), Ok((FaultKind::InBandError, 0.25)));
    }
}
