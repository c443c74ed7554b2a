//! The host's own IPv4 addresses, and the order in which they are thought to be what the server can call.

use std::{net::Ipv4Addr, str::FromStr};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// The name of an interface; `*` stands for any text (`docker*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<String>);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c == '/') {
            return Err(format!(
                "`{text}` is no name of an interface; `ip -4 addr` shows them, and `*` stands for any text: `docker*`"
            ));
        }
        Ok(Self(text.split('*').map(str::to_owned).collect()))
    }
}

impl Pattern {
    pub(crate) fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let Some(mut left) = name.strip_prefix(first.as_str()) else { return false };
        let Some((last, between)) = rest.split_last() else { return left.is_empty() };
        for part in between {
            match left.find(part.as_str()) {
                Some(at) => left = &left[at + part.len()..],
                None => return false,
            }
        }
        left.ends_with(last.as_str())
    }
}

/// Which interfaces to take first, and which never.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) prefer: Vec<Pattern>,
    pub(crate) ignore: Vec<Pattern>,
}

/// An address of an interface that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) interface: String,
    pub(crate) ip: Ipv4Addr,
}

/// All of them, in the order of the interfaces; those of loopback too.
pub(crate) fn of_this_host() -> Vec<Candidate> {
    let Ok(found) = getifaddrs() else { return Vec::new() };
    found
        .filter(|address| address.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|address| {
            let ip = address.address?.as_sockaddr_in()?.ip();
            Some(Candidate { interface: address.interface_name, ip })
        })
        .collect()
}

/// What is left by the rules: preferred interfaces first (in the order of the rules), then the address on the way to the
/// server, then the others. Loopback only where the way to the server leads over it.
pub(crate) fn in_order(mut found: Vec<Candidate>, route: Option<Ipv4Addr>, rules: &Rules) -> Vec<Candidate> {
    let matches = |patterns: &[Pattern], name: &str| patterns.iter().position(|pattern| pattern.matches(name));
    if let Some(ip) = route.filter(|ip| found.iter().all(|candidate| candidate.ip != *ip)) {
        found.push(Candidate { interface: String::new(), ip });
    }
    found.retain(|candidate| {
        matches(&rules.ignore, &candidate.interface).is_none()
            && (!candidate.ip.is_loopback() || Some(candidate.ip) == route)
    });
    found.sort_by_key(|candidate| {
        let preferred = matches(&rules.prefer, &candidate.interface).unwrap_or(usize::MAX);
        (preferred, Some(candidate.ip) != route)
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(interface: &str, last: u8) -> Candidate {
        Candidate { interface: interface.to_owned(), ip: Ipv4Addr::new(10, 0, 0, last) }
    }

    fn rules(prefer: &[&str], ignore: &[&str]) -> Rules {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a pattern")).collect();
        Rules { prefer: read(prefer), ignore: read(ignore) }
    }

    fn names(found: &[Candidate]) -> Vec<&str> {
        found.iter().map(|candidate| candidate.interface.as_str()).collect()
    }

    #[test]
    fn names_are_matched_with_stars_and_nonsense_is_told() {
        for (pattern, name, fits) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("docker*", "docker0", true),
            ("docker*", "br-docker", false),
            ("*", "anything", true),
            ("br-*", "br-1a2b", true),
            ("e*p*0", "enp3s0", true),
            ("e*p*0", "eth0", false),
            ("*0", "eth0", true),
        ] {
            assert_eq!(pattern.parse::<Pattern>().expect("a pattern").matches(name), fits, "{pattern} {name}");
        }
        for text in ["", " ", "a b", "eth0/24"] {
            assert!(text.parse::<Pattern>().expect_err(text).contains("ip -4 addr"));
        }
    }

    #[test]
    fn the_way_to_the_server_comes_first_unless_the_rules_say_otherwise() {
        let host = || vec![candidate("lo", 9), candidate("eth0", 1), candidate("ib0", 2), candidate("docker0", 3)];
        let route = Some(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(names(&in_order(host(), route, &rules(&[], &[])))[0], "ib0");
        assert_eq!(names(&in_order(host(), route, &rules(&["eth*"], &[])))[..2], ["eth0", "ib0"]);
        let left = in_order(host(), route, &rules(&[], &["ib*", "docker*"]));
        assert_eq!(names(&left), ["lo", "eth0"], "a route over an ignored interface is not taken");
        assert_eq!(names(&in_order(host(), None, &rules(&["docker0", "eth0"], &[])))[..2], ["docker0", "eth0"]);
    }

    #[test]
    fn loopback_counts_only_where_the_server_is_reached_over_it() {
        let lo = Candidate { interface: "lo".to_owned(), ip: Ipv4Addr::LOCALHOST };
        let host = vec![lo.clone(), candidate("eth0", 1)];
        assert_eq!(names(&in_order(host.clone(), None, &rules(&[], &[]))), ["eth0"]);
        assert_eq!(in_order(host, Some(Ipv4Addr::LOCALHOST), &rules(&[], &[]))[0], lo);
        // An address that is no interface's (127.0.0.2) is taken all the same.
        let route = Ipv4Addr::new(127, 0, 0, 2);
        assert_eq!(in_order(vec![lo], Some(route), &rules(&[], &[]))[0].ip, route);
    }

    #[test]
    fn this_host_has_addresses() {
        assert!(of_this_host().iter().any(|candidate| candidate.ip.is_loopback()));
    }
}
