//! What decides how many lines go out and when: no clock, no sink.

use std::time::Duration;

use super::PumpOptions;

/// Size of the next batch, pause after a failure, and the hunt for a refused line.
#[derive(Debug)]
pub(super) struct Batching {
    max_lines: usize,
    cap: usize,
    refusals_allowed: u32,
    refusals: u32,
    failures: u32,
    first_pause: Duration,
    longest_pause: Duration,
}

/// What to do after a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send fewer lines, at once.
    Smaller,
    /// It is this line; ask again after a pause.
    AskAgain,
    /// It was asked often enough: go on behind it.
    Skip,
}

impl Batching {
    pub(super) fn new(options: &PumpOptions) -> Self {
        let max_lines = options.max_lines.max(1);
        Self {
            max_lines,
            cap: max_lines,
            refusals_allowed: options.refusals.max(1),
            refusals: 0,
            failures: 0,
            first_pause: options.first_pause,
            longest_pause: options.longest_pause,
        }
    }

    /// Lines of the next batch at most.
    pub(super) fn lines(&self) -> usize {
        self.cap
    }

    pub(super) fn taken(&mut self) {
        self.cap = (self.cap * 2).min(self.max_lines);
        self.refusals = 0;
        self.failures = 0;
    }

    pub(super) fn refused(&mut self, lines: usize) -> Verdict {
        if lines > 1 {
            self.cap = lines / 2;
            return Verdict::Smaller;
        }
        self.refusals += 1;
        if self.refusals < self.refusals_allowed {
            return Verdict::AskAgain;
        }
        self.refusals = 0;
        Verdict::Skip
    }

    /// The pause after a failure; `random` is in 0..1 and takes off up to a quarter, so that many pumps do not come at
    /// once.
    pub(super) fn pause(&mut self, random: f64) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << self.failures.min(20));
        self.failures += 1;
        let pause = doubled.min(self.longest_pause);
        pause.mul_f64(1.0 - random.clamp(0.0, 1.0) / 4.0).max(self.first_pause.min(self.longest_pause))
    }

    /// The sink is there again: the next failure is a first one.
    pub(super) fn fresh(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_the_first_to_the_longest_and_start_over_after_success() {
        let mut batching = Batching::new(&PumpOptions::default());
        let ms: Vec<u128> = (0..7).map(|_| batching.pause(0.0).as_millis()).collect();
        assert_eq!(ms, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(batching.pause(1.0).as_millis(), 3750);
        batching.taken();
        assert_eq!(batching.pause(1.0).as_millis(), 200);
    }

    #[test]
    fn one_bad_line_among_a_thousand_is_found_in_ten_halvings() {
        let mut batching = Batching::new(&PumpOptions::default());
        let (bad, end) = (637_usize, 1000);
        let (mut next, mut sends, mut skipped) = (0, 0, Vec::new());
        while next < end {
            let lines = batching.lines().min(end - next);
            sends += 1;
            if !(next..next + lines).contains(&bad) || skipped.contains(&bad) {
                batching.taken();
                next += lines;
            } else if batching.refused(lines) == Verdict::Skip {
                skipped.push(next);
                next += 1;
            }
        }
        assert_eq!(skipped, [bad]);
        assert!(sends < 60, "{sends} sends");
    }

    #[test]
    fn pauses_do_not_start_over_while_line_after_line_is_skipped() {
        let mut batching = Batching::new(&PumpOptions { refusals: 1, ..PumpOptions::default() });
        for _ in 0..6 {
            assert_eq!(batching.refused(1), Verdict::Skip);
            batching.pause(0.0);
        }
        assert_eq!(batching.pause(0.0), Duration::from_secs(5));
    }
}
