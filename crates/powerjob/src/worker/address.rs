//! Which address the server shall know this worker by. It must be one and the same text in every message, also after a
//! restart: reports from another address are dropped, though acknowledged.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
};

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{WorkerError, config::Checked, interfaces};
use crate::{
    client::{ServerAddress, Web, local_address_towards, route_towards},
    server::{Listener, bind},
};

/// Addresses that the servers are asked about at most; each may take seconds behind a firewall that drops.
const MOST_ASKED: usize = 4;

/// Binds the port. Where any free port will do, the one of the stored address is tried first, so that open instances keep
/// their address.
pub(crate) async fn listen(checked: &Checked, stored: Option<&str>) -> Result<Listener, WorkerError> {
    let wanted = checked.listen;
    if wanted.port() == 0
        && let Some(port) = stored.and_then(port_of)
        && let Ok(listener) = bind(SocketAddrV4::new(*wanted.ip(), port)).await
    {
        return Ok(listener);
    }
    bind(wanted).await.map_err(|why| WorkerError::Bind(why.to_string()))
}

/// Chooses the address. `host` are the addresses that this host has. `stored` is the one that open instances were dispatched to, if there are any. `reaches` asks a
/// server whether it can connect to an address and this worker's port; `None` = it cannot say.
pub(crate) async fn choose<F: Future<Output = Option<bool>>>(
    checked: &Checked,
    advertise: Option<&str>,
    port: u16,
    host: Vec<interfaces::Candidate>,
    stored: Option<String>,
    reaches: impl Fn(Ipv4Addr) -> F,
) -> Result<String, WorkerError> {
    // Known connections wait while servers are asked, and an address that stays needs no question.
    let reaches = (stored.is_none()).then_some(reaches);
    let (chosen, why) = match advertise {
        Some(text) => (text.to_owned(), "advertise"),
        None => match own_ip(checked, host, reaches).await {
            Some((ip, why)) => (format!("{ip}:{port}"), why),
            None if stored.is_some() => (String::new(), ""),
            None => return Err(WorkerError::Address(no_address(checked))),
        },
    };
    match stored {
        Some(stored) if stored != chosen => {
            tracing::warn!(
                address = stored,
                instead_of = chosen,
                "instances are open under the address that this worker had before, so it keeps it; the other one is taken \
                 at the next start without open instances"
            );
            Ok(stored)
        }
        _ => {
            tracing::debug!(address = chosen, from = why, "own address");
            Ok(chosen)
        }
    }
}

/// Asks the configured servers, in their order, whether they reach an address: the first yes counts, a no only when no
/// other server says yes.
pub(crate) async fn reached_by(web: &Web, servers: &[ServerAddress], ip: Ipv4Addr, port: u16) -> Option<bool> {
    let host = ip.to_string();
    let mut said = None;
    for server in servers {
        match web.reaches(server, &host, port).await {
            Ok(true) => return Some(true),
            Ok(false) => said = Some(false),
            Err(why) => tracing::debug!(%server, why = why.text(), "the server does not say whether it reaches {ip}"),
        }
    }
    said
}

async fn own_ip<F: Future<Output = Option<bool>>>(
    checked: &Checked,
    host: Vec<interfaces::Candidate>,
    reaches: Option<impl Fn(Ipv4Addr) -> F>,
) -> Option<(Ipv4Addr, &'static str)> {
    if !checked.listen.ip().is_unspecified() {
        return Some((*checked.listen.ip(), "listen"));
    }
    let route = route(checked).await;
    let found = interfaces::in_order(host, route, &checked.interfaces);
    let first = found.first()?;
    // Whoever talks over loopback is on this host.
    let Some(reaches) = reaches.filter(|_| !first.ip.is_loopback()) else {
        return Some((first.ip, "the way to the server"));
    };
    let shown: Vec<String> = found.iter().map(|c| format!("{} ({})", c.ip, c.interface)).collect();
    for candidate in found.iter().take(MOST_ASKED) {
        match reaches(candidate.ip).await {
            Some(true) => {
                if candidate != first {
                    tracing::info!(
                        address = %candidate.ip,
                        interface = candidate.interface,
                        "the server reaches this address and not {}",
                        first.ip
                    );
                }
                return Some((candidate.ip, "the server reaches it"));
            }
            Some(false) => {}
            // A server older than 4.3.7, or none.
            None => return Some((first.ip, "the way to the server")),
        }
    }
    tracing::warn!(
        address = %first.ip,
        "no server can connect to this worker at any of {}; is there a firewall or NAT between them? Set `advertise` to the \
         host:port under which the server reaches this worker",
        shown.join(", ")
    );
    Some((first.ip, "the way to the server"))
}

