//! Every reader with every body. Seeds: `crates/powerjob/tests/bodies`.
#![no_main]

#[path = "../../crates/powerjob/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    for (_, target) in targets::TARGETS {
        target(body);
    }
});
