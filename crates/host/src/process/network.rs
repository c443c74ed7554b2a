//! Bytes over the network interfaces that a process sees, which are those of its network namespace.

use std::fs;

use serde::Serialize;

/// What went over the interfaces of a network namespace since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkBytes {
    /// Bytes received, loopback left out.
    pub network_rx_bytes: u64,
    /// Bytes sent, loopback left out.
    pub network_tx_bytes: u64,
    /// Bytes over the loopback interface, which counts each of them once.
    pub network_loopback_bytes: u64,
    /// The namespace is that of the agent, so others' bytes are among these.
    pub network_shared: bool,
}

/// The figures for a process; `None` if there is no such process or it may not be looked at.
pub fn network(pid: i32) -> Option<NetworkBytes> {
    let mut bytes = parse(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?);
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
    bytes.network_shared = namespace(&pid.to_string()) == namespace("self");
    Some(bytes)
}

/// `name: received-bytes seven-others sent-bytes ..`; the name may touch the first figure.
fn parse(text: &str) -> NetworkBytes {
    let mut bytes = NetworkBytes::default();
    for line in text.lines() {
        let Some((name, figures)) = line.split_once(':') else { continue };
        let figures: Vec<u64> = figures.split_ascii_whitespace().map_while(|figure| figure.parse().ok()).collect();
        let (Some(received), Some(sent)) = (figures.first(), figures.get(8)) else { continue };
        if name.trim() == "lo" {
            bytes.network_loopback_bytes += received;
        } else {
            bytes.network_rx_bytes += received;
            bytes.network_tx_bytes += sent;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_added_up_and_the_loopback_stands_apart() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     700       7    0    0    0     0          0         0      700       7    0    0    0     0       0          0
  eth0:1000     10    0    0    0     0          0         0     20       2    0    0    0     0       0          0
  eth1: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0";
        let found = parse(text);
        assert_eq!((found.network_rx_bytes, found.network_tx_bytes, found.network_loopback_bytes), (1005, 26, 700));
    }

    #[test]
    fn this_process_shares_the_agents_network_and_a_missing_one_has_none() {
        let own = i32::try_from(std::process::id()).expect("pid");
        assert!(network(own).expect("readable").network_shared);
        assert_eq!(network(-1), None);
    }
}
