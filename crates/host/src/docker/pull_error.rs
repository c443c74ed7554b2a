//! Why an image could not be had, told apart by who has to do something about it.

use super::error::DockerError;
use super::registry::{RegistryAuth, registry_of};

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The policy is `Never` and the image is not on this host.
    #[error(
        "image `{image}` is not on this host and docker.pullPolicy is Never; pull it by hand, or set docker.pullPolicy to IfNotPresent"
    )]
    NeverPulled {
        /// Name of the image.
        image: String,
    },
    /// The registry does not know it (some registries say so as well when they want a login).
    #[error("image `{image}` was not found by its registry: {message}; {}", missing.what_to_do())]
    NotFound {
        /// Name of the image.
        image: String,
        /// What of it is missing, as far as that is known.
        missing: Missing,
        /// The engine's words.
        message: String,
    },
    /// The registry wants a login and got none.
    #[error(
        "registry `{registry}` gives image `{image}` only to users that log in, and this agent has no login for it: {message}; \
         add [registries.NAME] with address = \"{registry}\", user and password_file to the agent's configuration"
    )]
    NoLogin {
        /// Name of the image.
        image: String,
        /// Its registry.
        registry: String,
        /// The engine's words.
        message: String,
    },
    /// The registry refused the login that the configuration has for it, or this user may not have the image.
    #[error(
        "registry `{registry}` refused image `{image}` to user `{user}`: {message}; check user and password_file of \
         [registries.{key}] in the agent's configuration, and whether this user may read the repository"
    )]
    Unauthorized {
        /// Name of the image.
        image: String,
        /// Its registry.
        registry: String,
        /// Key of the registry in the configuration.
        key: String,
        /// Who logged in.
        user: String,
        /// The engine's words.
        message: String,
    },
    /// The registry cannot be reached from the engine's host.
    #[error(
        "the registry of image `{image}` cannot be reached: {message}; check network, proxy and the registry's name"
    )]
    NoRoute {
        /// Name of the image.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The registry was reached, and the connection was lost or ended in an error of the registry's own.
    #[error(
        "the connection to the registry of image `{image}` was lost: {message}; check the registry and the network to it"
    )]
    Lost {
        /// Name of the image.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// Nothing came for so long that the pull was given up.
    #[error(
        "the registry of image `{image}` stalls: nothing came for {seconds} s (docker.pull_silence_seconds in the agent's \
         configuration); check the registry, the network to it and the disk of the container engine"
    )]
    Stalled {
        /// Name of the image.
        image: String,
        /// How long nothing came.
        seconds: f64,
    },
    /// The text is no name of an image.
    #[error("`{image}` is no image name: {message}")]
    InvalidName {
        /// What was given.
        image: String,
        /// What is wrong.
        message: String,
    },
    /// Everything else that the registry or the engine said, e.g. a full disk.
    #[error("failed to pull image `{image}`: {message}")]
    Failed {
        /// Name of the image.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The engine itself failed.
    #[error(transparent)]
    Engine(#[from] DockerError),
}

/// What a registry does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// One of the two.
    RepositoryOrTag,
    /// There is no repository of this name.
    Repository,
    /// The repository is there, with these tags.
    Tag {
        /// Some of its tags.
        there: Vec<String>,
    },
}

/// Most tags that a message names.
const NAMED_TAGS: usize = 10;

impl Missing {
    fn what_to_do(&self) -> String {
        match self {
            Self::RepositoryOrTag => {
                "check name and tag, and whether the registry wants a login ([registries.*] in the agent's configuration)".into()
            }
            Self::Repository => "it has no repository of this name; check the name, or push the image".into(),
            Self::Tag { there } if there.is_empty() => {
                "the repository is there and has no tags; push the image".into()
            }
            Self::Tag { there } => {
                let more = if there.len() > NAMED_TAGS { ", .." } else { "" };
                let named: Vec<&str> = there.iter().take(NAMED_TAGS).map(String::as_str).collect();
                format!("the repository is there and has the tags {}{more}; check the tag", named.join(", "))
            }
        }
    }
}

impl PullError {
    /// It may go another way if it is tried again within seconds.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Stalled { .. } => true,
            Self::NoRoute { message, .. } => !message.contains("no such host"),
            Self::Engine(error) => error.is_unavailable(),
            _ => false,
        }
    }

    /// It would go the same way however often it is tried: name, tag, login or policy are wrong.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::NeverPulled { .. }
                | Self::NotFound { .. }
                | Self::NoLogin { .. }
                | Self::Unauthorized { .. }
                | Self::InvalidName { .. }
        )
    }

    /// Sorts what the engine said: it passes on the registry's words only as text.
    pub(super) fn of_engine(image: &str, login: Option<&RegistryAuth>, error: DockerError) -> Self {
        let name = image;
        let image = image.to_owned();
        let (status, message) = match error {
            DockerError::NotFound { message, .. } => (404, message),
            DockerError::Conflict { message, .. } => (409, message),
            DockerError::Refused { status, message, .. } => (status, message),
            other => return Self::Engine(other),
        };
        let lower = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if status == 400 || says(&["invalid reference format"]) {
            Self::InvalidName { image, message }
        } else if says(LOGIN) && !says(&["repository does not exist"]) {
            let registry = registry_of(name).to_owned();
            match login {
                None => Self::NoLogin { image, registry, message },
                Some(auth) => {
                    let (key, user) = (auth.key.clone(), auth.username.clone());
                    Self::Unauthorized { image, registry, key, user, message }
                }
            }
        } else if says(&["manifest unknown", "not found", "repository does not exist", "name unknown"])
            && !says(&["no such host"])
        {
            let missing =
                if says(&["name unknown", "name_unknown"]) { Missing::Repository } else { Missing::RepositoryOrTag };
            Self::NotFound { image, missing, message }
        } else if says(NO_ROUTE) {
            Self::NoRoute { image, message }
        } else if says(LOST) || lower.ends_with("eof") {
            Self::Lost { image, message }
        } else {
            Self::Failed { image, message }
        }
    }
}

