//! How a run ended: one closed list, and the rules that choose from it.

use serde::{Deserialize, Serialize};
use testrig_host::{ExitStatus, Unseen, docker::DockerError, docker::PullError};

use super::state::Stage;

/// How a run ended. Every run has exactly one; the names are part of `result.json` and stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    /// The test was made and the service lived until testrig ended it.
    Completed,
    /// The service was ready and ended by itself, with this exit code.
    ExitCode,
    /// A signal that testrig did not send killed the service.
    Signal,
    /// The kernel killed the service's main process for want of memory.
    OomMain,
    /// The kernel killed another process of the service for want of memory.
    OomChild,
    /// A time limit of the run, of the job or of a stage was reached.
    TimeLimit,
    /// The instance was stopped, or the agent's operator ended the agent and its runs.
    Cancelled,
    /// The service lived and never passed its health check.
    NeverReady,
    /// The service lived and no longer passed its health check.
    HealthLost,
    /// The service ended by itself before it was ready.
    EarlyExit,
    /// The image could not be had.
    ImagePull,
    /// The service could not be made or started.
    NotStarted,
    /// The service lived, but the test of it did not succeed.
    TestFailed,
    /// The container engine was lost.
    EngineLost,
    /// A leased accelerator failed or disappeared.
    DeviceLost,
    /// There was no room left on a disk.
    DiskFull,
    /// The parameters are not usable.
    BadParameters,
    /// The agent does not allow or cannot give what was asked for.
    Refused,
    /// The host was rebooted under the run.
    HostReboot,
    /// Nobody saw what happened.
    #[default]
    Unknown,
}

/// Every ending with its name.
pub(super) const ALL: [(Ending, &str); 20] = [
    (Ending::Completed, "completed"),
    (Ending::ExitCode, "exit_code"),
    (Ending::Signal, "signal"),
    (Ending::OomMain, "oom_main"),
    (Ending::OomChild, "oom_child"),
    (Ending::TimeLimit, "time_limit"),
    (Ending::Cancelled, "cancelled"),
    (Ending::NeverReady, "never_ready"),
    (Ending::HealthLost, "health_lost"),
    (Ending::EarlyExit, "early_exit"),
    (Ending::ImagePull, "image_pull"),
    (Ending::NotStarted, "not_started"),
    (Ending::TestFailed, "test_failed"),
    (Ending::EngineLost, "engine_lost"),
    (Ending::DeviceLost, "device_lost"),
    (Ending::DiskFull, "disk_full"),
    (Ending::BadParameters, "bad_parameters"),
    (Ending::Refused, "refused"),
    (Ending::HostReboot, "host_reboot"),
    (Ending::Unknown, "unknown"),
];

