//! Whether the disk of the state directory has room for further runs.

use std::{path::PathBuf, time::Duration};

use testrig_host::{accelerators::bytes_in_words, system::disk_of};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);

/// What lanes watch: `true` = too little room.
pub(super) fn watch(dir: PathBuf, floor: u64, stop: CancellationToken) -> watch::Receiver<bool> {
    let (tell, told) = watch::channel(short_of(&dir, floor).is_some());
    tokio::spawn(async move {
        let mut said = false;
        loop {
            let free = short_of(&dir, floor);
            match free {
                Some(free) if !said => tracing::warn!(
                    dir = %dir.display(), free = bytes_in_words(free), floor = bytes_in_words(floor),
                    "too little room on the disk (disk.floor_bytes): the lanes say that they are full until there is more"
                ),
                None if said => tracing::info!(dir = %dir.display(), "there is room on the disk again"),
                _ => {}
            }
            said = free.is_some();
            tell.send_if_modified(|last| std::mem::replace(last, said) != said);
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    });
    told
}

/// The free bytes, where they are fewer than the floor. What cannot be looked at stands in nobody's way.
fn short_of(dir: &std::path::Path, floor: u64) -> Option<u64> {
    disk_of(dir).ok().map(|disk| disk.available_bytes).filter(|free| *free < floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_is_short_of_room_below_the_floor_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let short = |floor| *watch(dir.path().to_owned(), floor, CancellationToken::new()).borrow();
        assert!(!short(0) && !short(1) && short(1 << 62));
    }
}
