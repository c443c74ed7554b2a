//! The channels that this version serves: a generic webhook and Feishu's robots.

mod feishu;
mod im;

use std::fmt;

use serde_json::Value;

use super::{facts::Facts, text::Message};
use crate::outbound::{self, Fault};

pub(super) use feishu::{Look, plain_id as can_mention};

/// A channel with its configuration.
#[derive(Clone)]
pub(super) enum Channel {
    /// JSON to any webhook.
    Im { url: String },
    /// A custom robot of Feishu.
    Feishu { url: String, secret: Option<String>, look: Look },
}

/// What identifies a message: the same text for every try of it.
#[derive(Clone, Debug)]
pub(super) struct Delivery<'a> {
    pub(super) instance_id: i64,
    pub(super) facts: &'a Facts,
    pub(super) message: &'a Message,
}

impl Channel {
    /// The name in parameters and in the store.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Im { .. } => "im",
            Self::Feishu { .. } => "feishu",
        }
    }

    fn url(&self) -> &str {
        match self {
            Self::Im { url } | Self::Feishu { url, .. } => url,
        }
    }

    /// Sends once.
    pub(super) async fn send(&self, http: &reqwest::Client, delivery: &Delivery<'_>) -> Result<(), Fault> {
        let key = format!("{}-{}", delivery.instance_id, self.name());
        let body: Value = match self {
            Self::Im { .. } => im::body(delivery, &key),
            Self::Feishu { secret, look, .. } => {
                let now = jiff::Timestamp::now().as_second();
                feishu::body(delivery, *look, secret.as_deref(), now)
            }
        };
        // Where an answer is lost and the message is sent again, a receiver can tell by the key.
        let answer = outbound::post(http, self.url(), &body, &[("Idempotency-Key", key)]).await?;
        match self {
            Self::Im { .. } => Ok(()),
            Self::Feishu { .. } => feishu::check(&answer),
        }
    }
}

/// Name and host; the rest of the address is a secret.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), outbound::shown(self.url()))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
