//! How a container or a host process ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the main process of a boundary ended.
///
/// `code` and `signal` are both absent only when nobody saw the end; `error` then says why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Exit code; for a container that died of a signal it is the engine's 128 + signal.
    pub code: Option<i32>,
    /// The signal that ended it; for a container derived from a code above 128.
    pub signal: Option<i32>,
    /// The kernel killed a process of this boundary for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// How many processes of this boundary the kernel killed for want of memory, where its cgroup counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Why nobody saw the end, where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
    /// What the engine or the shim had to say about the end, e.g. that the program could not be started.
    #[serde(default)]
    pub error: Option<String>,
    /// When it ended, milliseconds since 1970, if known.
    #[serde(default)]
    pub ended_at_ms: Option<i64>,
}

/// Why nobody saw how a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// The host was booted since.
    Reboot,
    /// The shim, which would have written it down, was killed.
    ShimKilled,
    /// Somebody removed the container.
    Removed,
}

impl ExitStatus {
    /// Ended by itself with code 0 and nothing of it was killed.
    pub fn success(&self) -> bool {
        self.code == Some(0) && self.signal.is_none() && self.error.is_none()
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (_, Some(signal)) => {
                let name = nix::sys::signal::Signal::try_from(signal).map_or("unnamed", |s| s.as_str());
                write!(f, "killed by signal {signal} ({name})")?;
            }
            (Some(code), None) => write!(f, "exit code {code}")?,
            (None, None) => f.write_str("exit code unknown")?,
        }
        if self.oom_killed {
            f.write_str(", out of memory")?;
        }
        if let Some(error) = &self.error {
            write!(f, ", {error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_reads_as_a_person_would_say_it() {
        let plain = ExitStatus { code: Some(3), ..ExitStatus::default() };
        assert_eq!(plain.to_string(), "exit code 3");
        let oom = ExitStatus { code: Some(137), signal: Some(9), oom_killed: true, ..ExitStatus::default() };
        assert_eq!(oom.to_string(), "killed by signal 9 (SIGKILL), out of memory");
        let lost = ExitStatus { error: Some("the shim was killed".into()), ..ExitStatus::default() };
        assert_eq!(lost.to_string(), "exit code unknown, the shim was killed");
        assert!(!lost.success());
    }
}