/// The local address of the way to the servers.
async fn route(checked: &Checked) -> Option<Ipv4Addr> {
    let mut connecting: FuturesUnordered<_> = checked.servers.iter().map(local_address_towards).collect();
    while let Some(local) = connecting.next().await {
        if local.is_some() {
            return local;
        }
    }
    for server in &checked.servers {
        if let Some(ip) = route_towards(server).await {
            tracing::warn!(
                address = %ip,
                server = %server,
                "no server answers yet; this worker takes the local address on the way to the first one. Set `advertise` \
                 if that is not the address that the server should call"
            );
            return Some(ip);
        }
    }
    let ip = default_route()?;
    tracing::warn!(
        address = %ip,
        "no server answers and none of their names can be resolved; this worker takes the local address of the default \
         route. Set `advertise` if that is not the address that the server should call"
    );
    Some(ip)
}

/// The local address of the default route. 192.0.2.1 is an address for documentation; nothing is sent.
fn default_route() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip),
        _ => None,
    }
}

fn no_address(checked: &Checked) -> String {
    let servers: Vec<String> = checked.servers.iter().map(ToString::to_string).collect();
    let rules = if checked.interfaces.ignore.is_empty() { "" } else { " (after those that `ignore_interfaces` names)" };
    format!(
        "found no own IPv4 address{rules}: none of {} answers or is routed to, and there is no default route; set \
         `advertise` to the host:port under which the server reaches this worker",
        servers.join(", ")
    )
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::WorkerConfig;

    fn checked(ignore: &[&str]) -> Checked {
        let mut config = WorkerConfig::new(["192.0.2.1:7700"], "a");
        config.listen = "0.0.0.0:27777".to_owned();
        config.ignore_interfaces = ignore.iter().map(ToString::to_string).collect();
        config.check().expect("valid")
    }

    /// The answers of a server that reaches the nth address that it is asked about.
    async fn chosen(nth: usize, ignore: &[&str]) -> Result<String, String> {
        let asked = std::cell::Cell::new(0);
        let reaches = |_| {
            asked.set(asked.get() + 1);
            std::future::ready(Some(asked.get() == nth))
        };
        choose(&checked(ignore), None, 7, interfaces::of_this_host(), None, reaches)
            .await
            .map_err(|why| why.to_string())
    }

    #[tokio::test]
    async fn the_address_that_the_server_reaches_is_taken_and_the_way_to_it_where_none_is() {
        let found = interfaces::in_order(interfaces::of_this_host(), None, &interfaces::Rules::default());
        if found.is_empty() {
            // A host with loopback only has nothing to choose from; the order itself has tests of its own.
            return assert!(chosen(1, &[]).await.is_err());
        }
        let first = chosen(1, &[]).await.expect("an address");
        assert_eq!(chosen(usize::MAX, &[]).await.as_ref(), Ok(&first), "nothing better is known");
        if found.len() > 1 {
            assert_ne!(chosen(2, &[]).await.expect("an address"), first);
        }
        let why = chosen(1, &["*"]).await.expect_err("nothing is left");
        assert!(why.contains("ignore_interfaces") && why.contains("advertise"), "{why}");
    }

    #[tokio::test]
    async fn an_address_of_open_instances_stays_and_no_server_is_asked() {
        let never = |_| async { unreachable!("asked") };
        let kept = choose(&checked(&[]), None, 7, Vec::new(), Some("10.9.8.7:1".to_owned()), never).await;
        assert_eq!(kept.expect("the stored one"), "10.9.8.7:1");
    }
}
