//! The names under which the admin port may be called where no token is asked for.
//!
//! A page on the Internet whose name leads to 127.0.0.1 (DNS rebinding) is this port's own origin to the browser of an operator,
//! and could read logs and drain lanes. The request still carries that page's name.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Uri, header};

/// Names and addresses of this host.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// The address that is listened on, those that the lanes advertise (`host:port`), and the configured names.
    pub(super) fn new<'a>(
        bound: SocketAddr,
        advertised: impl IntoIterator<Item = &'a str>,
        configured: &[String],
    ) -> Self {
        let advertised = advertised.into_iter().filter_map(|address| Some(split(address)?.0));
        let configured = configured.iter().map(|name| name.trim().to_ascii_lowercase());
        Self(advertised.chain(configured).chain([bound.ip().to_string()]).collect())
    }

    /// # Errors
    /// What is wrong with the name that a request carries, and what to do.
    pub(super) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), String> {
        let given = match headers.get(header::HOST) {
            Some(value) => value.to_str().unwrap_or("a text that is no name"),
            None => uri.authority().map_or("", |authority| authority.as_str()),
        };
        if split(given).is_some_and(|(host, ip)| self.knows(&host, ip)) {
            return Ok(());
        }
        Err(format!(
            "the request is addressed to `{given}` (header `Host`), which is no name of this agent; accepted without a token: \
             localhost, loopback addresses, {}. Add the name to `admin.hosts` if it is one of this host or of a proxy before \
             it, or set `admin.token_file`",
            self.0.join(", ")
        ))
    }

    fn knows(&self, host: &str, ip: Option<IpAddr>) -> bool {
        host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) || self.0.iter().any(|known| known == host)
    }
}

/// The host of `host` or `host:port` in lower case, and as an address if it is one.
fn split(text: &str) -> Option<(String, Option<IpAddr>)> {
    let authority: axum::http::uri::Authority = text.parse().ok()?;
    if text.contains('@') {
        return None;
    }
    // The dot at the end of a full name, as `localhost.`, changes nothing.
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(&host);
    let ip = bare.parse::<IpAddr>().ok();
    let host = ip.map_or_else(|| host.clone(), |ip| ip.to_string());
    (!host.is_empty()).then_some((host, ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str) -> Result<(), String> {
        let configured = ["Rig-7.lab".to_owned()];
        let bound = "127.0.0.1:8780".parse().expect("an address");
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        Hosts::new(bound, ["10.1.2.3:27777", "host-a:27778"], &configured).check(&headers, &Uri::from_static("/"))
    }

    #[test]
    fn own_names_with_and_without_a_port_are_known_and_all_others_are_not() {
        for host in [
            "localhost",
            "LOCALHOST:8780",
            "localhost.:8780",
            "127.0.0.1:8780",
            "127.9.9.9",
            "[::1]:8780",
            "10.1.2.3",
            "host-a:1",
            "rig-7.LAB:80",
        ] {
            assert_eq!(check(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8780",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8780",
            "10.1.2.4",
            "localhost@evil.example",
            "evil.example@localhost",
            "",
            ":8780",
        ] {
            let why = check(host).expect_err(host);
            assert!(
                why.contains("admin.hosts") && why.contains("admin.token_file") && why.contains("10.1.2.3"),
                "{why}"
            );
        }
    }

    #[test]
    fn a_request_without_the_header_is_judged_by_its_target_and_else_refused() {
        let hosts = Hosts::default();
        assert!(hosts.check(&HeaderMap::new(), &Uri::from_static("http://localhost:1/api/status")).is_ok());
        assert!(hosts.check(&HeaderMap::new(), &Uri::from_static("http://evil.example/api/status")).is_err());
        assert!(hosts.check(&HeaderMap::new(), &Uri::from_static("/api/status")).is_err());
    }
}
