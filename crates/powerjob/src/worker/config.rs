//! What a worker is told before it starts, and every mistake in it at once.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use super::interfaces::{Pattern, Rules};
use tokio::sync::watch;

use crate::{client::ServerAddress, server::Cidr};

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNotice {
    /// It has no room: heartbeats carry the overload flag, and new instances are refused.
    pub full: bool,
    /// `systemMetrics.extra` of heartbeats, which the server hands to its worker filters.
    pub extra: Option<String>,
}

/// One worker identity: its app, its servers, its port, its limits.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Web addresses of the PowerJob servers, `ip:port` or `http://host:port`, in the order in which they are asked.
    pub servers: Vec<String>,
    /// App name as registered on the server.
    pub app: String,
    /// Password of the app; needed only where the server's OpenAPI asks for tokens.
    pub app_password: Option<String>,
    /// Address to listen on, `host:port`; port 0 takes a free one (for tests).
    pub listen: String,
    /// Address that the server and other workers use, `host:port`. Default: the port of `listen` with the local address
    /// of a connection to the first server that answers, or with another one of this host if the server can connect to
    /// that and not to the first.
    pub advertise: Option<String>,
    /// Names of interfaces (`eth0`, `ib*`) whose address is taken first where `advertise` is not given, in this order.
    pub prefer_interfaces: Vec<String>,
    /// Names of interfaces (`docker*`, `br-*`) whose address is never taken.
    pub ignore_interfaces: Vec<String>,
    /// Tag for targeting. The server compares the whole text.
    pub tag: Option<String>,
    /// How many processors run at once.
    pub slots: usize,
    /// How many accepted instances may wait behind the slots.
    pub backlog: usize,
    /// How many instances with tasks (BROADCAST, MAP, MAP_REDUCE, FIXED_RATE, FIXED_DELAY) this worker owns at once. They take
    /// no slots. 0 = none: such dispatches end FAILED and say so.
    pub heavy: usize,
    /// Longest result text in UTF-16 units; longer is cut and `...` appended.
    pub result_limit: usize,
    /// Longest appended workflow context as JSON in UTF-16 units; a run that appends more fails and passes nothing on.
    pub context_limit: usize,
    /// Name of this identity; separates it from others in the same store.
    pub lane: String,
    /// Version told in heartbeats.
    pub version: String,
    /// Client name told in heartbeats: the program that the worker is part of. Default: this crate's name, and its version above.
    pub client: String,
    /// Further peers that may call this worker, as addresses or CIDR blocks (`10.0.0.0/8`), besides the servers.
    pub extra_peers: Vec<String>,
    /// What the host says beside the slots: whether it has room for further instances, and a text for heartbeats.
    pub host: Option<watch::Receiver<HostNotice>>,
    /// Directory of the journals, where [`WorkerBuilder::journals`](crate::WorkerBuilder::journals) gives none.
    pub state_dir: Option<PathBuf>,
}

impl WorkerConfig {
    /// A worker of `app` on these servers with the defaults of the Java worker: port 27777 and 8192 for both limits.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>, app: impl Into<String>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            app: app.into(),
            app_password: None,
            listen: "0.0.0.0:27777".to_owned(),
            advertise: None,
            prefer_interfaces: Vec::new(),
            ignore_interfaces: Vec::new(),
            tag: None,
            slots: 8,
            backlog: 1024,
            heavy: 64,
            result_limit: 8192,
            context_limit: 8192,
            lane: "main".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            client: env!("CARGO_PKG_NAME").to_owned(),
            extra_peers: Vec::new(),
            host: None,
            state_dir: None,
        }
    }

    /// Reads the texts into their types.
    ///
    /// # Errors
    /// Every mistake, one text each.
    pub(crate) fn check(&self) -> Result<Checked, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut note = |text: String| mistakes.push(text);
        if self.app.trim().is_empty() {
            note("app: no app name is given; name the app that is registered on the server".to_owned());
        }
        if self.lane.trim().is_empty() {
            note("lane: the name is empty; give the worker identity a name, e.g. `main`".to_owned());
        }
        if self.slots == 0 {
            note("slots: 0 slots cannot run anything; give at least 1".to_owned());
        }
        if self.servers.is_empty() {
            note("servers: no server is given; name at least one web address, e.g. `10.0.0.1:7700`".to_owned());
        }
        let mut servers: Vec<ServerAddress> = Vec::new();
        for text in &self.servers {
            match text.parse::<ServerAddress>() {
                Ok(address) if servers.contains(&address) => {}
                Ok(address) => servers.push(address),
                Err(why) => note(format!("servers: {why}")),
            }
        }
        let listen = parse_listen(&self.listen).map_err(|why| note(format!("listen: {why}"))).ok();
        if let Some(text) = &self.advertise
            && let Err(why) = parse_advertise(text)
        {
            note(format!("advertise: {why}"));
        }
        let mut peers = Vec::new();
        for text in &self.extra_peers {
            match text.parse::<Cidr>() {
                Ok(block) => peers.push(block),
                Err(why) => note(format!("extra_peers: {why}")),
            }
        }
        let mut interfaces = Rules::default();
        for (key, texts, read) in [
            ("prefer_interfaces", &self.prefer_interfaces, &mut interfaces.prefer),
            ("ignore_interfaces", &self.ignore_interfaces, &mut interfaces.ignore),
        ] {
            for text in texts {
                match text.parse::<Pattern>() {
                    Ok(pattern) => read.push(pattern),
                    Err(why) => note(format!("{key}: {why}")),
                }
            }
        }
        match (listen, mistakes.is_empty()) {
            (Some(listen), true) => Ok(Checked { servers, listen, peers, interfaces }),
            _ => Err(mistakes),
        }
    }
}