impl Ending {
    /// Its name in `result.json`, result text and log.
    pub(super) fn name(self) -> &'static str {
        ALL.iter().find(|(ending, _)| *ending == self).map_or("unknown", |(_, name)| name)
    }

    /// What an error says about the ending by itself, wherever it came up.
    pub(super) fn of_error(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(inner) = cause {
            let engine = match (inner.downcast_ref::<DockerError>(), inner.downcast_ref::<PullError>()) {
                (Some(engine), _) | (None, Some(PullError::Engine(engine))) => Some(engine),
                _ => None,
            };
            if engine.is_some_and(DockerError::is_unavailable) {
                return Some(Self::EngineLost);
            }
            if inner.downcast_ref::<std::io::Error>().is_some_and(is_full) {
                return Some(Self::DiskFull);
            }
            cause = inner.source();
        }
        Self::of_words(&error.to_string())
    }

    /// The same where only the words of somebody else are left: of the engine, of the state store.
    pub(super) fn of_words(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let full = ["no space left on device", "disk quota exceeded", "database or disk is full"];
        full.iter().any(|words| text.contains(words)).then_some(Self::DiskFull)
    }

    /// What a failure of a stage is where nothing more is known of it.
    pub(super) fn of_stage(stage: Stage) -> Self {
        match stage {
            Stage::Lease => Self::Refused,
            Stage::Pull => Self::ImagePull,
            Stage::Plan | Stage::Create | Stage::Start => Self::NotStarted,
            Stage::Health => Self::NeverReady,
            Stage::WarmUp | Stage::Load => Self::TestFailed,
            Stage::Teardown | Stage::Result | Stage::Done => Self::Unknown,
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// What cut a run, as far as its ending depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum How<'a> {
    /// Somebody ended it.
    Cancelled,
    /// A time limit.
    TimeLimit,
    /// The main process ended without being told to.
    Exited(&'a ExitStatus),
    /// The health check failed so often after it had passed.
    HealthLost,
    /// The stage itself failed, by an error that says so much.
    Failed(Stage, Option<Ending>),
}

/// What was found when the run was cut.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// The service had been ready.
    pub(super) was_ready: bool,
    /// The kernel killed something of the service for want of memory.
    pub(super) out_of_memory: bool,
    /// The engine does not answer.
    pub(super) engine_lost: bool,
    /// A leased card is gone or faulty.
    pub(super) device_lost: bool,
    /// The disk of the log directory has no room.
    pub(super) disk_full: bool,
    /// The kernel was booted since the start.
    pub(super) rebooted: bool,
}

/// The ending of a run that did not succeed. A cause goes before what it leads to: a service whose memory or card was taken
/// away dies, falls silent or answers with errors, and it is chance which of these is seen first.
pub(super) fn classify(how: How<'_>, found: &Found) -> Ending {
    let cause = || {
        if found.rebooted {
            Some(Ending::HostReboot)
        } else if found.engine_lost {
            Some(Ending::EngineLost)
        } else if found.out_of_memory {
            Some(Ending::OomChild)
        } else if found.device_lost {
            Some(Ending::DeviceLost)
        } else if found.disk_full {
            Some(Ending::DiskFull)
        } else {
            None
        }
    };
    match how {
        How::Cancelled => Ending::Cancelled,
        How::TimeLimit => Ending::TimeLimit,
        How::Exited(exit) => of_exit(exit, found),
        How::HealthLost => cause().unwrap_or(Ending::HealthLost),
        // An error that names its cause is the nearest to it.
        How::Failed(_, Some(known)) if !matches!(known, Ending::NeverReady | Ending::TestFailed | Ending::Unknown) => {
            known
        }
        How::Failed(stage, known) => {
            // Before there is a service, nothing can have happened to it.
            let cause = if stage >= Stage::Health { cause() } else { None };
            cause.or(known).unwrap_or_else(|| Ending::of_stage(stage))
        }
    }
}

fn of_exit(exit: &ExitStatus, found: &Found) -> Ending {
    let killed = exit.signal == Some(nix::libc::SIGKILL);
    match (exit.unseen, exit.signal, exit.code) {
        (Some(Unseen::Reboot), ..) => Ending::HostReboot,
        _ if found.rebooted => Ending::HostReboot,
        _ if (exit.oom_killed || found.out_of_memory) && killed => Ending::OomMain,
        _ if exit.oom_killed || found.out_of_memory => Ending::OomChild,
        _ if found.device_lost => Ending::DeviceLost,
        (Some(Unseen::ShimKilled | Unseen::Removed), ..) | (None, None, None) => Ending::Unknown,
        (None, Some(_), _) => Ending::Signal,
        // A service that ends for want of room says it with an exit code.
        (None, None, Some(code)) if code != 0 && found.disk_full => Ending::DiskFull,
        (None, None, Some(_)) if found.was_ready => Ending::ExitCode,
        (None, None, Some(_)) => Ending::EarlyExit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: Option<i32>, signal: Option<i32>) -> ExitStatus {
        ExitStatus { code, signal, ..ExitStatus::default() }
    }

    #[test]
    fn the_names_are_those_of_the_json_and_none_is_left_out() {
        for (ending, name) in ALL {
            assert_eq!(serde_json::to_value(ending).expect("JSON"), name);
            assert_eq!(ending.name(), name);
        }
        let variants = include_str!("ending.rs").lines().skip_while(|line| !line.starts_with("pub(super) enum Ending"));
        let variants = variants.take_while(|line| *line != "}").filter(|line| line.trim_end().ends_with(',')).count();
        assert_eq!(variants, ALL.len());
    }

    #[test]
    fn the_pages_say_of_every_ending_what_it_is_and_what_to_do() {
        for page in ["jobs.md", "jobs.zh-CN.md"] {
            let path = format!("{}/../docs/{page}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect("the page is there");
            for (_, name) in ALL {
                let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
                let cells =
                    row.map(|row| row.trim_matches('|').split('|').filter(|cell| !cell.trim().is_empty()).count());
                let wanted = if name == "completed" { 2 } else { 3 };
                assert_eq!(cells, Some(wanted), "{page}: {name}: {row:?}");
            }
        }
    }

    #[test]
    fn an_exit_is_told_by_what_killed_it_before_how_it_looks() {
        let nothing = Found::default();
        let ready = Found { was_ready: true, ..nothing };
        let of = |exit: &ExitStatus, found: &Found| classify(How::Exited(exit), found);
        assert_eq!(of(&exit(Some(3), None), &nothing), Ending::EarlyExit);
        assert_eq!(of(&exit(Some(0), None), &nothing), Ending::EarlyExit);
        assert_eq!(of(&exit(Some(3), None), &ready), Ending::ExitCode);
        assert_eq!(of(&exit(None, Some(11)), &nothing), Ending::Signal);
        assert_eq!(of(&exit(Some(137), Some(9)), &ready), Ending::Signal);
        let oom = ExitStatus { oom_killed: true, ..exit(None, Some(9)) };
        assert_eq!(of(&oom, &ready), Ending::OomMain);
        let child = ExitStatus { oom_killed: true, ..exit(Some(1), None) };
        assert_eq!(of(&child, &ready), Ending::OomChild);
        let full = Found { disk_full: true, ..ready };
        assert_eq!(of(&exit(Some(1), None), &full), Ending::DiskFull);
        assert_eq!(of(&exit(Some(0), None), &full), Ending::ExitCode);
        assert_eq!(of(&exit(None, Some(6)), &Found { device_lost: true, ..full }), Ending::DeviceLost);
        assert_eq!(of(&ExitStatus::default(), &ready), Ending::Unknown);
        let unseen = |unseen| ExitStatus { unseen: Some(unseen), ..ExitStatus::default() };
        assert_eq!(of(&unseen(Unseen::Reboot), &ready), Ending::HostReboot);
        assert_eq!(of(&unseen(Unseen::ShimKilled), &ready), Ending::Unknown);
        assert_eq!(of(&unseen(Unseen::Removed), &ready), Ending::Unknown);
    }

    #[test]
    fn what_somebody_ended_is_cancelled_whatever_else_was_found() {
        let all = Found {
            was_ready: true,
            out_of_memory: true,
            engine_lost: true,
            device_lost: true,
            disk_full: true,
            rebooted: true,
        };
        assert_eq!(classify(How::Cancelled, &all), Ending::Cancelled);
        assert_eq!(classify(How::TimeLimit, &all), Ending::TimeLimit);
    }

    #[test]
    fn a_failure_goes_back_to_its_cause_once_there_is_a_service() {
        let nothing = Found::default();
        let device = Found { device_lost: true, ..nothing };
        assert_eq!(classify(How::HealthLost, &nothing), Ending::HealthLost);
        assert_eq!(classify(How::HealthLost, &device), Ending::DeviceLost);
        let failed = |stage, known| classify(How::Failed(stage, known), &device);
        assert_eq!(failed(Stage::Load, None), Ending::DeviceLost);
        assert_eq!(failed(Stage::Health, Some(Ending::NeverReady)), Ending::DeviceLost);
        assert_eq!(failed(Stage::Load, Some(Ending::DiskFull)), Ending::DiskFull);
        assert_eq!(failed(Stage::Create, None), Ending::NotStarted, "there was none yet");
        let rebooted = Found { rebooted: true, ..nothing };
        let gone = How::Failed(Stage::Load, Some(Ending::Unknown));
        assert_eq!((classify(gone, &rebooted), classify(gone, &nothing)), (Ending::HostReboot, Ending::Unknown));
        assert_eq!(classify(How::Failed(Stage::Load, None), &nothing), Ending::TestFailed);
        assert_eq!(classify(How::Failed(Stage::Pull, None), &nothing), Ending::ImagePull);
        assert_eq!(classify(How::Failed(Stage::Lease, None), &nothing), Ending::Refused);
    }

    #[test]
    fn a_full_disk_and_a_lost_engine_are_known_by_their_errors_wherever_they_stand_in_the_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to write")]
        struct Outer(#[source] std::io::Error);
        let full = Outer(std::io::Error::from_raw_os_error(nix::libc::ENOSPC));
        assert_eq!(Ending::of_error(&full), Some(Ending::DiskFull));
        assert_eq!(Ending::of_error(&Outer(std::io::Error::from_raw_os_error(nix::libc::EACCES))), None);
        let gone =
            || DockerError::Unavailable { doing: "ping".into(), endpoint: "unix:///x".into(), detail: "x".into() };
        assert_eq!(Ending::of_error(&gone()), Some(Ending::EngineLost));
        assert_eq!(Ending::of_error(&PullError::Engine(gone())), Some(Ending::EngineLost));
        let refused = |message: &str| DockerError::Refused { doing: "x".into(), status: 500, message: message.into() };
        assert_eq!(Ending::of_error(&refused("write /x: no space left on device")), Some(Ending::DiskFull));
        assert_eq!(Ending::of_error(&refused("no")), None);
    }
}
