//! One reader, named by `TESTRIG_FUZZ_TARGET` (for instance `ServerScheduleJobReq` or `Kryo`), so that its coverage alone leads.
#![no_main]

#[path = "../../crates/powerjob/tests/fuzz/targets.rs"]
mod targets;

use std::sync::LazyLock;

use targets::{TARGETS, Target};

static CHOSEN: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("TESTRIG_FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    *found.unwrap_or_else(|| panic!("TESTRIG_FUZZ_TARGET is `{wanted}`; accepted: {}", names.join(", ")))
});

libfuzzer_sys::fuzz_target!(|body: &[u8]| (CHOSEN.1)(body));
