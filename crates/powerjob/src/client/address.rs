//! The web address of a server as people write it.

use std::{fmt, net::IpAddr, str::FromStr};

/// `host:port` of a server's web port, read from `ip:port`, `host:port` or `http://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// Host name or IPv4 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Web port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same port on another host.
    pub(crate) fn on_host(&self, host: &str) -> Self {
        Self { host: host.to_owned(), port: self.port }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let (rest, scheme) = match trimmed.split_once("://") {
            None => (trimmed, false),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, true),
            Some((scheme, _)) => {
                return Err(format!(
                    "`{text}` has scheme `{scheme}`, but the worker protocol is plain http; write `http://host:port` or \
                     `host:port`"
                ));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{text}` has more than host and port; write `host:port`, e.g. `10.0.0.1:7700`"));
        }
        if rest.starts_with('[') || rest.matches(':').count() > 1 {
            return Err(format!(
                "`{text}` is an IPv6 address: PowerJob addresses have exactly one colon, so IPv6 cannot be used; give an \
                 IPv4 address or a host name"
            ));
        }
        let (host, port) = match rest.split_once(':') {
            None if scheme => (rest, 80),
            None => {
                return Err(format!(
                    "`{text}` has no port; a server's web port is usually 7700, so write `{rest}:7700`"
                ));
            }
            Some((host, port)) => match port.parse::<u16>() {
                Ok(port @ 1..) => (host, port),
                _ => {
                    return Err(format!("`{port}` in `{text}` is not a port; give a number from 1 to 65535"));
                }
            },
        };
        if host.is_empty() {
            return Err(format!("`{text}` names no host; write `host:port`, e.g. `10.0.0.1:7700`"));
        }
        if host.parse::<IpAddr>().is_err() && !host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c)) {
            return Err(format!("`{host}` in `{text}` is not a host name; write `host:port`, e.g. `10.0.0.1:7700`"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_scheme() {
        for (text, shown) in [
            ("10.0.0.1:7700", "10.0.0.1:7700"),
            (" http://pj.local:7700/ ", "pj.local:7700"),
            ("http://pj.local", "pj.local:80"),
            ("HTTP://a_b-c:1", "a_b-c:1"),
        ] {
            assert_eq!(text.parse::<ServerAddress>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_says_what_to_write() {
        for (text, part) in [
            ("10.0.0.1", "10.0.0.1:7700"),
            ("https://a:7700", "plain http"),
            ("[::1]:7700", "IPv6"),
            ("a:b:7700", "IPv6"),
            ("a:0", "1 to 65535"),
            ("a:99999", "1 to 65535"),
            ("http://a:7700/powerjob", "host and port"),
            (":7700", "no host"),
            ("a b:7700", "host and port"),
            ("a,b:7700", "not a host name"),
        ] {
            let why = text.parse::<ServerAddress>().expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
