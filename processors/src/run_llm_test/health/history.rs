//! What the health checks of a run said, and when.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Entries that are kept; older ones are only counted.
const KEEP: usize = 50;
/// Characters of a check's words that are kept.
const DETAIL: usize = 300;

/// The history that checker and run share.
pub(in crate::run_llm_test) type SharedHistory = Arc<Mutex<History>>;

/// How one check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::run_llm_test) enum Outcome {
    Passed,
    Failed,
    /// Nothing was learnt about the service.
    NotDone,
}

/// Checks in a row that said the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::run_llm_test) struct Entry {
    /// `startup` or `liveness`.
    pub(in crate::run_llm_test) phase: String,
    pub(in crate::run_llm_test) outcome: Outcome,
    /// The check's words.
    pub(in crate::run_llm_test) detail: String,
    /// How many they are.
    pub(in crate::run_llm_test) count: u64,
    /// End of the first and of the last one, epoch ms.
    pub(in crate::run_llm_test) first_at_ms: i64,
    pub(in crate::run_llm_test) last_at_ms: i64,
    /// The longest of them.
    pub(in crate::run_llm_test) took_ms: u64,
}

/// All checks of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::run_llm_test) struct History {
    pub(in crate::run_llm_test) passed: u64,
    pub(in crate::run_llm_test) failed: u64,
    pub(in crate::run_llm_test) not_done: u64,
    /// The newest entries, oldest first.
    pub(in crate::run_llm_test) entries: VecDeque<Entry>,
}

impl History {
    /// Adds one check that ended at `at_ms`.
    pub(in crate::run_llm_test) fn add(
        &mut self,
        ready: bool,
        outcome: Outcome,
        detail: &str,
        at_ms: i64,
        took: Duration,
    ) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::NotDone => self.not_done += 1,
        }
        let phase = if ready { "liveness" } else { "startup" };
        let detail: String = detail.chars().take(DETAIL).collect();
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if let Some(last) = self.entries.back_mut()
            && (last.phase.as_str(), last.outcome, &last.detail) == (phase, outcome, &detail)
        {
            last.count += 1;
            last.last_at_ms = at_ms;
            last.took_ms = last.took_ms.max(took_ms);
            return;
        }
        if self.entries.len() == KEEP {
            self.entries.pop_front();
        }
        let phase = phase.to_owned();
        self.entries.push_back(Entry {
            phase,
            outcome,
            detail,
            count: 1,
            first_at_ms: at_ms,
            last_at_ms: at_ms,
            took_ms,
        });
    }

    /// In one line, e.g. `4 health checks, 1 passed, the last one at 10:00:03.120: TCP 127.0.0.1:1: refused`.
    pub(in crate::run_llm_test) fn in_words(&self) -> Option<String> {
        let last = self.entries.back()?;
        let made = self.passed + self.failed;
        let not_done = if self.not_done > 0 { format!(", {} could not be made", self.not_done) } else { String::new() };
        let at = jiff::Timestamp::from_millisecond(last.last_at_ms).unwrap_or_default();
        Some(format!(
            "{made} health checks, {} passed{not_done}, the last one at {}: {}",
            self.passed,
            at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f"),
            last.detail
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_that_say_the_same_are_one_entry_and_old_entries_are_only_counted() {
        let mut history = History::default();
        assert_eq!(history.in_words(), None);
        let took = Duration::from_millis;
        history.add(false, Outcome::Failed, "refused", 1000, took(3));
        history.add(false, Outcome::Failed, "refused", 2000, took(9));
        history.add(false, Outcome::NotDone, "engine away", 3000, took(1));
        history.add(false, Outcome::Passed, "HTTP 200", 4000, took(1));
        history.add(true, Outcome::Passed, "HTTP 200", 5000, took(1));
        let counts: Vec<(&str, u64)> =
            history.entries.iter().map(|entry| (entry.phase.as_str(), entry.count)).collect();
        assert_eq!(counts, [("startup", 2), ("startup", 1), ("startup", 1), ("liveness", 1)]);
        let first = &history.entries[0];
        assert_eq!((first.first_at_ms, first.last_at_ms, first.took_ms), (1000, 2000, 9));
        let words = history.in_words().expect("there were some");
        assert!(words.starts_with("4 health checks, 2 passed, 1 could not be made, the last one at "), "{words}");
        assert!(words.ends_with(": HTTP 200"), "{words}");
        for n in 0..100 {
            history.add(true, Outcome::Failed, &format!("error {n}"), n, took(1));
        }
        assert_eq!((history.entries.len(), history.failed), (KEEP, 102));
        assert_eq!(history.entries[0].detail, "error 50");
    }
}
