//! Signals as users write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signal: `SIGTERM`, `TERM`, `term` or `15`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(i32);

/// The highest signal number of Linux (`SIGRTMAX`).
const HIGHEST: i32 = 64;

impl Signal {
    /// `SIGTERM`.
    pub const TERM: Self = Self(nix::libc::SIGTERM);
    /// `SIGKILL`.
    pub const KILL: Self = Self(nix::libc::SIGKILL);
    /// `SIGINT`.
    pub const INT: Self = Self(nix::libc::SIGINT);

    /// The number that the kernel uses.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// A text that names no signal.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no signal: accepted are names such as `SIGTERM` or `TERM` and numbers from 1 to {HIGHEST}")]
pub struct InvalidSignal(String);

impl FromStr for Signal {
    type Err = InvalidSignal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || InvalidSignal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=HIGHEST).contains(&number) { Ok(Self(number)) } else { Err(wrong()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        nix::sys::signal::Signal::from_str(&name).map(|s| Self(s as i32)).map_err(|_| wrong())
    }
}

impl TryFrom<String> for Signal {
    type Error = InvalidSignal;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(named) => f.write_str(named.as_str()),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_with_and_without_its_prefix_and_as_a_number() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(text.parse::<Signal>().expect(text), Signal::TERM);
        }
        assert_eq!("40".parse::<Signal>().expect("real-time signal").to_string(), "40");
    }

    #[test]
    fn an_unknown_signal_is_refused_with_what_is_accepted() {
        for text in ["SIGNOPE", "0", "65", "-9", ""] {
            let error = text.parse::<Signal>().expect_err(text).to_string();
            assert!(error.contains("accepted are names"), "{error}");
        }
    }
}
