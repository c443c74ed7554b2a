//! A service that already runs and is nobody's of ours.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use testrig_host::{ExitStatus, Signal, health::Probe};

use super::{Cards, Details, Fault, Found, Say, Service, Stopped};
use crate::{params::mask, run_llm_test::evidence::Oom};

/// `service.reuse`.
pub(in crate::run_llm_test) struct ReusedService {
    url: url::Url,
}

impl ReusedService {
    pub(in crate::run_llm_test) fn new(url: url::Url) -> Self {
        Self { url }
    }
}

#[async_trait]
impl Service for ReusedService {
    fn kind(&self) -> &'static str {
        "reuse"
    }

    fn words(&self) -> String {
        format!("the running service at {}", mask::url(self.url.as_str()))
    }

    fn details(&self) -> Details {
        Details { name: Some(mask::url(self.url.as_str())), ..Details::default() }
    }

    fn use_cards(&self, _cards: Cards) {
        // It runs already, on whatever it was started with; the plan refuses cards for it.
    }

    async fn pull(&self, _say: Say) -> Result<(), Fault> {
        Ok(())
    }

    async fn create(&self, _say: Say) -> Result<(), Fault> {
        Ok(())
    }

    async fn start(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn find(&self) -> Result<Found, Fault> {
        Ok(Found::Running)
    }

    async fn ended(&self, _say: Say) -> Result<Option<ExitStatus>, Fault> {
        Ok(None)
    }

    async fn copy_output(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn base_url(&self) -> Option<String> {
        Some(self.url.as_str().trim_end_matches('/').to_owned())
    }

    fn reachable(&self, _port: u16) -> Option<SocketAddr> {
        self.url.socket_addrs(|| None).ok()?.into_iter().next()
    }

    async fn probe_command(&self, _command: &[String], _limit: Duration) -> Result<Probe, Fault> {
        Err(Fault::lasting("a reused service has no place to run a health check command in"))
    }

    async fn sample(&self) -> Option<Value> {
        None
    }

    async fn stop(&self, _signal: Signal, _grace: Duration) -> Result<Option<Stopped>, Fault> {
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
