//! Which address the server shall know this worker by. It must be one and the same text in every message, also after a
//! restart: reports from another address are dropped, though acknowledged.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{WorkerError, config::Checked};
use crate::{
    client::{ServerAddress, local_address_towards, route_towards},
    server::{Listener, bind},
};

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

/// Chooses the address. `stored` is the one that open instances were dispatched to, if there are any.
pub(crate) async fn choose(
    checked: &Checked,
    advertise: Option<&str>,
    port: u16,
    stored: Option<String>,
) -> Result<String, WorkerError> {
    let (chosen, why) = match advertise {
        Some(text) => (text.to_owned(), "advertise"),
        None => match own_ip(checked).await {
            Some(ip) => (format!("{ip}:{port}"), "the way to the server"),
            None if stored.is_some() => (String::new(), ""),
            None => return Err(WorkerError::Address(no_address(&checked.servers))),
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

async fn own_ip(checked: &Checked) -> Option<Ipv4Addr> {
    if !checked.listen.ip().is_unspecified() {
        return Some(*checked.listen.ip());
    }
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

fn no_address(servers: &[ServerAddress]) -> String {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    format!(
        "found no own IPv4 address: none of {} answers or is routed to, and there is no default route; set `advertise` to \
         the host:port under which the server reaches this worker",
        servers.join(", ")
    )
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}
