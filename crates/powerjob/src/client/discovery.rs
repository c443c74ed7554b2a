//! Which server owns the app: assert, acquire, hello, over several configured addresses of which some may be dead.

use std::{
    future::Future,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use futures_util::{
    future::{BoxFuture, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};

use super::{
    Reading, ServerAddress,
    web::{Hello, Web, WebError},
};
use crate::core::Owner;

/// How long the first address is asked alone before the others are asked beside it.
const HEAD_START: Duration = Duration::from_millis(1000);
/// Tries per address in one round, and the pause between them.
const TRIES: usize = 2;
const PAUSE: Duration = Duration::from_millis(100);
/// Longest round.
const ROUND: Duration = Duration::from_secs(8);
/// "No app id yet": ids start at 1.
const UNKNOWN: i64 = -1;

/// What the servers say of themselves, as it comes in.
type Greetings<'a> = FuturesUnordered<BoxFuture<'a, (&'a ServerAddress, Option<Hello>)>>;

/// What a round found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) owner: Owner,
    /// The owner's clock, or that of the server which named it.
    pub(crate) clock: Option<Reading>,
}

/// Finds the owner of one app.
#[derive(Debug)]
pub(crate) struct Discovery {
    servers: Vec<ServerAddress>,
    app: String,
    web: Web,
    app_id: AtomicI64,
}

impl Discovery {
    pub(crate) fn new(servers: Vec<ServerAddress>, app: String, http: reqwest::Client) -> Self {
        Self { servers, app, web: Web { http }, app_id: AtomicI64::new(UNKNOWN) }
    }

    /// One round.
    ///
    /// # Errors
    /// What each server said, and what to do where that is known.
    pub(crate) async fn run(&self, current: Option<&str>) -> Result<Found, String> {
        tokio::time::timeout(ROUND, self.round(current))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s from {}", ROUND.as_secs(), list(&self.servers))))
    }

    async fn round(&self, current: Option<&str>) -> Result<Found, String> {
        let order = self.order(current);
        let app_id = match self.app_id.load(Ordering::Relaxed) {
            UNKNOWN => {
                let asked = self.first(&order, |server| self.web.assert(server, &self.app)).await;
                let (_, id) = asked.map_err(|errors| self.explain_assert(&errors))?;
                self.app_id.store(id, Ordering::Relaxed);
                id
            }
            known => known,
        };
        // Every server is asked beside it who it is: the one that turns out to be the owner gets its heartbeat at once then.
        // Taking an app over lasts a second at least.
        let mut greetings: Greetings<'_> =
            order.iter().map(|&server| async move { (server, self.web.hello(server).await.ok()) }.boxed()).collect();
        let mut met = Vec::new();
        let asked = {
            let mut acquire = std::pin::pin!(self.first(&order, |server| self.web.acquire(server, app_id, current)));
            loop {
                tokio::select! {
                    // The answer first: nothing waits for a greeting that it does not need.
                    biased;
                    asked = &mut acquire => break asked,
                    Some(greeting) = greetings.next() => met.push(greeting),
                }
            }
        };
        let (server, (transport, clock)) = asked.map_err(|errors| {
            if errors.iter().any(|e| matches!(e, WebError::Refused(text) if text.contains("is not registered"))) {
                // The server's database may be another one now: ask for the id anew in the next round.
                self.app_id.store(UNKNOWN, Ordering::Relaxed);
            }
            join(&errors)
        })?;
        let owner_host = host_of(&transport);
        let beside: Vec<&ServerAddress> =
            self.servers.iter().filter(|configured| configured.host() == owner_host).collect();
        let is_owner = |(server, hello): &(&ServerAddress, Option<Hello>)| {
            let says = hello.as_ref().and_then(|hello| hello.is.is_at(&transport));
            beside.contains(server) && (says == Some(true) || beside.len() == 1)
        };
        while !met.iter().any(is_owner) && beside.iter().any(|server| met.iter().all(|(known, _)| known != server)) {
            let Some(greeting) = greetings.next().await else { break };
            met.push(greeting);
        }
        drop(greetings);
        let (web, hello) = match pick(&beside, &mut met, &transport) {
            Some((web, Some(hello))) => (web, Some(hello)),
            // One that came up between the two questions: without its birth, nobody would see that it lacks the logs of before.
            Some((web, None)) => {
                let hello = tokio::time::timeout(HEAD_START, self.web.hello(&web)).await;
                (web, hello.ok().and_then(Result::ok))
            }
            None => {
                // Not configured: most clusters use one web port everywhere.
                let web = server.on_host(owner_host);
                let hello = self.web.hello(&web).await.ok();
                (web, hello)
            }
        };
        // An owner whose web port does not answer is no failure, and what another server says of itself is not the owner's.
        let hello = hello.filter(|hello| hello.is.is_at(&transport) != Some(false));
        let web = if hello.is_some() { web } else { server.clone() };
        let hello = hello.unwrap_or_default();
        let owner = Owner { transport, web: web.to_string(), born_time: hello.born_time, app_id };
        Ok(Found { owner, clock: hello.clock.or(clock) })
    }

    /// The configured address on the current owner's host first, then the others as configured.
    fn order(&self, current: Option<&str>) -> Vec<&ServerAddress> {
        let mut order: Vec<&ServerAddress> = self.servers.iter().collect();
        if let Some(host) = current.map(host_of)
            && let Some(at) = order.iter().position(|server| server.host() == host)
        {
            let first = order.remove(at);
            order.insert(0, first);
        }
        order
    }

    /// The first good answer: the first address alone for a moment, then all others beside it.
    async fn first<'a, T, F>(
        &self,
        order: &[&'a ServerAddress],
        ask: impl Fn(&'a ServerAddress) -> F,
    ) -> Result<(&'a ServerAddress, T), Vec<WebError>>
    where
        F: Future<Output = Result<T, WebError>>,
    {
        let mut asked = FuturesUnordered::new();
        let mut errors = Vec::new();
        let Some((&first, others)) = order.split_first() else {
            return Err(errors);
        };
        let try_one = |server: &'a ServerAddress| {
            let ask = &ask;
            async move { (server, with_retry(|| ask(server)).await) }
        };
        asked.push(try_one(first));
        match tokio::time::timeout(HEAD_START, asked.next()).await {
            Ok(Some((server, Ok(answer)))) => return Ok((server, answer)),
            Ok(Some((_, Err(error)))) => errors.push(error),
            Ok(None) | Err(_) => {}
        }
        asked.extend(others.iter().map(|&server| try_one(server)));
        while let Some((server, answer)) = asked.next().await {
            match answer {
                Ok(answer) => return Ok((server, answer)),
                Err(error) => errors.push(error),
            }
        }
        Err(errors)
    }

    fn explain_assert(&self, errors: &[WebError]) -> String {
        match errors.iter().find(|e| matches!(e, WebError::Refused(_))) {
            Some(refused) if refused.text().contains("not registered") => format!(
                "app `{}` is not registered ({}); register it in the server's console or with POST /appInfo/save, or correct \
                 the app name (`app`, `-a`)",
                self.app,
                refused.text()
            ),
            Some(refused) => format!("app `{}`: {}", self.app, refused.text()),
            None => join(errors),
        }
    }
}

/// Which of the configured servers on the owner's host it is, and how it greeted: the one that says so, else the first that
/// does not say that it is another one, before those that say nothing at all.
fn pick(
    beside: &[&ServerAddress],
    met: &mut Vec<(&ServerAddress, Option<Hello>)>,
    transport: &str,
) -> Option<(ServerAddress, Option<Hello>)> {
    let said = |server: &ServerAddress| {
        let (_, hello) = met.iter().find(|(known, _)| *known == server)?;
        hello.as_ref()?.is.is_at(transport)
    };
    let greeted = |server: &ServerAddress| met.iter().any(|(known, hello)| *known == server && hello.is_some());
    let chosen = beside.iter().find(|server| said(server) == Some(true));
    let chosen = chosen.or_else(|| beside.iter().find(|server| greeted(server) && said(server).is_none()));
    let chosen: &ServerAddress = chosen.or_else(|| beside.iter().find(|server| said(server).is_none()))?;
    let at = met.iter().position(|(known, _)| *known == chosen)?;
    Some((chosen.clone(), met.swap_remove(at).1))
}

async fn with_retry<T, F: Future<Output = Result<T, WebError>>>(ask: impl Fn() -> F) -> Result<T, WebError> {
    let mut left = TRIES;
    loop {
        left -= 1;
        match ask().await {
            Err(WebError::NoAnswer(_)) if left > 0 => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}

fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn list(servers: &[ServerAddress]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn join(errors: &[WebError]) -> String {
    errors.iter().map(WebError::text).collect::<Vec<_>>().join("; ")
}
