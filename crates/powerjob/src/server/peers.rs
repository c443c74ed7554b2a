//! Who may call the worker's port.
//!
//! The protocol has no credential and its port starts programs, so only the hosts of the configured servers, the host of
//! the current owner, what the configuration adds and the workers that the server named for this app are let in. Names are
//! resolved again from time to time.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use tokio::net::lookup_host;

use super::workers::{Cluster, Workers};
use crate::client::ServerAddress;

/// A block of IPv4 addresses, `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u32,
    prefix: u8,
}

impl Cidr {
    /// Whether the address lies in the block.
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        ip.to_bits() & mask(self.prefix) == self.network
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an IPv4 address or block; write e.g. `10.1.2.3` or `10.0.0.0/8`");
        let (ip, prefix) = text.trim().split_once('/').unwrap_or((text.trim(), "32"));
        let ip: Ipv4Addr = ip.parse().map_err(|_| wrong())?;
        let prefix = prefix.parse().ok().filter(|&bits| bits <= 32).ok_or_else(wrong)?;
        Ok(Self { network: ip.to_bits() & mask(prefix), prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.network), self.prefix)
    }
}

/// The peers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    blocks: Vec<Cidr>,
    known: RwLock<Known>,
    workers: Workers,
    /// Callers from this host are strangers, so that a test on one host can be one.
    #[cfg(test)]
    pub(crate) strange_loopback: std::sync::atomic::AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    servers: HashSet<Ipv4Addr>,
    owner: Option<(String, HashSet<Ipv4Addr>)>,
}

impl Peers {
    pub(crate) fn new(blocks: Vec<Cidr>) -> Self {
        Self { blocks, ..Self::default() }
    }

    /// Lets workers in as well that this one names.
    pub(crate) fn with_cluster(self, cluster: Arc<dyn Cluster>) -> Self {
        Self { workers: Workers::new(cluster), ..self }
    }

    /// Whether this peer may send what servers send. One on loopback may call from any loopback address of this host.
    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        v4(ip).is_some_and(|ip| self.is_server(ip))
    }

    /// Whether this peer may start tasks here, as far as is known without asking the server.
    pub(crate) fn allows_worker(&self, ip: IpAddr) -> bool {
        v4(ip).is_some_and(|ip| self.is_server(ip) || self.workers.named(ip))
    }

    /// Whether this peer may send what workers send to each other about tasks that there are.
    pub(crate) fn has_met(&self, ip: IpAddr) -> bool {
        v4(ip).is_some_and(|ip| self.is_server(ip) || self.workers.met(ip))
    }

    /// Whether this peer may send what workers send to each other about this job. One that is not known yet makes the
    /// server be asked: once for all that wait for the same job.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn admit(&self, ip: IpAddr, job_id: i64) -> Result<(), String> {
        let Some(ip) = v4(ip) else {
            return Err(format!("{ip} is an IPv6 address, which no PowerJob address can be"));
        };
        if self.is_server(ip) || self.workers.named(ip) {
            return Ok(());
        }
        self.workers.ask(ip, job_id).await
    }

    /// Lets the workers in that the server named, for a while.
    pub(crate) async fn name_workers(&self, addresses: &[String]) {
        self.workers.name(addresses).await;
    }

    fn is_server(&self, ip: Ipv4Addr) -> bool {
        #[cfg(test)]
        if ip.is_loopback() && self.strange_loopback.load(std::sync::atomic::Ordering::Relaxed) {
            return false;
        }
        if self.blocks.iter().any(|block| block.contains(ip)) {
            return true;
        }
        let known = self.known.read();
        let owner = known.owner.iter().flat_map(|(_, ips)| ips);
        let mut all = known.servers.iter().chain(owner);
        if ip.is_loopback() { all.any(Ipv4Addr::is_loopback) } else { all.any(|&server| server == ip) }
    }

    /// Resolves the configured servers. An address that cannot be resolved now keeps what it had.
    pub(crate) async fn resolve(&self, servers: &[ServerAddress]) {
        let mut fresh = HashSet::new();
        let mut complete = true;
        // Side by side: each name that is not known may take seconds.
        let all = servers.iter().map(|server| resolve_host(server.host(), server.port()));
        for found in futures_util::future::join_all(all).await {
            complete &= !found.is_empty();
            fresh.extend(found);
        }
        let mut known = self.known.write();
        if complete {
            known.servers = fresh;
        } else {
            known.servers.extend(fresh);
        }
    }

    /// Lets the owner of the app in, wherever it is.
    pub(crate) async fn set_owner(&self, transport: &str) {
        let (host, port) = host_port(transport);
        if self.known.read().owner.as_ref().is_some_and(|(known, _)| known == host) {
            return;
        }
        let ips = resolve_host(host, port).await;
        if !ips.is_empty() {
            self.known.write().owner = Some((host.to_owned(), ips));
        }
    }
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// The halves of an address as the protocol writes it.
pub(super) fn host_port(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    (host, port.parse().unwrap_or(0))
}

pub(super) async fn resolve_host(host: &str, port: u16) -> HashSet<Ipv4Addr> {
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return HashSet::from([ip]);
    }
    let found = tokio::time::timeout(Duration::from_secs(3), lookup_host((host, port))).await;
    let Ok(Ok(found)) = found else {
        return HashSet::new();
    };
    found
        .filter_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn blocks_are_read_and_matched() {
        let block: Cidr = "10.1.2.3/8".parse().expect("valid");
        assert_eq!(block.to_string(), "10.0.0.0/8");
        assert!(block.contains(Ipv4Addr::new(10, 255, 0, 1)) && !block.contains(Ipv4Addr::new(11, 0, 0, 1)));
        let all: Cidr = "0.0.0.0/0".parse().expect("valid");
        assert!(all.contains(Ipv4Addr::new(1, 2, 3, 4)));
        let one: Cidr = "1.2.3.4".parse().expect("valid");
        assert!(one.contains(Ipv4Addr::new(1, 2, 3, 4)) && !one.contains(Ipv4Addr::new(1, 2, 3, 5)));
        for text in ["", "a", "1.2.3", "1.2.3.4/33", "::1", "1.2.3.4/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn servers_the_owner_and_configured_blocks_are_let_in_and_nobody_else() {
        let peers = Peers::new(vec!["192.168.7.0/24".parse().expect("valid")]);
        peers.resolve(&["10.0.0.1:7700".parse().expect("valid")]).await;
        assert!(peers.allows(ip("10.0.0.1")) && peers.allows(ip("192.168.7.9")) && peers.allows(ip("::ffff:10.0.0.1")));
        assert!(!peers.allows(ip("10.0.0.2")) && !peers.allows(ip("127.0.0.1")) && !peers.allows(ip("::1")));
        peers.set_owner("10.0.0.2:10010").await;
        assert!(peers.allows(ip("10.0.0.2")));
        peers.set_owner("10.0.0.3:10010").await;
        assert!(!peers.allows(ip("10.0.0.2")) && peers.allows(ip("10.0.0.3")));
    }

    #[tokio::test]
    async fn a_server_on_loopback_may_call_from_any_loopback_address() {
        let peers = Peers::new(Vec::new());
        peers.resolve(&["127.0.0.2:7700".parse().expect("valid")]).await;
        assert!(peers.allows(ip("127.0.0.1")) && !peers.allows(ip("10.0.0.1")));
    }
}
