//! What can go wrong between a client and a PowerJob server.

use std::fmt;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenApiError {
    /// The client cannot be built from what it was given.
    Config(String),
    /// No configured address answered.
    NoServer {
        /// Path that was asked.
        path: String,
        /// Each address tried and what happened there.
        tried: Vec<(String, String)>,
    },
    /// The request reached (or may have reached) a server, but its answer did not arrive. Only for calls that must not be
    /// made twice: the next address was not tried.
    Unanswered {
        /// Address that was asked.
        server: String,
        /// Path that was asked.
        path: String,
        /// What happened.
        detail: String,
    },
    /// The server answered `success: false`.
    Refused {
        /// Address that answered.
        server: String,
        /// Path that was asked.
        path: String,
        /// The server's own words.
        message: String,
        /// `code` of 5.x servers, e.g. `-501`.
        code: Option<String>,
    },
    /// Something answered, but not as a PowerJob server does (404, 500, a proxy's page, a body of another shape).
    Unexpected {
        /// Address that answered.
        server: String,
        /// Path that was asked.
        path: String,
        /// HTTP status.
        status: u16,
        /// Beginning of the body, or what is wrong with it.
        detail: String,
    },
}

impl OpenApiError {
    /// The server's message, if it refused.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Refused { message, .. } => Some(message),
            _ => None,
        }
    }

    /// The server's code, if it refused and gave one (5.x only).
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// True when nothing answered at all: worth trying again later.
    pub fn is_no_server(&self) -> bool {
        matches!(self, Self::NoServer { .. })
    }

    /// True when the server does not know the app.
    pub fn app_not_registered(&self) -> bool {
        self.message().is_some_and(|m| m.contains("is not registered"))
    }

    /// True when the server does not know the instance.
    pub fn instance_unknown(&self) -> bool {
        self.message().is_some_and(|m| {
            let m = m.to_ascii_lowercase();
            m.contains("can't find instance")
                || m.contains("instanceinfo") && m.contains("null")
                || m.contains("invalid instanceid")
        })
    }

    /// True when the server has no such path (another version).
    pub fn is_missing_path(&self) -> bool {
        matches!(self, Self::Unexpected { status: 404 | 405, .. })
    }
}

impl fmt::Display for OpenApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) => f.write_str(text),
            Self::NoServer { path, tried } => {
                write!(f, "no PowerJob server answered {path}")?;
                for (index, (server, why)) in tried.iter().enumerate() {
                    write!(f, "{}{server}: {why}", if index == 0 { " (" } else { "; " })?;
                }
                if tried.is_empty() { Ok(()) } else { f.write_str(")") }
            }
            Self::Unanswered { server, path, detail } => write!(
                f,
                "{server} did not answer {path} ({detail}); it may have been carried out, so no other server was asked"
            ),
            Self::Refused { server, path, message, code } => {
                write!(f, "{server} refused {path}: {message}")?;
                code.as_ref().map_or(Ok(()), |code| write!(f, " (code {code})"))
            }
            Self::Unexpected { server, path, status, detail } => write!(
                f,
                "{server} answered {path} with HTTP {status}, which is no answer of a PowerJob server: {detail}; check that the address is \
                 the server's web port (7700 by default)"
            ),
        }
    }
}

impl std::error::Error for OpenApiError {}
