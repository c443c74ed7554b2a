//! Pulling an image, through lost connections and outages of the engine.
//!
//! The engine itself goes on with a layer whose download was cut, from the byte where it was (five times, with growing
//! pauses), and keeps the layers that are complete. What it gives up at once is everything else: the manifest, the
//! configuration, the login. So a pull that ended by something passing is begun again; layers that are here are not fetched
//! twice.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::client::Docker;
use super::image::ImageInfo;
use super::pull_error::{Missing, PullError};
use super::pull_progress::Progress;
use super::registry::{RegistryAuth, what_is_missing};

/// Before the second try; three times as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(500);

/// How images are pulled. Cheap to clone but for the logins.
#[derive(Clone, Debug)]
pub struct PullSettings {
    /// Logins, each for one registry.
    pub logins: Vec<RegistryAuth>,
    /// A pull that says nothing for this long stalls and is given up. Large layers report several times a second.
    pub silence: Duration,
    /// How often a pull is begun in all where what ended it may pass.
    pub tries: u32,
    /// How long an engine that does not answer is waited for, before a pull and before each further try.
    pub engine_patience: Duration,
    /// How often a summary of a pull is given.
    pub report_every: Duration,
    /// Asks registries what they have when an image is missing; without it that is not asked. It must not follow redirects.
    pub http: Option<reqwest::Client>,
}

impl Default for PullSettings {
    fn default() -> Self {
        Self {
            logins: Vec::new(),
            silence: Duration::from_secs(300),
            tries: 4,
            engine_patience: Duration::from_secs(20),
            report_every: Duration::from_secs(5),
            http: None,
        }
    }
}

impl PullSettings {
    /// The login for this image's registry.
    pub fn login_for(&self, image: &str) -> Option<&RegistryAuth> {
        self.logins.iter().find(|login| login.serves(image))
    }
}

impl Docker {
    pub(super) async fn pull(
        &self,
        name: &str,
        settings: &PullSettings,
        mut progress: impl FnMut(String) + Send,
    ) -> Result<ImageInfo, PullError> {
        let login = settings.login_for(name);
        if let Some(login) = login {
            progress(format!("logging in to {} as user `{}`", login.server, login.username));
        }
        let mut pause = FIRST_PAUSE;
        let mut tried = 1;
        loop {
            let error = match self.pull_once(name, login, settings, &mut progress).await {
                Ok(image) => return Ok(image),
                Err(error) => error,
            };
            if !error.is_passing() || tried >= settings.tries {
                return Err(explained(name, login, settings, error).await);
            }
            tried += 1;
            progress(format!("{error}; try {tried} of {} in {} s", settings.tries, pause.as_secs()));
            tokio::time::sleep(pause).await;
            pause = (pause * 3).min(LONGEST_PAUSE);
            if matches!(error, PullError::Engine(_)) {
                self.back_within(settings.engine_patience).await;
            }
        }
    }

    /// Returns when the engine answers, or the time is over.
    pub(super) async fn back_within(&self, limit: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < limit && self.ping().await.is_err_and(|error| error.is_unavailable()) {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn pull_once(
        &self,
        name: &str,
        login: Option<&RegistryAuth>,
        settings: &PullSettings,
        progress: &mut (impl FnMut(String) + Send),
    ) -> Result<ImageInfo, PullError> {
        let doing = format!("pull image `{name}`");
        let (from_image, tag) = split_reference(name);
        let options = CreateImageOptions {
            from_image: Some(from_image.to_owned()),
            tag: Some(tag.to_owned()),
            ..CreateImageOptions::default()
        };
        let credentials = login.map(RegistryAuth::credentials);
        let mut events = self.client(&doing)?.create_image(Some(options), None, credentials);
        let mut seen = Progress::new(settings.report_every, Instant::now());
        loop {
            match tokio::time::timeout(settings.silence, events.next()).await {
                Err(_) => {
                    return Err(PullError::Stalled { image: name.to_owned(), seconds: settings.silence.as_secs_f64() });
                }
                Ok(None) => break,
                Ok(Some(Ok(event))) => {
                    if let Some(line) = seen.event(&event, Instant::now()) {
                        progress(line);
                    }
                }
                Ok(Some(Err(error))) => return Err(PullError::of_engine(name, login, self.fail(&doing, error))),
            }
        }
        self.image(name).await?.ok_or_else(|| PullError::Failed {
            image: name.to_owned(),
            message: "the engine reported success but does not have it".to_owned(),
        })
    }
}

/// Says of a missing image what of it is missing, where the registry can be asked.
async fn explained(name: &str, login: Option<&RegistryAuth>, settings: &PullSettings, error: PullError) -> PullError {
    match (error, &settings.http, login) {
        (PullError::NotFound { image, missing: Missing::RepositoryOrTag, message }, Some(http), Some(login)) => {
            let missing = what_is_missing(http, login, name).await.unwrap_or(Missing::RepositoryOrTag);
            PullError::NotFound { image, missing, message }
        }
        (error, ..) => error,
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
}
