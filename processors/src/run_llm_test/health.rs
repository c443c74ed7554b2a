//! When a service counts as ready, and when it no longer does.

use std::{sync::Arc, time::Duration};

use testrig_host::health::{self, Probe};
use tokio::time::Instant;

use super::{
    plan::{HealthKind, HealthPlan},
    service::{Fault, Say, Service},
};

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

    fn checks(&self) -> u32 {
        self.checks
    }
}

/// Checks one service.
pub(super) struct Checker {
    pub(super) plan: HealthPlan,
    pub(super) service: Arc<dyn Service>,
    pub(super) http: reqwest::Client,
    pub(super) say: Say,
}

impl Checker {
    /// The longest that waiting for ready can take.
    pub(super) fn limit(&self) -> Duration {
        let one = self.plan.interval.max(self.plan.timeout);
        one.saturating_mul(self.plan.max_retry.saturating_add(self.plan.success_threshold))
            .saturating_add(Duration::from_secs(30))
    }

    /// Waits until the service is ready; the number of checks it took.
    pub(super) async fn wait_ready(&self, state: &mut HealthState) -> Result<u32, Fault> {
        if self.plan.kind == HealthKind::None {
            return Ok(0);
        }
        let mut last = String::new();
        let mut next = Instant::now();
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + self.plan.interval;
            let probe = match self.probe().await {
                Ok(probe) => probe,
                // Nothing was learnt about the service; the stage's limit bounds this.
                Err(fault) => {
                    (self.say)(format!("health check not done: {}", fault.text));
                    continue;
                }
            };
            let verdict = state.take(probe.healthy);
            if probe.detail != last {
                let words = if probe.healthy { "passed" } else { "failed" };
                (self.say)(format!("health check {} {words}: {}", state.checks(), probe.detail));
            }
            last = probe.detail;
            match verdict {
                Verdict::Ready => return Ok(state.checks()),
                Verdict::GivenUp => {
                    return Err(Fault::new(format!(
                        "the service was not ready after {} health checks; the last one: {last}",
                        state.checks()
                    )));
                }
                Verdict::Open | Verdict::Lost => {}
            }
        }
    }

    /// Watches a service that is ready; returns when it no longer is, with the reason.
    pub(super) async fn watch(&self, mut state: HealthState) -> String {
        if self.plan.kind == HealthKind::None {
            return std::future::pending().await;
        }
        let mut next = Instant::now() + self.plan.interval;
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + self.plan.interval;
            // An engine that cannot be asked says nothing about the service.
            let Ok(probe) = self.probe().await else { continue };
            if !probe.healthy {
                (self.say)(format!("health check failed: {}", probe.detail));
            }
            if state.take(probe.healthy) == Verdict::Lost {
                return format!(
                    "{} health checks in a row failed after the service had been ready; the last one: {}",
                    self.plan.failure_threshold, probe.detail
                );
            }
        }
    }

    async fn probe(&self) -> Result<Probe, Fault> {
        let limit = self.plan.timeout;
        match &self.plan.kind {
            HealthKind::Http(path) => {
                let base = match self.plan.port.and_then(|port| self.service.reachable(port)) {
                    Some(address) if self.service.kind() != "reuse" => format!("http://{address}"),
                    _ => self.service.base_url().ok_or_else(|| Fault::new("the service has no address"))?,
                };
                Ok(health::http(&self.http, &join(&base, path), limit).await)
            }
            HealthKind::Tcp => {
                let port = self.plan.port.unwrap_or(0);
                let address = self.service.reachable(port).ok_or_else(|| Fault::new("the service has no address"))?;
                Ok(health::tcp(address, limit).await)
            }
            HealthKind::Cmd(command) => self.service.probe_command(command, limit).await,
            HealthKind::None => Ok(Probe { healthy: true, detail: "no health check".into(), took: Duration::ZERO }),
        }
    }
}

/// The health path belongs to the server, not below the path of an API address such as `http://host/v1`.
fn join(base: &str, path: &str) -> String {
    match url::Url::parse(base).and_then(|url| url.join(path)) {
        Ok(url) => url.to_string(),
        Err(_) => format!("{base}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(max_retry: u32, success_threshold: u32, failure_threshold: u32) -> HealthPlan {
        HealthPlan {
            kind: HealthKind::Tcp,
            port: None,
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

    #[test]
    fn the_health_path_is_the_servers_even_if_the_address_has_a_path() {
        assert_eq!(join("http://h:1", "/healthz"), "http://h:1/healthz");
        assert_eq!(join("http://h:1/v1", "/healthz?x=1"), "http://h:1/healthz?x=1");
    }
}