const LOGIN: &[&str] = &[
    "no basic auth credentials",
    "authentication required",
    "unauthorized",
    "incorrect username",
    "denied: ",
    "401 ",
    "403 forbidden",
];

const NO_ROUTE: &[&str] = &[
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
];

const LOST: &[&str] = &[
    "unexpected eof",
    ": eof",
    "connection reset by peer",
    "broken pipe",
    "use of closed network connection",
    "server closed idle connection",
    "http2: ",
    // What the engine says of its own pulls when it goes down.
    "context canceled",
    "unexpected http status: 5",
    "bad gateway",
    "service unavailable",
    "gateway timeout",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(status: u16, message: &str, login: Option<&RegistryAuth>) -> PullError {
        let error = DockerError::Refused { doing: String::new(), status, message: message.into() };
        PullError::of_engine("r:5000/a/i:9", login, error)
    }

    #[test]
    fn the_registrys_refusals_are_told_apart() {
        let error = |status, message: &str| sorted(status, message, None);
        let missing = error(500, "manifest for r/i:9 not found: manifest unknown: manifest unknown");
        assert!(matches!(missing, PullError::NotFound { missing: Missing::RepositoryOrTag, .. }), "{missing:?}");
        let nameless = error(404, "repository r/i not found: name unknown: repository name not known to registry");
        assert!(matches!(nameless, PullError::NotFound { missing: Missing::Repository, .. }), "{nameless:?}");
        let hub = error(
            404,
            "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        );
        assert!(matches!(hub, PullError::NotFound { .. }), "{hub:?}");
        assert!(hub.to_string().contains("[registries.*]"), "{hub}");
        let host = error(500, "Get \"https://r/v2/\": dial tcp: lookup r: no such host");
        assert!(matches!(host, PullError::NoRoute { .. }) && !host.is_passing(), "{host:?}");
        let closed = error(500, "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused");
        assert!(matches!(closed, PullError::NoRoute { .. }) && closed.is_passing(), "{closed:?}");
        let full = error(0, "write /var/lib/docker/tmp/x: no space left on device");
        assert!(matches!(full, PullError::Failed { .. }) && !full.is_passing(), "{full:?}");
        let name = error(400, "invalid reference format: repository name must be lowercase");
        assert!(matches!(name, PullError::InvalidName { .. }) && name.is_lasting(), "{name:?}");
    }

    #[test]
    fn a_login_that_is_missing_and_one_that_is_wrong_say_what_to_do() {
        let none = sorted(500, "Head \"https://r/v2/i/manifests/1\": no basic auth credentials", None);
        assert!(none.is_lasting() && none.to_string().contains("address = \"r:5000\""), "{none}");
        let auth = RegistryAuth::new("lab", "r:5000", "rig", "wrong");
        let wrong = sorted(500, "Get \"http://r:5000/v2/\": unauthorized: authentication required", Some(&auth));
        let text = wrong.to_string();
        assert!(text.contains("user `rig`") && text.contains("[registries.lab]") && !text.contains("wrong"), "{text}");
    }

    #[test]
    fn what_a_lost_connection_looks_like_is_tried_again() {
        for message in [
            "Get \"http://127.0.0.1:5/v2/\": EOF",
            "unexpected EOF",
            "read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer",
            "received unexpected HTTP status: 503 Service Unavailable",
            "context canceled",
        ] {
            let error = sorted(500, message, None);
            assert!(matches!(error, PullError::Lost { .. }) && error.is_passing(), "{error:?}");
        }
        assert!(PullError::Stalled { image: "i".into(), seconds: 1.0 }.is_passing());
    }

    #[test]
    fn what_is_missing_is_named_with_the_tags_that_are_there() {
        let error = |missing| PullError::NotFound { image: "r/i:9".into(), missing, message: "no".into() }.to_string();
        let tags = (1..=11).map(|n| n.to_string()).collect();
        assert!(
            error(Missing::Tag { there: tags })
                .ends_with("has the tags 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..; check the tag")
        );
        assert!(error(Missing::Tag { there: Vec::new() }).contains("has no tags"));
        assert!(error(Missing::Repository).contains("no repository of this name"));
    }
}
