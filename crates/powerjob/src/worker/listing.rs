//! Whether the server lists this worker, asked of the server itself, and if not, why.

use std::time::Duration;

use serde::Serialize;

use super::shared::{LISTED_FOR, Shared};
use crate::{
    client::{Listed, ListedWorker, ServerAddress, Web},
    core::Owner,
};

/// What the server says of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Whether the server counts it among the workers of the app that are alive.
    pub listed: bool,
    /// Why it is not listed, in words that say what to do.
    pub why_not: Option<String>,
    /// What else keeps jobs from it, or may.
    pub problems: Vec<String>,
}

impl Listing {
    fn not(why: String) -> Self {
        Self { listed: false, why_not: Some(why), problems: Vec::new() }
    }
}

/// What this worker knows of its own heartbeats.
struct Own<'a> {
    address: &'a str,
    app: &'a str,
    /// Since the last heartbeat that was answered.
    heard: Option<Duration>,
    /// The time in the last heartbeat that was sent.
    last_time: Option<i64>,
    /// This host's clock minus the server's.
    skew_ms: Option<i64>,
}

pub(super) async fn ask(shared: &Shared, web: &Web) -> Listing {
    let owner = shared.owner.borrow().clone();
    let (heard, discovery_error) = {
        let state = shared.state.read();
        (state.last_heartbeat.map(|at| at.elapsed()), state.discovery_error.clone())
    };
    let Some(owner) = owner else {
        return Listing::not(discovery_error.unwrap_or_else(|| "the first search for a server goes on".to_owned()));
    };
    let own = Own {
        address: &shared.address,
        app: &shared.config.app,
        heard,
        last_time: shared.clock.last_heartbeat_time(),
        skew_ms: shared.clock.skew_ms(),
    };
    let Ok(server) = owner.web.parse::<ServerAddress>() else {
        return by_heartbeats(&own, &format!("`{}` is no web address", owner.web));
    };
    let (list, reached) = tokio::join!(list(web, &server, shared, &owner), reached(web, &server, own.address));
    let mut listing = match list {
        Ok(list) => judge(&own, &owner, &list.workers, list.time.unwrap_or_else(|| shared.clock.now_ms())),
        Err(why) => by_heartbeats(&own, &why),
    };
    listing.problems.extend(reached);
    listing
}

/// The owner's list. Only its own counts: each server knows the workers whose heartbeats it gets itself.
async fn list(web: &Web, server: &ServerAddress, shared: &Shared, owner: &Owner) -> Result<Listed, String> {
    let list = web.workers(server, owner.app_id).await.map_err(|why| why.text().to_owned())?;
    match list.is.is_at(&owner.transport) {
        Some(true) => Ok(list),
        Some(false) => Err(format!(
            "the server with the web address {server} has the transport address {}, and the one that owns the app has {}; \
             name the web address of that one in `servers` as well",
            list.is.shown(),
            owner.transport
        )),
        None => {
            let beside = beside(server, shared, owner);
            if beside.is_empty() || list.workers.iter().any(|worker| worker.address == shared.address) {
                return Ok(list);
            }
            let asked = beside.iter().map(|other| async move { web.workers(other, owner.app_id).await.ok() });
            let lists = futures_util::future::join_all(asked).await;
            let knows = |list: &Listed| list.workers.iter().any(|worker| worker.address == shared.address);
            lists.into_iter().flatten().find(knows).ok_or_else(|| {
                format!(
                    "several servers are configured at {} ({server}, {}), none of them tells which transport address it has or \
                     lists {}, so it is not certain which of them owns the app",
                    server.host(),
                    beside.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                    shared.address
                )
            })
        }
    }
}

/// Other servers that are configured on the owner's host.
fn beside(server: &ServerAddress, shared: &Shared, owner: &Owner) -> Vec<ServerAddress> {
    let host = owner.transport.rsplit_once(':').map_or("", |(host, _)| host);
    let configured = shared.config.servers.iter().filter_map(|text| text.parse::<ServerAddress>().ok());
    configured.filter(|other| other.host() == host && other != server).collect()
}

/// Where the list cannot be had: a server that answers heartbeats lists their sender.
fn by_heartbeats(own: &Own<'_>, why: &str) -> Listing {
    let mut listing = match own.heard {
        Some(ago) if ago < LISTED_FOR => Listing { listed: true, ..Listing::default() },
        _ => Listing::not(not_heard(own)),
    };
    listing.problems.push(format!("the server's own list cannot be read, so this is concluded from heartbeats: {why}"));
    listing
}

fn not_heard(own: &Own<'_>) -> String {
    match own.heard {
        Some(ago) => {
            format!("the server took the last heartbeat {} s ago; the agent's log says why none since", ago.as_secs())
        }
        None => "the server has not taken a heartbeat yet; the agent's log says why".to_owned(),
    }
}

fn judge(own: &Own<'_>, owner: &Owner, workers: &[ListedWorker], server_now: i64) -> Listing {
    let Some(row) = workers.iter().find(|worker| worker.address == own.address) else {
        return Listing::not(absent(own, owner, workers));
    };
    let age = server_now.saturating_sub(row.last_active);
    if age > i64::try_from(LISTED_FOR.as_millis()).unwrap_or(i64::MAX) {
        return Listing::not(match own.heard {
            Some(ago) if ago < LISTED_FOR => format!(
                "the server takes it for dead: by its clock the newest heartbeat is {} s old, although it took one {} s \
                 ago. {}",
                age / 1000,
                ago.as_secs(),
                clock(own.skew_ms)
            ),
            _ => not_heard(own),
        });
    }
    let mut problems = Vec::new();
    if row.overload {
        problems.push(
            "its last heartbeat said overload (slots full, draining, or the state store cannot be written): the server \
             gives it no job until one says otherwise"
                .to_owned(),
        );
    }
    if own.last_time.is_some_and(|sent| row.last_active > sent) {
        problems.push(format!(
            "another worker sends heartbeats under the address {}: give each its own `advertise`, or stop one of them",
            own.address
        ));
    }
    Listing { listed: true, why_not: None, problems }
}

