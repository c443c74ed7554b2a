use std::{collections::VecDeque, net::SocketAddr};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use testrig_host::{ExitStatus, Signal};
use testrig_loadgen::Scenario;

use super::*;
use crate::run_llm_test::{
    evidence::Oom,
    service::{Cards, Details, Found, Stopped},
};

/// What a check finds, and how long it takes.
#[derive(Clone, Copy)]
enum Check {
    Good(u64),
    Bad(u64),
    /// The engine cannot be asked.
    NotDone,
}

/// A service whose checks go as they are written down; the last one goes on.
struct Scripted {
    checks: Mutex<VecDeque<Check>>,
    /// When each began.
    begun: Mutex<Vec<Instant>>,
}

#[async_trait]
impl Service for Scripted {
    fn kind(&self) -> &'static str {
        "process"
    }
    fn words(&self) -> String {
        "the service".into()
    }
    fn details(&self) -> Details {
        Details::default()
    }
    fn use_cards(&self, _: Cards) {}
    async fn pull(&self, _: Say) -> Result<(), Fault> {
        Ok(())
    }
    async fn create(&self, _: Say) -> Result<(), Fault> {
        Ok(())
    }
    async fn start(&self) -> Result<(), Fault> {
        Ok(())
    }
    async fn find(&self) -> Result<Found, Fault> {
        Ok(Found::Running)
    }
    async fn ended(&self, _: Say) -> Result<Option<ExitStatus>, Fault> {
        Ok(None)
    }
    async fn copy_output(&self) -> Result<(), Fault> {
        Ok(())
    }
    fn base_url(&self) -> Option<String> {
        None
    }
    fn reachable(&self, _: u16) -> Option<SocketAddr> {
        None
    }
    async fn probe_command(&self, _: &[String], limit: Duration) -> Result<Probe, Fault> {
        self.begun.lock().push(Instant::now());
        let check = {
            let mut checks = self.checks.lock();
            if checks.len() > 1 { checks.pop_front() } else { checks.front().copied() }
        };
        let (healthy, took) = match check.expect("one is left") {
            Check::Good(took) => (true, took),
            Check::Bad(took) => (false, took),
            Check::NotDone => return Err(Fault::new("the engine does not answer")),
        };
        let took = Duration::from_millis(took).min(limit);
        tokio::time::sleep(took).await;
        Ok(Probe { healthy, detail: if healthy { "good".into() } else { "bad".into() }, took })
    }
    async fn sample(&self) -> Option<Value> {
        None
    }
    async fn stop(&self, _: Signal, _: Duration) -> Result<Option<Stopped>, Fault> {
        Ok(None)
    }
    async fn oom(&self) -> Option<Oom> {
        None
    }
    fn engine_lost(&self) -> Option<String> {
        None
    }
    async fn remove(&self) -> Result<(), Fault> {
        Ok(())
    }
}

