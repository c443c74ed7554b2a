//! What an ending is held by: facts that were looked up when the run was cut.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use testrig_host::{
    ExitStatus,
    accelerators::{Accelerators, HealthClass},
    system,
};

use super::{ending::Found, service::Service};

/// What a look at driver or engine may take; what has not answered by then says nothing.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// A disk with less room than this is full: less than one block of a record file is left.
const FULL_BELOW: u64 = 64 * 1024;

/// The facts. What was not looked up, or could not be, is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Evidence {
    /// How the main process ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit: Option<ExitStatus>,
    /// What the kernel did for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oom: Option<Oom>,
    /// Why the engine does not answer, in its client's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) engine: Option<String>,
    /// Leased cards that are gone or faulty, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) devices: Vec<String>,
    /// The disk of the log directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk: Option<Disk>,
    /// The kernel's boots, if there was one in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reboot: Option<Reboot>,
}

/// What the kernel did for want of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Oom {
    /// Processes of the service that it killed, by the counter of their cgroup (`oom_kill` in `memory.oom_control` of v1 or
    /// `memory.events` of v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kills: Option<u64>,
    /// The engine's flag `OOMKilled`; absent without an engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) engine_flag: Option<bool>,
}

impl Oom {
    /// Something was killed.
    pub(super) fn happened(&self) -> bool {
        self.kills.is_some_and(|kills| kills > 0) || self.engine_flag == Some(true)
    }

    /// Both of two looks.
    pub(super) fn and(self, other: Self) -> Self {
        Self { kills: self.kills.max(other.kills), engine_flag: self.engine_flag.max(other.engine_flag) }
    }
}

/// Room on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Disk {
    pub(super) total_bytes: u64,
    pub(super) available_bytes: u64,
    pub(super) available_inodes: u64,
    pub(super) full: bool,
}

impl Disk {
    fn of(sample: system::DiskSample, inodes: bool) -> Self {
        let system::DiskSample { total_bytes, available_bytes, available_inodes } = sample;
        let full = available_bytes < FULL_BELOW || (inodes && available_inodes == 0);
        Self { total_bytes, available_bytes, available_inodes, full }
    }
}

/// The kernel's boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reboot {
    /// The one in which the run began.
    pub(super) before: String,
    /// The one that was found.
    pub(super) now: String,
}

impl Evidence {
    /// Looks up what can have happened to a service.
    pub(super) async fn gather(
        service: &Arc<dyn Service>,
        cards: &[Value],
        accelerators: &Arc<dyn Accelerators>,
        log_dir: &std::path::Path,
        boot_before: &str,
    ) -> Self {
        let oom = tokio::time::timeout(LOOK_LIMIT, service.oom()).await.ok().flatten();
        Self {
            exit: None,
            oom,
            engine: service.engine_lost(),
            devices: lost_cards(cards, accelerators).await,
            disk: disk(log_dir),
            reboot: reboot(boot_before),
        }
    }

    /// The end of the main process, which tells about memory, too.
    pub(super) fn with_exit(mut self, exit: &ExitStatus) -> Self {
        // The shim counts, the engine only says that it was so.
        let flag = (exit.oom_killed && exit.oom_kills.is_none()).then_some(true);
        let told = Oom { kills: exit.oom_kills, engine_flag: flag };
        if told != Oom::default() || self.oom.is_some() {
            self.oom = Some(self.oom.unwrap_or_default().and(told));
        }
        self.exit = Some(exit.clone());
        self
    }

    /// What the ending is chosen by.
    pub(super) fn found(&self, was_ready: bool) -> Found {
        Found {
            was_ready,
            out_of_memory: self.oom.as_ref().is_some_and(Oom::happened),
            engine_lost: self.engine.is_some(),
            device_lost: !self.devices.is_empty(),
            disk_full: self.disk.is_some_and(|disk| disk.full),
            rebooted: self.reboot.is_some(),
        }
    }

