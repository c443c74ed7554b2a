//! A program whose children do everything to survive. Shared by the tests and by the helper program under a real systemd.

use std::time::{SystemTime, UNIX_EPOCH};

/// Children that do everything to survive: they leave session and group, are nobody's children, ignore signals, come back,
/// forget their environment, start each other again.
pub(crate) fn nasty(helper: &str) -> String {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_secs() + 300;
    format!(
        "trap '' TERM HUP INT
         (setsid sh -c \"trap '' TERM; setsid sleep 600 & setsid sleep 600 &\" &)
         env -i setsid sh -c \"trap '' TERM; sleep 600 & wait\" &
         (setsid sh -c \"trap '' TERM; while :; do sleep 600; done\" &)
         setsid nohup sh -c \"while :; do (sleep 600 & wait); done\" &
         ({helper} undying {until} &)
         echo up; while :; do sleep 600; done"
    )
}

/// So many of them there are at least, once all are up.
pub(crate) const NASTY: usize = 11;
