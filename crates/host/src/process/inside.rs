//! The service process in a container, seen from the host: the one that listens on the service's port, with its children.

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;

use super::proc::{self, Ident, Stat};
use super::stats::{self, CpuMark, ProcessStats};

/// What is in a container.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InsideSample {
    /// Pid on the host.
    pub pid: i32,
    /// Name of the process.
    pub name: String,
    /// It listens on the port that was asked for; otherwise it is the container's main process.
    pub listens: bool,
    /// What it and its descendants use.
    #[serde(flatten)]
    pub stats: ProcessStats,
}

/// Watches the service process of one container.
#[derive(Debug)]
pub struct Inside {
    container: String,
    main: i32,
    port: Option<u16>,
    found: Option<Ident>,
    cpu: Option<CpuMark>,
}

impl Inside {
    /// For the container of this full id, whose main process has this pid on the host.
    pub fn new(container: &str, main: i32, port: Option<u16>) -> Self {
        Self { container: container.to_owned(), main, port, found: None, cpu: None }
    }

    /// The listener that was found and that has ended since, in words; none while another one listens. What has never
    /// listened is not lost.
    pub fn lost(&mut self) -> Option<String> {
        if self.found.is_some_and(Ident::alive) {
            return None;
        }
        let all = proc::all().ok()?;
        let members: Vec<&Stat> = all.iter().filter(|stat| is_inside(stat.ident.pid, &self.container)).collect();
        if let Some(now) = self.listener(&members) {
            self.found = Some(now);
            return None;
        }
        // Without its main process the container has ended, which others tell.
        let goes_on = members.iter().any(|stat| stat.ident.pid == self.main && !stat.dead());
        self.found.filter(|_| goes_on).map(|known| format!("pid {} on the host", known.pid))
    }

    /// Looks now; `None` where nothing of the container is visible, as with an engine on another host.
    pub fn sample(&mut self) -> Option<InsideSample> {
        let all = proc::all().ok()?;
        let members: Vec<&Stat> = all.iter().filter(|stat| is_inside(stat.ident.pid, &self.container)).collect();
        let listener = self.listener(&members);
        if listener.is_some() {
            self.found = listener;
        }
        let top =
            listener.or_else(|| members.iter().find(|stat| stat.ident.pid == self.main).map(|stat| stat.ident))?;
        let mut own = proc::descendants(&all, top);
        own.insert(top.pid);
        let own: Vec<Stat> = all.iter().filter(|stat| own.contains(&stat.ident.pid)).cloned().collect();
        let name = own.iter().find(|stat| stat.ident == top).map(|stat| stat.name.clone()).unwrap_or_default();
        let stats = stats::sample(&own, None, &mut self.cpu);
        Some(InsideSample { pid: top.pid, name, listens: listener.is_some(), stats })
    }

    /// The outermost process that holds the listening socket: workers of a server often share it.
    fn listener(&self, members: &[&Stat]) -> Option<Ident> {
        let sockets = listening(members.first()?.ident.pid, self.port?);
        let holds = |pid: i32| !sockets.is_empty() && holds_one_of(pid, &sockets);
        let holders: Vec<&&Stat> = members.iter().filter(|stat| !stat.dead() && holds(stat.ident.pid)).collect();
        let pids: BTreeSet<i32> = holders.iter().map(|stat| stat.ident.pid).collect();
        holders.iter().find(|stat| !pids.contains(&stat.parent)).map(|stat| stat.ident)
    }
}

/// The cgroup's path names the container in v1 and v2, with every cgroup driver.
fn is_inside(pid: i32, container: &str) -> bool {
    container.len() >= 64
        && fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(container))
}

/// Inodes of the sockets that listen on a port in the network namespace of a process.
fn listening(pid: i32, port: u16) -> BTreeSet<String> {
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default());
    tables.iter().flat_map(|table| parse(table, port)).collect()
}

/// Rows are `sl local-address:PORT remote-address state .. inode`; state `0A` listens.
fn parse(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let fits = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == "0A";
        fits.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    table.lines().filter_map(row).collect()
}

fn holds_one_of(pid: i32, sockets: &BTreeSet<String>) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| {
        let link = link.to_string_lossy();
        link.strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inode| sockets.contains(inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_listen_on_the_port_are_taken() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 0100007F:1F90 0100007F:D0AE 01 00000000:00000000 00:00000000 00000000     0        0 4712 1
   2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1";
        assert_eq!(parse(table, 8080), ["4711"]);
        assert_eq!(parse(table, 81), [] as [&str; 0]);
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
        let port = socket.local_addr().expect("bound").port();
        let own = i32::try_from(std::process::id()).expect("pid");
        let sockets = listening(own, port);
        assert_eq!(sockets.len(), 1);
        assert!(holds_one_of(own, &sockets));
        drop(socket);
        assert!(listening(own, port).is_empty());
    }

    #[test]
    fn nothing_is_seen_of_a_container_that_is_not_here() {
        let mut inside = Inside::new(&"f".repeat(64), 1, Some(80));
        assert_eq!((inside.sample(), inside.lost()), (None, None));
    }
}
