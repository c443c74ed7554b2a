//! When a service counts as ready, and when it no longer does: the kubelet's rules.
//!
//! Start-up first: until so many checks in a row have passed, a failure only uses up a try. Then liveness: so many failures in
//! a row end it. A check that could not be made says nothing and counts nowhere. A check begins `interval` after the one
//! before began, or at once where that one took longer; the first one `initial delay` after the start of the service. All of
//! it is measured on the monotonic clock.

mod checker;
mod history;
mod token;

pub(super) use checker::Checker;
pub(super) use history::{History, Outcome, SharedHistory};
pub(super) use token::TokenRequest;

use super::plan::HealthPlan;

/// What follows from one more check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on checking.
    Open,
    /// Ready from now on.
    Ready,
    /// Never ready within the number of checks.
    GivenUp,
    /// Was ready and is no longer.
    Lost,
}

/// Counts checks. Before the service has been ready a failure only uses up a try; afterwards failures in a row end it.
#[derive(Clone, Debug)]
pub(super) struct HealthState {
    plan: HealthPlan,
    checks: u32,
    successes: u32,
    failures: u32,
    ready: bool,
}

impl HealthState {
    pub(super) fn new(plan: HealthPlan) -> Self {
        Self { plan, checks: 0, successes: 0, failures: 0, ready: false }
    }

    /// Takes the result of one check.
    pub(super) fn take(&mut self, healthy: bool) -> Verdict {
        self.checks = self.checks.saturating_add(1);
        if healthy {
            self.successes = self.successes.saturating_add(1);
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.successes = 0;
        }
        if self.ready {
            return if self.failures >= self.plan.failure_threshold { Verdict::Lost } else { Verdict::Open };
        }
        if self.successes >= self.plan.success_threshold {
            self.ready = true;
            return Verdict::Ready;
        }
        // A row of successes that has begun may be completed.
        if self.checks >= self.plan.max_retry && !healthy { Verdict::GivenUp } else { Verdict::Open }
    }

    /// Checks that were made so far.
    pub(super) fn checks(&self) -> u32 {
        self.checks
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::run_llm_test::plan::HealthKind;

    fn plan(max_retry: u32, success_threshold: u32, failure_threshold: u32) -> HealthPlan {
        HealthPlan {
            kind: HealthKind::Tcp,
            port: None,
            initial_delay: Duration::ZERO,
            interval: Duration::from_millis(1),
            timeout: Duration::from_millis(1),
            max_retry,
            success_threshold,
            failure_threshold,
        }
    }

    fn verdicts(plan: HealthPlan, results: &[bool]) -> Vec<Verdict> {
        let mut state = HealthState::new(plan);
        results.iter().map(|healthy| state.take(*healthy)).collect()
    }

    #[test]
    fn a_service_is_ready_after_so_many_successes_in_a_row() {
        use Verdict::{Open, Ready};
        assert_eq!(verdicts(plan(9, 2, 1), &[false, true, false, true, true]), [Open, Open, Open, Open, Ready]);
    }

    #[test]
    fn checking_ends_after_max_retry_checks_if_it_was_never_ready() {
        use Verdict::{GivenUp, Open, Ready};
        assert_eq!(verdicts(plan(3, 1, 1), &[false, false, false]), [Open, Open, GivenUp]);
        // The third check begins a row, which may be completed.
        assert_eq!(verdicts(plan(3, 2, 1), &[false, false, true, true]), [Open, Open, Open, Ready]);
        assert_eq!(verdicts(plan(3, 2, 1), &[false, false, true, false]), [Open, Open, Open, GivenUp]);
    }

    #[test]
    fn after_ready_only_failures_in_a_row_end_it() {
        use Verdict::{Lost, Open, Ready};
        assert_eq!(
            verdicts(plan(1, 1, 3), &[true, false, false, true, false, false, false]),
            [Ready, Open, Open, Open, Open, Open, Lost]
        );
    }
}
