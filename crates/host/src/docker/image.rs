//! Images: whether one is here.

use serde::{Deserialize, Serialize};

use super::client::{Docker, QUICK};
use super::error::DockerError;
use super::pull::PullSettings;
use super::pull_error::PullError;

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

    /// Makes sure that the image is here, as the policy says; `progress` gets readable lines: the ends of layers, a summary every
    /// few seconds, and what went wrong and is tried again.
    ///
    /// # Errors
    /// [`PullError`], each told apart. Dropping the future ends the pull.
    pub async fn ensure_image(
        &self,
        name: &str,
        policy: PullPolicy,
        settings: &PullSettings,
        mut progress: impl FnMut(String) + Send,
    ) -> Result<ImageInfo, PullError> {
        if policy != PullPolicy::Always {
            let mut found = self.image(name).await;
            if let Err(error) = &found
                && error.is_unavailable()
            {
                progress(format!("{error}; waiting up to {} s for it", settings.engine_patience.as_secs()));
                self.back_within(settings.engine_patience).await;
                found = self.image(name).await;
            }
            if let Some(image) = found? {
                return Ok(image);
            }
            if policy == PullPolicy::Never {
                return Err(PullError::NeverPulled { image: name.to_owned() });
            }
        }
        self.pull(name, settings, progress).await
    }
}
