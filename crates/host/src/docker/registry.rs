//! Registries: which one an image comes from, the login for it, and what it says about a repository.

use std::net::IpAddr;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use reqwest::StatusCode;
use serde::Deserialize;

use super::pull_error::Missing;

/// Where images without a registry in their name come from.
const HUB: &str = "docker.io";
/// What engines call it where they want an address.
const HUB_ADDRESS: &str = "https://index.docker.io/v1/";
/// A question for tags only makes a message better.
const QUESTION: Duration = Duration::from_secs(5);

/// A login at a registry. Its debug text shows no secret.
#[derive(Clone)]
pub struct RegistryAuth {
    /// Key in the agent's configuration, for messages.
    pub key: String,
    /// The registry's address as in image names, e.g. `registry.local:5000`, or `docker.io`.
    pub server: String,
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("key", &self.key)
            .field("server", &self.server)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl RegistryAuth {
    /// A login.
    pub fn new(
        key: impl Into<String>,
        server: impl Into<String>,
        username: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), server: server.into(), username: username.into(), password: password.into() }
    }

    /// Whether it is for this image's registry.
    pub fn serves(&self, image: &str) -> bool {
        same(&self.server, registry_of(image))
    }

    pub(super) fn credentials(&self) -> DockerCredentials {
        let server = if same(&self.server, HUB) { HUB_ADDRESS.to_owned() } else { self.server.clone() };
        DockerCredentials {
            username: Some(self.username.clone()),
            password: Some(self.password.clone()),
            serveraddress: Some(server),
            ..DockerCredentials::default()
        }
    }
}

/// The registry that an image is pulled from: what stands before the first slash, if it looks like a host.
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => HUB,
    }
}

/// The repository as its registry calls it, without registry, tag and digest.
fn repository_of(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let path = match name.split_once('/') {
        Some((host, rest)) if registry_of(image) == host => rest,
        _ => name,
    };
    match path.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => path,
    }
}

fn same(a: &str, b: &str) -> bool {
    fn plain(address: &str) -> &str {
        match address.trim_end_matches('/') {
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => HUB,
            other => other,
        }
    }
    plain(a).eq_ignore_ascii_case(plain(b))
}

/// Asks the registry which of the two it is that it does not have. The engine cannot tell: it asks for the manifest alone, and
/// most registries answer the same in both cases. `None` = it cannot be said (another kind of login, another certificate).
///
/// The login goes to the registry that it is configured for and to no other: redirects are not followed by `http`, and without
/// TLS only loopback is asked, as engines do themselves.
pub(super) async fn what_is_missing(http: &reqwest::Client, auth: &RegistryAuth, image: &str) -> Option<Missing> {
    #[derive(Deserialize)]
    struct Tags {
        #[serde(default)]
        tags: Option<Vec<String>>,
    }
    if same(&auth.server, HUB) {
        return None;
    }
    let scheme = if is_loopback(&auth.server) { "http" } else { "https" };
    let url = format!("{scheme}://{}/v2/{}/tags/list", auth.server, repository_of(image));
    let question = http.get(url).basic_auth(&auth.username, Some(&auth.password)).timeout(QUESTION);
    let answer = question.send().await.ok()?;
    match answer.status() {
        StatusCode::NOT_FOUND => {
            let text = answer.text().await.ok()?;
            text.contains("NAME_UNKNOWN").then_some(Missing::Repository)
        }
        StatusCode::OK => {
            let mut there = answer.json::<Tags>().await.ok()?.tags.unwrap_or_default();
            there.sort();
            Some(Missing::Tag { there })
        }
        _ => None,
    }
}

fn is_loopback(server: &str) -> bool {
    let host = match server.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => server,
    };
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_what_looks_like_a_host_before_the_first_slash() {
        for (image, registry, repository) in [
            ("busybox", "docker.io", "busybox"),
            ("vllm/vllm-openai:v1", "docker.io", "vllm/vllm-openai"),
            ("docker.io/library/busybox", "docker.io", "library/busybox"),
            ("localhost/a/b:1", "localhost", "a/b"),
            ("reg:5000/a/b", "reg:5000", "a/b"),
            ("reg.lab/a/b:1@sha256:00", "reg.lab", "a/b"),
        ] {
            assert_eq!((registry_of(image), repository_of(image)), (registry, repository), "{image}");
        }
    }

    #[test]
    fn a_login_is_for_its_registry_alone_and_the_hub_has_several_names() {
        let auth = |server| RegistryAuth::new("k", server, "u", "p");
        assert!(auth("Reg.Lab:5000").serves("reg.lab:5000/a/b:1"));
        assert!(!auth("reg.lab:5000").serves("reg.lab/a/b:1"), "another port is another registry");
        assert!(!auth("reg.lab").serves("evil-reg.lab/a"));
        assert!(auth("docker.io").serves("vllm/vllm-openai:v1"));
        assert!(auth("index.docker.io").serves("busybox"));
        assert_eq!(auth("docker.io").credentials().serveraddress.as_deref(), Some(HUB_ADDRESS));
    }

    #[test]
    fn only_loopback_is_asked_without_tls() {
        for server in ["127.0.0.1:5000", "localhost", "[::1]:5000", "127.3.2.1"] {
            assert!(is_loopback(server), "{server}");
        }
        for server in ["127.0.0.1.evil:5000", "10.0.0.1:5000", "reg.lab", "localhost.evil"] {
            assert!(!is_loopback(server), "{server}");
        }
    }

    #[test]
    fn credentials_do_not_show_in_debug_output() {
        assert!(!format!("{:?}", RegistryAuth::new("k", "r", "u", "hunter2")).contains("hunter2"));
    }
}
