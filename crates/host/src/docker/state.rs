//! What a container is at this moment, as far as callers need it.

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};

use crate::{ExitStatus, LABEL_BOUNDARY};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Made, not started.
    Created,
    /// Running (also paused or being stopped).
    Running,
    /// Ended; [`ContainerInfo::exit`] says how.
    Exited,
    /// The engine is removing it, or failed to.
    Removing,
}

/// A container as the engine sees it now.
#[derive(Clone, Debug)]
pub struct ContainerInfo {
    /// Full id.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Id of its image.
    pub image_id: String,
    /// Where it is in its life.
    pub phase: ContainerPhase,
    /// How it ended; only when [`ContainerPhase::Exited`].
    pub exit: Option<ExitStatus>,
    /// The engine has seen that the kernel killed a process of it for want of memory, be it running or not.
    pub oom_killed: bool,
    /// Process id of its main process in the engine's pid namespace, while it runs.
    pub pid: Option<i64>,
    /// When it was started, milliseconds since 1970.
    pub started_at_ms: Option<i64>,
    /// All labels.
    pub labels: std::collections::HashMap<String, String>,
    /// Ports that are published now.
    pub ports: Vec<PublishedPort>,
    /// Address in the container's first network, if it has one.
    pub ip_address: Option<String>,
    /// Network mode that it was created with.
    pub network_mode: String,
}

/// A port of the container and where it is reachable on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    /// TCP port in the container.
    pub container: u16,
    /// Port on the host.
    pub host: u16,
    /// Address on the host, e.g. `0.0.0.0`.
    pub bind: String,
}

impl ContainerInfo {
    /// How many processes of it the kernel has killed for want of memory so far, by its cgroup; `None` when it does not run,
    /// or not on this host.
    pub fn oom_kills(&self) -> Option<u64> {
        let pid = self.pid.and_then(|pid| i32::try_from(pid).ok())?;
        crate::process::cgroup::oom_kills_of_container(&self.id, pid)
    }

    /// The label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The boundary that it belongs to, if it is one of ours.
    pub fn boundary(&self) -> Option<&str> {
        self.label(LABEL_BOUNDARY)
    }

    /// The host's port for a port of the container.
    pub fn host_port(&self, container: u16) -> Option<u16> {
        self.ports.iter().find(|p| p.container == container).map(|p| p.host)
    }

    pub(super) fn from_engine(raw: ContainerInspectResponse) -> Self {
        let state = raw.state.unwrap_or_default();
        let error = state.error.filter(|text| !text.is_empty());
        let phase = match state.status {
            // A start that failed leaves the container "created", with an error and a code.
            Some(ContainerStateStatusEnum::CREATED) if error.is_some() => ContainerPhase::Exited,
            Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY) | None => ContainerPhase::Created,
            Some(
                ContainerStateStatusEnum::RUNNING
                | ContainerStateStatusEnum::PAUSED
                | ContainerStateStatusEnum::RESTARTING
                | ContainerStateStatusEnum::STOPPING,
            ) => ContainerPhase::Running,
            Some(ContainerStateStatusEnum::REMOVING) => ContainerPhase::Removing,
            // A dead container is one whose removal failed half-way; its process has ended.
            Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => ContainerPhase::Exited,
        };
        let exit = (phase == ContainerPhase::Exited).then(|| {
            exit_status(
                state.exit_code,
                state.oom_killed.unwrap_or_default(),
                error,
                state.finished_at.as_deref().and_then(epoch_ms),
            )
        });
        let network = raw.network_settings.unwrap_or_default();
        let ports = network.ports.unwrap_or_default().into_iter().flat_map(|(port, bindings)| {
            let container = port.strip_suffix("/tcp").and_then(|p| p.parse().ok());
            bindings.unwrap_or_default().into_iter().filter_map(move |binding| {
                Some(PublishedPort {
                    container: container?,
                    host: binding.host_port?.parse().ok()?,
                    bind: binding.host_ip.unwrap_or_default(),
                })
            })
        });
        let mut ports: Vec<PublishedPort> = ports.collect();
        // IPv4 first: the same port is often listed for `::` as well.
        ports.sort_by(|a, b| {
            (a.container, a.bind.contains(':'), a.host).cmp(&(b.container, b.bind.contains(':'), b.host))
        });
        Self {
            id: raw.id.unwrap_or_default(),
            name: raw.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image_id: raw.image.unwrap_or_default(),
            phase,
            exit,
            oom_killed: state.oom_killed.unwrap_or_default(),
            pid: state.pid.filter(|pid| *pid > 0),
            started_at_ms: state.started_at.as_deref().and_then(epoch_ms),
            labels: raw.config.and_then(|c| c.labels).unwrap_or_default(),
            ports,
            ip_address: network
                .networks
                .unwrap_or_default()
                .into_values()
                .find_map(|n| n.ip_address.filter(|ip| !ip.is_empty())),
            network_mode: raw.host_config.and_then(|h| h.network_mode).unwrap_or_default(),
        }
    }
}

/// The engine reports a death by signal as 128 + signal; a program may return such a code by itself, too, which nobody can
/// tell apart from outside.
fn exit_status(code: Option<i64>, oom_killed: bool, error: Option<String>, ended_at_ms: Option<i64>) -> ExitStatus {
    let code = code.and_then(|c| i32::try_from(c).ok());
    let signal = code.filter(|c| (129..=128 + 64).contains(c)).map(|c| c - 128);
    ExitStatus { code, signal, oom_killed, error, ended_at_ms, ..ExitStatus::default() }
}

/// RFC 3339 to milliseconds since 1970; the engine's "never" is the year 1.
fn epoch_ms(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_millisecond()).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ContainerState;

    fn inspected(state: ContainerState) -> ContainerInfo {
        ContainerInfo::from_engine(ContainerInspectResponse { state: Some(state), ..Default::default() })
    }

    #[test]
    fn a_code_above_128_is_a_signal_and_an_oom_is_told() {
        let info = inspected(ContainerState {
            status: Some(ContainerStateStatusEnum::EXITED),
            exit_code: Some(137),
            oom_killed: Some(true),
            finished_at: Some("2025-11-23T10:00:00.5Z".into()),
            ..Default::default()
        });
        let exit = info.exit.expect("ended");
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(137), Some(9), true));
        assert_eq!(exit.ended_at_ms, Some(1_763_892_000_500));
    }

    #[test]
    fn a_container_that_runs_has_no_exit_even_though_the_engine_says_code_zero() {
        let info = inspected(ContainerState {
            status: Some(ContainerStateStatusEnum::RUNNING),
            exit_code: Some(0),
            finished_at: Some("0001-01-01T00:00:00Z".into()),
            ..Default::default()
        });
        assert_eq!(info.phase, ContainerPhase::Running);
        assert!(info.exit.is_none());
    }

    #[test]
    fn a_container_that_could_not_be_started_has_its_error_in_the_exit() {
        let info = inspected(ContainerState {
            status: Some(ContainerStateStatusEnum::CREATED),
            exit_code: Some(127),
            error: Some("exec: \"nope\": not found".into()),
            ..Default::default()
        });
        let exit = info.exit.expect("ended");
        assert_eq!((exit.code, exit.signal), (Some(127), None));
        assert!(exit.error.expect("told").contains("nope"));
    }
}