fn clock(skew_ms: Option<i64>) -> String {
    match skew_ms {
        None => "This host's clock could not be compared with the server's: set both by NTP".to_owned(),
        Some(skew) => format!(
            "This host's clock is {} s {} the server's: set both by NTP (chrony, ntpd)",
            skew.abs() / 1000,
            if skew < 0 { "behind" } else { "ahead of" }
        ),
    }
}

fn absent(own: &Own<'_>, owner: &Owner, workers: &[ListedWorker]) -> String {
    let Own { address, app, .. } = own;
    let Some(ago) = own.heard.filter(|ago| *ago < LISTED_FOR) else {
        return not_heard(own);
    };
    let others = match workers {
        [] => format!("no worker of app `{app}` at all"),
        some => {
            let shown: Vec<&str> = some.iter().take(5).map(|worker| worker.address.as_str()).collect();
            format!("{} other worker(s) of app `{app}`, e.g. {}", some.len(), shown.join(", "))
        }
    };
    format!(
        "the server at {} does not know {address}; it knows {others}. It took a heartbeat {} s ago at its transport port {}: \
         if that lasts, these two addresses belong to different servers, or the server was restarted just now",
        owner.web,
        ago.as_secs(),
        owner.transport
    )
}

/// What is wrong with the way from the server to this worker.
async fn reached(web: &Web, server: &ServerAddress, address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    // A server that cannot be asked (older than 4.3.7) is no problem of its own.
    let reaches = web.reaches(server, host, port.parse().ok()?).await.ok()?;
    (!reaches).then(|| {
        format!(
            "the server at {server} cannot connect to {address}, so every dispatch would be lost: check firewall and NAT, \
             or set `advertise` to what the server can reach; where its connections come from another address, add that \
             to the peers"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_760_000_000_000;

    fn owner() -> Owner {
        Owner { transport: "10.0.0.1:10010".into(), web: "10.0.0.1:7700".into(), born_time: Some(1), app_id: 7 }
    }

    fn own() -> Own<'static> {
        let heard = Some(Duration::from_secs(3));
        Own { address: "10.0.0.5:27777", app: "it", heard, last_time: Some(NOW - 3_000), skew_ms: Some(12) }
    }

    fn row(address: &str, ago: i64) -> ListedWorker {
        ListedWorker { address: address.to_owned(), last_active: NOW - ago, overload: false }
    }

    #[test]
    fn a_worker_in_the_servers_list_is_listed() {
        let rows = [row("10.0.0.6:27777", 1), row("10.0.0.5:27777", 3_000)];
        assert_eq!(judge(&own(), &owner(), &rows, NOW), Listing { listed: true, ..Listing::default() });
    }

    #[test]
    fn a_clock_that_makes_the_server_take_it_for_dead_is_named() {
        let mut own = own();
        own.skew_ms = Some(-90_000);
        let why = judge(&own, &owner(), &[row("10.0.0.5:27777", 93_000)], NOW).why_not.expect("a reason");
        assert!(why.contains("93 s old") && why.contains("90 s behind") && why.contains("NTP"), "{why}");
        own.heard = Some(Duration::from_secs(93));
        let why = judge(&own, &owner(), &[row("10.0.0.5:27777", 93_000)], NOW).why_not.expect("a reason");
        assert!(why.contains("last heartbeat 93 s ago"), "{why}");
    }

    #[test]
    fn a_worker_that_is_not_in_the_list_learns_what_is() {
        let why = judge(&own(), &owner(), &[row("172.17.0.2:27777", 1)], NOW).why_not.expect("a reason");
        for part in ["10.0.0.5:27777", "172.17.0.2:27777", "app `it`", "10.0.0.1:7700"] {
            assert!(why.contains(part), "{part} in {why}");
        }
        let why = judge(&own(), &owner(), &[], NOW).why_not.expect("a reason");
        assert!(why.contains("no worker of app `it` at all"), "{why}");
        let silent = Own { heard: None, ..own() };
        let why = judge(&silent, &owner(), &[], NOW).why_not.expect("a reason");
        assert!(why.contains("not taken a heartbeat yet"), "{why}");
    }

    #[test]
    fn overload_and_a_second_worker_under_the_address_are_told_though_it_is_listed() {
        let mut mine = row("10.0.0.5:27777", 1_000);
        mine.overload = true;
        let listing = judge(&own(), &owner(), &[mine], NOW);
        assert!(listing.listed, "{listing:?}");
        let all = listing.problems.join("\n");
        assert!(all.contains("overload") && all.contains("another worker sends heartbeats under"), "{all}");
    }

    #[test]
    fn where_the_list_cannot_be_read_heartbeats_decide_and_that_is_said() {
        let listing = by_heartbeats(&own(), "timed out");
        assert!(listing.listed && listing.problems[0].contains("timed out"), "{listing:?}");
        assert!(!by_heartbeats(&Own { heard: None, ..own() }, "x").listed);
    }
}