    /// The facts that say something, in a few words each.
    pub(super) fn in_words(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.exit.as_ref().map(ToString::to_string));
        if let Some(oom) = self.oom.filter(Oom::happened) {
            words.push(match oom.kills {
                Some(kills) if kills > 0 => format!("{kills} killed by the kernel for want of memory"),
                _ => "the engine says OOMKilled".to_owned(),
            });
        }
        words.extend(self.engine.as_ref().map(|why| format!("the container engine is lost: {why}")));
        words.extend(self.devices.iter().cloned());
        if let Some(disk) = self.disk.filter(|disk| disk.full) {
            words.push(format!(
                "the disk of the log directory has {} of {} bytes and {} inodes left",
                disk.available_bytes, disk.total_bytes, disk.available_inodes
            ));
        }
        if self.reboot.is_some() {
            words.push("the host was rebooted since the run began".to_owned());
        }
        words
    }
}

fn disk(log_dir: &std::path::Path) -> Option<Disk> {
    let sample = system::disk(log_dir).ok()?;
    // btrfs and some network file systems count none: there a 0 says nothing.
    let counted = nix::sys::statvfs::statvfs(log_dir).is_ok_and(|stat| stat.files() > 0);
    Some(Disk::of(sample, counted))
}

fn reboot(before: &str) -> Option<Reboot> {
    let now = system::boot_id().ok()?;
    (!before.is_empty() && before != now).then(|| Reboot { before: before.to_owned(), now })
}

/// Which of the leased cards are gone or faulty. A driver that does not answer says nothing about a card.
pub(super) async fn lost_cards(cards: &[Value], accelerators: &Arc<dyn Accelerators>) -> Vec<String> {
    if cards.is_empty() {
        return Vec::new();
    }
    let Ok(Ok(view)) = tokio::time::timeout(LOOK_LIMIT, accelerators.view()).await else { return Vec::new() };
    let lost = |card: &Value| {
        let name = format!(
            "accelerator {} ({})",
            card["index"].as_u64().unwrap_or_default(),
            card["kind"].as_str().unwrap_or("unknown")
        );
        let Some(seen) = view.cards.iter().find(|seen| Some(seen.card.uuid.as_str()) == card["uuid"].as_str()) else {
            return Some(format!("{name} is not there any more"));
        };
        if seen.state.health.class == HealthClass::Fault {
            return Some(format!("{name} is faulty: {}", seen.state.health.detail));
        }
        seen.state.unusable.as_ref().map(|why| format!("{name} is not usable any more: {why}"))
    };
    cards.iter().filter_map(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_without_bytes_or_without_inodes_where_they_are_counted() {
        let sample = |available_bytes, available_inodes| system::DiskSample {
            total_bytes: 1 << 30,
            available_bytes,
            available_inodes,
        };
        assert!(Disk::of(sample(4096, 9), true).full);
        assert!(Disk::of(sample(1 << 20, 0), true).full);
        assert!(!Disk::of(sample(1 << 20, 0), false).full);
        assert!(!Disk::of(sample(1 << 20, 9), true).full);
    }

    #[test]
    fn what_exit_and_counter_say_of_memory_is_put_together() {
        let live = Evidence { oom: Some(Oom { kills: Some(1), engine_flag: None }), ..Evidence::default() };
        let exit = ExitStatus { code: Some(1), oom_kills: Some(2), oom_killed: true, ..ExitStatus::default() };
        let both = live.with_exit(&exit);
        assert_eq!(both.oom, Some(Oom { kills: Some(2), engine_flag: None }));
        assert!(both.found(true).out_of_memory);
        assert!(both.in_words().contains(&"2 killed by the kernel for want of memory".to_owned()), "{both:?}");
        let flagged = Evidence::default().with_exit(&ExitStatus { oom_killed: true, ..ExitStatus::default() });
        assert_eq!(flagged.oom, Some(Oom { kills: None, engine_flag: Some(true) }));
        let plain = Evidence::default().with_exit(&ExitStatus { code: Some(1), ..ExitStatus::default() });
        assert_eq!((plain.oom, plain.found(false).out_of_memory), (None, false));
    }

    #[test]
    fn a_boot_in_between_is_known_by_its_id() {
        assert_eq!(reboot(""), None, "a record of an older version");
        assert_eq!(reboot(&system::boot_id().expect("Linux")), None);
        assert_eq!(reboot("another").expect("another boot").before, "another");
    }
}
