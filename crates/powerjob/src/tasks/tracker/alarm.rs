//! When the failures of a frequent job become an alarm (5.5).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `alarmConfig`, in ms. What it leaves out has its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AlarmRule {
    threshold: i64,
    window: i64,
    silence: i64,
}

/// What is remembered of failures and alarms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlarmState {
    /// When the last one was raised, epoch ms.
    last: Option<i64>,
    /// Failures within the window, epoch ms.
    failures: Vec<i64>,
    /// One that nobody has taken yet.
    pub(crate) waiting: Option<String>,
}

impl AlarmRule {
    /// Reads the JSON text. Without a readable one: every failure counts, the window is two intervals, silence 300 s.
    pub(crate) fn new(config: Option<&str>, interval_ms: u64) -> Self {
        let config = config.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let member = |name: &str| config.as_ref().and_then(|config| config.get(name)?.as_i64());
        let interval = i64::try_from(interval_ms).unwrap_or(i64::MAX / 2);
        let seconds = |number: i64| number.max(0).saturating_mul(1000);
        Self {
            threshold: member("alertThreshold").unwrap_or(1),
            window: seconds(member("statisticWindowLen").unwrap_or((2 * interval / 1000).max(1))),
            silence: seconds(member("silenceWindowLen").unwrap_or(300)),
        }
    }

    /// A run has failed.
    pub(crate) fn failed(self, state: &mut AlarmState, result: &str, now: i64) {
        if state.last.is_some_and(|last| now < last.saturating_add(self.silence)) {
            return;
        }
        let oldest = now.saturating_sub(self.window);
        state.failures.retain(|&at| at >= oldest);
        state.failures.push(now);
        let counted = i64::try_from(state.failures.len()).unwrap_or(i64::MAX);
        if counted >= self.threshold {
            state.last = Some(now);
            state.failures.clear();
            state.waiting = Some(result.to_owned());
        } else if state.failures.len() > 10_000 {
            state.failures.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(rule: AlarmRule, state: &mut AlarmState, at: i64) -> bool {
        state.waiting = None;
        rule.failed(state, "broken", at);
        state.waiting.is_some()
    }

    #[test]
    fn three_zeros_alarm_on_every_failure() {
        let zeros = r#"{"alertThreshold":0,"statisticWindowLen":0,"silenceWindowLen":0}"#;
        let (rule, mut state) = (AlarmRule::new(Some(zeros), 1000), AlarmState::default());
        assert!((0..5).all(|at| fails(rule, &mut state, at)));
    }

    #[test]
    fn enough_failures_within_the_window_alarm_and_silence_follows() {
        let config = r#"{"alertThreshold":3,"statisticWindowLen":10,"silenceWindowLen":60}"#;
        let (rule, mut state) = (AlarmRule::new(Some(config), 1000), AlarmState::default());
        assert!(!fails(rule, &mut state, 0) && !fails(rule, &mut state, 5_000));
        assert!(!fails(rule, &mut state, 11_000), "the first is out of the window");
        assert!(fails(rule, &mut state, 12_000));
        assert!((13..72).all(|second| !fails(rule, &mut state, second * 1000)), "silence");
        assert!(!fails(rule, &mut state, 72_000) && !fails(rule, &mut state, 72_001));
        assert!(fails(rule, &mut state, 72_002));
    }

    #[test]
    fn missing_members_and_unreadable_texts_have_defaults() {
        let default = AlarmRule { threshold: 1, window: 4_000, silence: 300_000 };
        for text in [None, Some(""), Some("nonsense"), Some("{}"), Some("[]")] {
            assert_eq!(AlarmRule::new(text, 2_000), default, "{text:?}");
        }
        let partial = AlarmRule::new(Some(r#"{"alertThreshold":2}"#), 50);
        assert_eq!(partial, AlarmRule { threshold: 2, window: 1_000, silence: 300_000 });
    }
}
