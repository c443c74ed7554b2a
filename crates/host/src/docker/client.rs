//! The connection to the engine: made when first needed, made again after a failure, every call with a time limit.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;
use parking_lot::Mutex;

use super::error::{DockerError, classify};

/// Limit for calls that the engine answers from its own memory.
pub(super) const QUICK: Duration = Duration::from_secs(15);
/// Limit for calls that start, stop or remove something.
pub(super) const SLOW: Duration = Duration::from_secs(120);
/// bollard's own limit until the answer's head arrives; ours are shorter, except for pulls and waits.
const HEAD_SECS: u64 = 300;

/// A container engine. Cheap to clone; a clone talks to the same engine.
#[derive(Clone, Debug)]
pub struct Docker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: String,
    client: Mutex<Option<bollard::Docker>>,
}

/// What the engine says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Version of the engine, e.g. `20.10.24`.
    pub version: String,
    /// Version of its API, e.g. `1.41`.
    pub api_version: String,
    /// Runtimes that a container may name.
    pub runtimes: Vec<String>,
    /// An init program is installed beside the engine, so that containers can have one.
    pub init: bool,
    /// Containers go on while the engine restarts.
    pub live_restore: bool,
    /// The runtime of a container that names none.
    pub default_runtime: Option<String>,
    /// CDI devices that the engine found (28.2 and newer), e.g. `nvidia.com/gpu=0`.
    pub cdi_devices: Vec<String>,
}

impl Docker {
    /// Takes `unix:///path`, `/path`, `tcp://host:port` or `http://host:port`.
    ///
    /// Does not talk to the engine: one that is absent now may be there when a job comes. [`Docker::ping`] does.
    ///
    /// # Errors
    /// [`DockerError::InvalidEndpoint`].
    pub fn connect(endpoint: &str) -> Result<Self, DockerError> {
        let endpoint = if endpoint.starts_with('/') { format!("unix://{endpoint}") } else { endpoint.to_owned() };
        let known = ["unix://", "tcp://", "http://"]
            .iter()
            .any(|scheme| endpoint.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
        if !known {
            return Err(DockerError::InvalidEndpoint { endpoint });
        }
        Ok(Self { inner: Arc::new(Inner { endpoint, client: Mutex::new(None) }) })
    }

    /// The address as given.
    pub fn endpoint(&self) -> &str {
        &self.inner.endpoint
    }

    /// Asks the engine who it is.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], naming the endpoint and what to do.
    pub async fn ping(&self) -> Result<EngineInfo, DockerError> {
        let (version, info) = tokio::try_join!(
            self.call("ask the engine's version", QUICK, async |d| d.version().await),
            self.call("ask the engine's settings", QUICK, async |d| d.info().await),
        )?;
        let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort();
        Ok(EngineInfo {
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            runtimes,
            init: info.init_binary.is_some_and(|name| !name.is_empty())
                && info.init_commit.is_some_and(|c| c.id.is_some_and(|id| !id.is_empty() && id != "N/A")),
            live_restore: info.live_restore_enabled.unwrap_or_default(),
            default_runtime: info.default_runtime,
            cdi_devices: info
                .discovered_devices
                .unwrap_or_default()
                .into_iter()
                .filter_map(|device| device.id)
                .collect(),
        })
    }

    /// One call with a time limit; the error says what was tried.
    pub(super) async fn call<T, Fut>(
        &self,
        doing: &str,
        limit: Duration,
        call: impl FnOnce(bollard::Docker) -> Fut,
    ) -> Result<T, DockerError>
    where
        Fut: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let client = self.client(doing)?;
        match tokio::time::timeout(limit, call(client)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.fail(doing, error)),
            Err(_) => Err(self.too_slow(doing, limit)),
        }
    }

    /// bollard's client. It sends requests without a version in the path, so every engine answers with its own newest
    /// API and there is no version that could be too old or too new.
    pub(super) fn client(&self, doing: &str) -> Result<bollard::Docker, DockerError> {
        let mut slot = self.inner.client.lock();
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let endpoint = self.endpoint();
        let made = if endpoint.starts_with("unix://") {
            bollard::Docker::connect_with_unix(endpoint, HEAD_SECS, API_DEFAULT_VERSION)
        } else {
            bollard::Docker::connect_with_http(endpoint, HEAD_SECS, API_DEFAULT_VERSION)
        };
        let client = made.map_err(|error| classify(endpoint, doing, error))?.with_request_modifier(url_safe_login);
        *slot = Some(client.clone());
        Ok(client)
    }

    /// The error of a call, sorted.
    pub(super) fn fail(&self, doing: &str, error: bollard::errors::Error) -> DockerError {
        classify(self.endpoint(), doing, error)
    }

    /// No answer within the limit: unknown, as if the engine were absent.
    pub(super) fn too_slow(&self, doing: &str, limit: Duration) -> DockerError {
        DockerError::Unavailable {
            doing: doing.to_owned(),
            endpoint: self.endpoint().to_owned(),
            detail: format!("no answer within {} s", limit.as_secs_f32()),
        }
    }
}

/// Engines read the login of a pull as URL-safe base64 and take one that is not for no login at all, without a word; bollard
/// writes the other alphabet, so that a password with `?`, `>` or `~` in the wrong place would not arrive.
fn url_safe_login(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth")
        && let Ok(text) = value.to_str()
        && let Ok(safe) = text.replace('+', "-").replace('/', "_").parse()
    {
        *value = safe;
        value.set_sensitive(true);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_of_another_kind_is_refused_with_what_is_accepted() {
        for bad in ["", "ssh://host", "npipe:////./pipe/x", "localhost:2375", "unix://"] {
            let error = Docker::connect(bad).expect_err(bad).to_string();
            assert!(error.contains("unix:///path/to/socket"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_absent_engine_does_not_fail_the_connect_but_the_ping() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let endpoint = format!("unix://{}/none.sock", dir.path().display());
        let docker = Docker::connect(&endpoint).expect("nothing is asked yet");
        let error = docker.ping().await.expect_err("there is no engine");
        assert!(error.is_unavailable(), "{error}");
        assert!(error.to_string().contains(&endpoint), "{error}");
    }

    #[tokio::test]
    async fn an_engine_that_accepts_and_says_nothing_is_unavailable_not_waited_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("mute.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).expect("socket");
        let docker = Docker::connect(&socket.display().to_string()).expect("path of a socket");
        let limit = Duration::from_millis(100);
        let error = docker.call("ask", limit, async |d| d.version().await).await.expect_err("mute");
        assert!(error.is_unavailable() && error.to_string().contains("no answer within"), "{error}");
    }
}
