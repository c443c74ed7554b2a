//! When the agent is killed: numbers that can be drawn again.

use std::time::Duration;

/// Pseudo-random numbers (splitmix64); the same seed gives the same ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Of a seed and the round's number.
    pub(super) fn of(seed: u64, round: u64) -> Self {
        let mut dice = Self(seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below a limit.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Less than so many milliseconds.
    pub(super) fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_micros(self.below(limit * 1000))
    }
}

/// The seed of this run: `TESTRIG_CRASH_SEED`, else another one every time.
pub(super) fn seed() -> u64 {
    let given = std::env::var("TESTRIG_CRASH_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_micros() as u64 % 1_000_000_000
    })
}

/// How long a stage lasts here about, in milliseconds: that far behind its begin a kill may fall.
pub(super) fn length(stage: &str) -> u64 {
    match stage {
        "health" => 1500,
        "warm-up" => 2000,
        "load" => 3000,
        "teardown" => 400,
        "create" | "start" => 200,
        _ => 100,
    }
}

/// One round: how the agent is killed in it.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// In or behind the begin of this stage.
    pub(super) stage: &'static str,
    /// The service is a container, else a host process.
    pub(super) container: bool,
    /// The run is held in the stage, so that the kill certainly falls into it.
    pub(super) held: bool,
    /// How long after the begin of the stage was seen.
    pub(super) after: Duration,
    /// How long after the restart the agent is killed once more.
    pub(super) again: Option<Duration>,
}

impl Round {
    /// The first round of a stage hits it for certain; the others hit wherever they happen to, every third twice.
    pub(super) fn draw(stage: &'static str, container: bool, round: u64, seed: u64) -> Self {
        let of_stage = stage.bytes().fold(u64::from(container), |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        let mut dice = Dice::of(seed.wrapping_add(of_stage), round);
        let held = round == 0;
        let after = if held { Duration::ZERO } else { dice.millis(length(stage)) };
        let again = (!held && dice.below(3) == 0).then(|| dice.millis(2000));
        Self { stage, container, held, after, again }
    }

    /// How often the agent is killed.
    pub(super) fn kills(&self) -> usize {
        1 + usize::from(self.again.is_some())
    }
}