fn plan() -> HealthPlan {
    HealthPlan {
        kind: HealthKind::Cmd(vec!["check".into()]),
        port: None,
        initial_delay: Duration::ZERO,
        interval: Duration::from_millis(1000),
        timeout: Duration::from_millis(5000),
        max_retry: 5,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

fn checker(plan: HealthPlan, checks: &[Check]) -> (Checker, Arc<Scripted>) {
    let service = Arc::new(Scripted { checks: Mutex::new(checks.iter().copied().collect()), begun: Mutex::default() });
    let checker = Checker {
        plan,
        service: Arc::clone(&service) as Arc<dyn Service>,
        http: reqwest::Client::builder().no_proxy().build().expect("client"),
        say: Arc::new(|_| {}),
        history: SharedHistory::default(),
        token: TokenRequest { scenario: Scenario::ChatCompletion, model: "m".into(), api_key: None },
        started: Instant::now(),
    };
    (checker, service)
}

/// When the checks began, in milliseconds since `started`.
fn begun(checker: &Checker, service: &Scripted) -> Vec<u128> {
    service.begun.lock().iter().map(|at| (*at - checker.started).as_millis()).collect()
}

fn client() {
    // A second test of the same process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[tokio::test(start_paused = true)]
async fn checks_begin_one_interval_apart_and_a_long_one_is_followed_at_once() {
    client();
    let plan = HealthPlan { success_threshold: 4, ..plan() };
    let (checker, service) = checker(plan.clone(), &[Check::Good(10), Check::Good(2500), Check::Good(10)]);
    let ready = checker.wait_ready(&mut HealthState::new(plan)).await.expect("ready");
    assert_eq!(ready.checks, 4);
    assert_eq!(begun(&checker, &service), [0, 1000, 3500, 4500]);
}

#[tokio::test(start_paused = true)]
async fn the_first_check_comes_after_the_initial_delay_which_counts_from_the_start_of_the_service() {
    client();
    let plan = HealthPlan { initial_delay: Duration::from_secs(7), ..plan() };
    let (checker, service) = checker(plan.clone(), &[Check::Good(10)]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    checker.wait_ready(&mut HealthState::new(plan.clone())).await.expect("ready");
    assert_eq!(begun(&checker, &service), [7000]);
    // Taken over later by a restarted agent: it is not waited again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    service.begun.lock().clear();
    checker.wait_ready(&mut HealthState::new(plan)).await.expect("ready");
    assert_eq!(begun(&checker, &service), [10_010]);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_could_not_be_made_counts_neither_way() {
    client();
    let plan = HealthPlan { max_retry: 2, success_threshold: 2, ..plan() };
    let checks = [Check::Good(1), Check::NotDone, Check::NotDone, Check::Good(1)];
    let (checker, _) = checker(plan.clone(), &checks);
    let ready = checker.wait_ready(&mut HealthState::new(plan)).await.expect("the row was not broken");
    assert_eq!(ready.checks, 2);
    let history = checker.history.lock().clone();
    assert_eq!((history.passed, history.failed, history.not_done), (2, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_never_ready_is_given_up_after_max_retry_checks_with_its_ending() {
    client();
    let (checker, service) = checker(plan(), &[Check::Bad(10)]);
    let fault = checker.wait_ready(&mut HealthState::new(plan())).await.expect_err("never ready");
    assert_eq!(fault.ending, Some(Ending::NeverReady));
    assert!(fault.text.ends_with("not ready after 5 health checks; the last one: bad"), "{}", fault.text);
    assert_eq!(begun(&checker, &service).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn liveness_begins_one_interval_after_ready_and_only_failures_in_a_row_end_it() {
    client();
    let checks = [
        Check::Bad(1),
        Check::Good(1),
        Check::Bad(1),
        Check::Bad(1),
        Check::Good(1),
        Check::NotDone,
        Check::Bad(1),
        Check::Bad(1),
        Check::Bad(1),
        Check::Good(1),
    ];
    let (checker, service) = checker(plan(), &checks);
    let mut state = HealthState::new(plan());
    assert_eq!(checker.wait_ready(&mut state).await.expect("ready").checks, 2);
    let why = checker.watch(state).await;
    assert!(why.starts_with("3 health checks in a row failed after the service had been ready"), "{why}");
    assert_eq!(begun(&checker, &service), [0, 1000, 2001, 3001, 4001, 5001, 6001, 7001, 8001]);
    let history = checker.history.lock().clone();
    let phases: Vec<&str> = history.entries.iter().map(|entry| entry.phase.as_str()).collect();
    assert_eq!(phases, ["startup", "startup", "liveness", "liveness", "liveness", "liveness"]);
    assert_eq!(history.entries.back().map(|entry| entry.count), Some(3));
}

#[test]
fn the_health_path_is_the_servers_even_if_the_address_has_a_path() {
    assert_eq!(join("http://h:1", "/healthz"), "http://h:1/healthz");
    assert_eq!(join("http://h:1/v1", "/healthz?x=1"), "http://h:1/healthz?x=1");
}
