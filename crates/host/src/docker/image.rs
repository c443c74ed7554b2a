//! Images: whether one is here, and pulling it.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::client::{Docker, QUICK};
use super::error::{DockerError, PullError};

/// A pull that says nothing for this long is broken. Large layers report several times a second.
const SILENCE: Duration = Duration::from_secs(300);

/// When an image is asked of its registry (`docker.pullPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Only when it is not on this host.
    #[default]
    IfNotPresent,
    /// Every time.
    Always,
    /// Never: it must be on this host.
    Never,
}

/// Credentials for a registry. Their debug text shows no secret.
#[derive(Clone)]
pub struct RegistryAuth {
    /// The registry's address as in the image name, e.g. `registry.local:5000`.
    pub server: String,
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("server", &self.server)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// An image on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Id (digest of its configuration).
    pub id: String,
    /// Digests under which registries know it.
    pub repo_digests: Vec<String>,
    /// Bytes on disk.
    pub size: i64,
}

impl Docker {
    /// The image, if it is on this host.
    ///
    /// # Errors
    /// All but [`DockerError::NotFound`].
    pub async fn image(&self, name: &str) -> Result<Option<ImageInfo>, DockerError> {
        let doing = format!("inspect image `{name}`");
        match self.call(&doing, QUICK, async |d| d.inspect_image(name).await).await {
            Ok(raw) => Ok(Some(ImageInfo {
                id: raw.id.unwrap_or_default(),
                repo_digests: raw.repo_digests.unwrap_or_default(),
                size: raw.size.unwrap_or_default(),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes sure that the image is here, as the policy says; `progress` gets readable lines, a few per layer.
    ///
    /// # Errors
    /// [`PullError`], each told apart. Dropping the future ends the pull.
    pub async fn ensure_image(
        &self,
        name: &str,
        policy: PullPolicy,
        auth: Option<&RegistryAuth>,
        progress: impl FnMut(String) + Send,
    ) -> Result<ImageInfo, PullError> {
        if policy != PullPolicy::Always {
            if let Some(image) = self.image(name).await? {
                return Ok(image);
            }
            if policy == PullPolicy::Never {
                return Err(PullError::NeverPulled { image: name.to_owned() });
            }
        }
        self.pull(name, auth, progress).await?;
        self.image(name).await?.ok_or_else(|| PullError::Failed {
            image: name.to_owned(),
            message: "the engine reported success but does not have it".to_owned(),
        })
    }

    async fn pull(
        &self,
        name: &str,
        auth: Option<&RegistryAuth>,
        mut progress: impl FnMut(String) + Send,
    ) -> Result<(), PullError> {
        let doing = format!("pull image `{name}`");
        let (from_image, tag) = split_reference(name);
        let options = CreateImageOptions {
            from_image: Some(from_image.to_owned()),
            tag: Some(tag.to_owned()),
            ..CreateImageOptions::default()
        };
        let credentials = auth.map(|auth| DockerCredentials {
            username: Some(auth.username.clone()),
            password: Some(auth.password.clone()),
            serveraddress: Some(auth.server.clone()),
            ..DockerCredentials::default()
        });
        let mut events = self.client(&doing)?.create_image(Some(options), None, credentials);
        loop {
            match tokio::time::timeout(SILENCE, events.next()).await {
                Err(_) => return Err(self.too_slow(&doing, SILENCE).into()),
                Ok(None) => return Ok(()),
                Ok(Some(Ok(event))) => {
                    if let Some(line) = progress_line(&event) {
                        progress(line);
                    }
                }
                Ok(Some(Err(error))) => return Err(pull_error(name, self.fail(&doing, error))),
            }
        }
    }
}

/// `name` and tag or digest as the engine's pull call wants them; without a tag the engine would pull every tag there is.
fn split_reference(name: &str) -> (&str, &str) {
    if let Some((image, digest)) = name.split_once('@') {
        return (image, digest);
    }
    match name.rsplit_once(':') {
        // A colon before a slash is the registry's port.
        Some((image, tag)) if !tag.contains('/') => (image, tag),
        _ => (name, "latest"),
    }
}

/// Begin and end of each layer; the many messages in between ("Downloading", with numbers) would flood a log.
fn progress_line(event: &CreateImageInfo) -> Option<String> {
    let status = event.status.as_deref()?.trim();
    if status.is_empty() || matches!(status, "Downloading" | "Extracting" | "Waiting" | "Verifying Checksum") {
        return None;
    }
    Some(match event.id.as_deref() {
        Some(id) => format!("{id}: {status}"),
        None => status.to_owned(),
    })
}

/// The engine passes on what the registry said only as text.
fn pull_error(image: &str, error: DockerError) -> PullError {
    let image = image.to_owned();
    let (status, message) = match error {
        DockerError::NotFound { message, .. } => (404, message),
        DockerError::Conflict { message, .. } => (409, message),
        DockerError::Refused { status, message, .. } => (status, message),
        other => return PullError::Engine(other),
    };
    let lower = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if status == 400 || says(&["invalid reference format"]) {
        PullError::InvalidName { image, message }
    } else if says(&[
        "no basic auth credentials",
        "authentication required",
        "unauthorized",
        "incorrect username",
        "denied: ",
    ]) && !says(&["repository does not exist"])
    {
        PullError::Unauthorized { image, message }
    } else if says(&["manifest unknown", "not found", "repository does not exist", "name unknown"])
        && !says(&["no such host"])
    {
        PullError::NotFound { image, message }
    } else if says(&[
        "no such host",
        "connection refused",
        "i/o timeout",
        "no route to host",
        "network is unreachable",
        "tls handshake timeout",
        "context deadline exceeded",
        "client.timeout exceeded",
        "server misbehaving",
        "temporary failure in name resolution",
    ]) {
        PullError::NoRoute { image, message }
    } else {
        PullError::Failed { image, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_tag_means_latest_and_a_port_is_no_tag() {
        assert_eq!(split_reference("busybox"), ("busybox", "latest"));
        assert_eq!(split_reference("reg:5000/a/b"), ("reg:5000/a/b", "latest"));
        assert_eq!(split_reference("reg:5000/a/b:1.2"), ("reg:5000/a/b", "1.2"));
        assert_eq!(split_reference("a/b@sha256:00"), ("a/b", "sha256:00"));
    }

    #[test]
    fn the_registrys_refusals_are_told_apart() {
        let error = |status, message: &str| {
            pull_error("i", DockerError::Refused { doing: String::new(), status, message: message.into() })
        };
        let missing = error(500, "manifest for r/i:9 not found: manifest unknown: manifest unknown");
        assert!(matches!(missing, PullError::NotFound { .. }), "{missing:?}");
        let login = error(500, "Head \"https://r/v2/i/manifests/1\": no basic auth credentials");
        assert!(matches!(login, PullError::Unauthorized { .. }), "{login:?}");
        let host = error(500, "Get \"https://r/v2/\": dial tcp: lookup r: no such host");
        assert!(matches!(host, PullError::NoRoute { .. }), "{host:?}");
        let closed = error(500, "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused");
        assert!(matches!(closed, PullError::NoRoute { .. }), "{closed:?}");
        let full = error(0, "write /var/lib/docker/tmp/x: no space left on device");
        assert!(matches!(full, PullError::Failed { .. }), "{full:?}");
        let name = error(400, "invalid reference format: repository name must be lowercase");
        assert!(matches!(name, PullError::InvalidName { .. }), "{name:?}");
    }

    #[test]
    fn credentials_do_not_show_in_debug_output() {
        let auth = RegistryAuth { server: "r".into(), username: "u".into(), password: "hunter2".into() };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}
