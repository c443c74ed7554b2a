//! The name of everything that one attempt of one instance started.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Container label that holds the boundary's name.
pub const LABEL_BOUNDARY: &str = "testrig.boundary";
/// Container label that holds the instance id.
pub const LABEL_INSTANCE: &str = "testrig.instance";
/// Container label that holds the platform's task id.
pub const LABEL_PLATFORM_TASK: &str = "testrig.platformTask";
/// Container label that tells agents on one engine apart: their instance ids, and so their boundaries, may be the same.
pub const LABEL_AGENT: &str = "testrig.agent";
/// Environment variable that marks every process of a boundary.
pub const ENV_BOUNDARY: &str = "TESTRIG_BOUNDARY";

/// The longest accepted name: it is a directory and cgroup name, too.
const MAX_LEN: usize = 128;

/// Name of a boundary, e.g. `testrig-819231-0` or `testrig-819231-0-setup`.
///
/// Letters, digits, `.`, `_` and `-` only, starting with a letter or digit: it is a container name, a label value, a
/// directory, a cgroup and an environment value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoundaryId(String);

impl BoundaryId {
    /// The main boundary of an attempt of an instance.
    pub fn new(instance_id: i64, attempt: u32) -> Self {
        Self(format!("testrig-{instance_id}-{attempt}"))
    }

    /// A further boundary of the same attempt, e.g. for its set-up script.
    ///
    /// # Errors
    /// `part` holds a character that a boundary's name cannot hold, or the name gets too long.
    pub fn part(&self, part: &str) -> Result<Self, InvalidBoundaryId> {
        format!("{}-{part}", self.0).parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that cannot name a boundary.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` cannot name a boundary: accepted are 1 to {MAX_LEN} letters, digits, `.`, `_`, `-`, the first a letter or digit"
)]
pub struct InvalidBoundaryId(String);

impl FromStr for BoundaryId {
    type Err = InvalidBoundaryId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let fits = bytes.len() <= MAX_LEN
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidBoundaryId(text.to_owned())) }
    }
}

impl TryFrom<String> for BoundaryId {
    type Error = InvalidBoundaryId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BoundaryId> for String {
    fn from(id: BoundaryId) -> Self {
        id.0
    }
}

impl fmt::Display for BoundaryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_named_after_instance_and_attempt() {
        let id = BoundaryId::new(819_231, 2);
        assert_eq!(id.as_str(), "testrig-819231-2");
        assert_eq!(id.part("setup").expect("plain word").as_str(), "testrig-819231-2-setup");
    }

    #[test]
    fn a_name_that_would_leave_its_directory_is_refused() {
        for bad in ["", "..", "a/b", "-x", "a b", "é", &"x".repeat(129)] {
            assert!(bad.parse::<BoundaryId>().is_err(), "{bad}");
        }
    }
}