/// The parts of a configuration that were read.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) servers: Vec<ServerAddress>,
    pub(crate) listen: SocketAddrV4,
    pub(crate) peers: Vec<Cidr>,
    pub(crate) interfaces: Rules,
}

const NO_IPV6: &str = "PowerJob addresses have exactly one colon, so IPv6 cannot be used; give an IPv4 address";

fn parse_listen(text: &str) -> Result<SocketAddrV4, String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("`{text}` has no port; write host:port, e.g. `0.0.0.0:27777`"));
    };
    if host.contains(':') || host.starts_with('[') {
        return Err(format!("`{text}` is an IPv6 address: {NO_IPV6}"));
    }
    let port: u16 =
        port.parse().map_err(|_| format!("`{port}` in `{text}` is not a port; give a number from 0 to 65535"))?;
    let ip = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        "" | "*" => Ipv4Addr::UNSPECIFIED,
        _ => match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ip,
            _ => {
                return Err(format!("`{host}` in `{text}` is not an IPv4 address of this host; e.g. `0.0.0.0:27777`"));
            }
        },
    };
    Ok(SocketAddrV4::new(ip, port))
}

fn parse_advertise(text: &str) -> Result<(), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("`{text}` has no port; write host:port as the server reaches this worker"));
    };
    if host.contains(':') || host.starts_with('[') {
        return Err(format!("`{text}` is an IPv6 address: {NO_IPV6}"));
    }
    if host.is_empty() || host == "0.0.0.0" {
        return Err(format!("`{text}` is no address that a server can call; give this host's own address"));
    }
    if !matches!(port.parse::<u16>(), Ok(1..)) {
        return Err(format!("`{port}` in `{text}` is not a port; give a number from 1 to 65535"));
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(format!("`{text}` is not host:port; give the plain address without scheme or path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_a_configuration_is_named_at_once() {
        let mut config = WorkerConfig::new(["https://a:7700", "b"], "");
        config.listen = "[::]:27777".to_owned();
        config.advertise = Some("0.0.0.0:1".to_owned());
        config.extra_peers = vec!["10.0.0.0/40".to_owned()];
        config.slots = 0;
        config.prefer_interfaces = vec!["eth 0".to_owned()];
        config.ignore_interfaces = vec![String::new()];
        let mistakes = config.check().expect_err("all of it is wrong");
        for part in [
            "app:",
            "slots:",
            "https",
            "`b`",
            "IPv6",
            "advertise:",
            "extra_peers:",
            "prefer_interfaces:",
            "ignore_interfaces:",
        ] {
            assert!(mistakes.iter().any(|m| m.contains(part)), "{part} in {mistakes:?}");
        }
    }

    #[test]
    fn ipv6_is_refused_with_the_reason() {
        let mut config = WorkerConfig::new(["10.0.0.1:7700"], "a");
        config.listen = "[::1]:27777".to_owned();
        let mistakes = config.check().expect_err("IPv6");
        assert!(mistakes[0].contains("exactly one colon"), "{mistakes:?}");
    }

    #[test]
    fn the_same_server_twice_is_asked_once() {
        let config = WorkerConfig::new(["10.0.0.1:7700", "http://10.0.0.1:7700/"], "a");
        assert_eq!(config.check().expect("valid").servers.len(), 1);
    }
}
