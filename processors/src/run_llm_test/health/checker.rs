//! Asks a service again and again.

use std::{sync::Arc, time::Duration};

use testrig_host::health::{self, Probe};
use tokio::time::Instant;

use super::{HealthState, Outcome, SharedHistory, TokenRequest, Verdict};
use crate::run_llm_test::{
    ending::Ending,
    plan::{HealthKind, HealthPlan},
    service::{Fault, Say, Service},
};

/// Checks one service.
pub(in crate::run_llm_test) struct Checker {
    pub(in crate::run_llm_test) plan: HealthPlan,
    pub(in crate::run_llm_test) service: Arc<dyn Service>,
    pub(in crate::run_llm_test) http: reqwest::Client,
    pub(in crate::run_llm_test) say: Say,
    pub(in crate::run_llm_test) history: SharedHistory,
    pub(in crate::run_llm_test) token: TokenRequest,
    /// When the service was started.
    pub(in crate::run_llm_test) started: Instant,
}

/// A service that has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run_llm_test) struct Ready {
    /// Checks that it took.
    pub(in crate::run_llm_test) checks: u32,
    /// From the start of the service to its first token, where the check asked for one.
    pub(in crate::run_llm_test) first_token: Option<Duration>,
}

impl Checker {
    /// The longest that waiting for ready can take.
    pub(in crate::run_llm_test) fn limit(&self) -> Duration {
        let one = self.plan.interval.max(self.plan.timeout);
        one.saturating_mul(self.plan.max_retry.saturating_add(self.plan.success_threshold))
            .saturating_add(self.plan.initial_delay)
            .saturating_add(Duration::from_secs(30))
    }

    /// Waits until the service is ready.
    pub(in crate::run_llm_test) async fn wait_ready(&self, state: &mut HealthState) -> Result<Ready, Fault> {
        let mut ready = Ready { checks: 0, first_token: None };
        if self.plan.kind == HealthKind::None {
            return Ok(ready);
        }
        let mut last = String::new();
        let mut next = (self.started + self.plan.initial_delay).max(Instant::now());
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + self.plan.interval;
            let probe = match self.probe(false).await {
                Ok(probe) => probe,
                // Nothing was learnt about the service; the stage's limit bounds this.
                Err(fault) => {
                    (self.say)(format!("health check not done: {}", fault.text));
                    continue;
                }
            };
            if probe.healthy && self.plan.kind == HealthKind::ReadyToken {
                ready.first_token.get_or_insert_with(|| self.started.elapsed());
            }
            let verdict = state.take(probe.healthy);
            if probe.detail != last {
                let words = if probe.healthy { "passed" } else { "failed" };
                (self.say)(format!("health check {} {words}: {}", state.checks(), probe.detail));
            }
            last = probe.detail;
            match verdict {
                Verdict::Ready => return Ok(Ready { checks: state.checks(), ..ready }),
                Verdict::GivenUp => {
                    let text = format!(
                        "the service was not ready after {} health checks; the last one: {last}",
                        state.checks()
                    );
                    return Err(Fault::new(text).ends(Ending::NeverReady));
                }
                Verdict::Open | Verdict::Lost => {}
            }
        }
    }

    /// Watches a service that is ready; returns when it no longer is, with the reason.
    pub(in crate::run_llm_test) async fn watch(&self, mut state: HealthState) -> String {
        if self.plan.kind == HealthKind::None {
            return std::future::pending().await;
        }
        let mut next = Instant::now() + self.plan.interval;
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + self.plan.interval;
            // An engine that cannot be asked says nothing about the service.
            let Ok(probe) = self.probe(true).await else { continue };
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

    /// One check, which goes into the history.
    async fn probe(&self, ready: bool) -> Result<Probe, Fault> {
        let begin = Instant::now();
        let result = self.ask(ready).await;
        let (outcome, detail) = match &result {
            Ok(probe) if probe.healthy => (Outcome::Passed, &probe.detail),
            Ok(probe) => (Outcome::Failed, &probe.detail),
            Err(fault) => (Outcome::NotDone, &fault.text),
        };
        let now = jiff::Timestamp::now().as_millisecond();
        self.history.lock().add(ready, outcome, detail, now, begin.elapsed());
        result
    }

    async fn ask(&self, ready: bool) -> Result<Probe, Fault> {
        let limit = self.plan.timeout;
        match &self.plan.kind {
            HealthKind::Http(path) => Ok(health::http(&self.http, &join(&self.server_url()?, path), limit).await),
            HealthKind::ReadyToken if !ready => {
                let base = self.service.base_url().ok_or_else(no_address)?;
                // Boxed: a whole load generator.
                Ok(Box::pin(self.token.ask(&base, limit)).await)
            }
            // Tokens of its own would stand in the way of those that are measured.
            HealthKind::Tcp | HealthKind::ReadyToken => {
                let port = self.plan.port.unwrap_or(0);
                let address = self.service.reachable(port).ok_or_else(no_address)?;
                Ok(health::tcp(address, limit).await)
            }
            HealthKind::Cmd(command) => self.service.probe_command(command, limit).await,
            HealthKind::None => Ok(Probe { healthy: true, detail: "no health check".into(), took: Duration::ZERO }),
        }
    }

    fn server_url(&self) -> Result<String, Fault> {
        match self.plan.port.and_then(|port| self.service.reachable(port)) {
            Some(address) if self.service.kind() != "reuse" => Ok(format!("http://{address}")),
            _ => self.service.base_url().ok_or_else(no_address),
        }
    }
}

fn no_address() -> Fault {
    Fault::new("the service has no address")
}

/// The health path belongs to the server, not below the path of an API address such as `http://host/v1`.
fn join(base: &str, path: &str) -> String {
    match url::Url::parse(base).and_then(|url| url.join(path)) {
        Ok(url) => url.to_string(),
        Err(_) => format!("{base}{path}"),
    }
}

#[cfg(test)]
mod tests;
