//! How much memory a card may show as used while nobody uses it.

use super::card::{Accelerator, Vendor};

const GIB: u64 = 1 << 30;

/// What is usual for the type. Idle Ascend boards are far from zero: about 3 to 4.5 GiB on 32 and 64 GB boards of the second
/// and third generation, up to 2 GiB on a 310P.
pub(super) fn usual(card: &Accelerator) -> u64 {
    match card.vendor {
        Vendor::Nvidia => GIB,
        Vendor::Ascend => {
            let name = card.kind.trim_start_matches("Ascend").trim();
            if is_first_generation(name) {
                GIB
            } else if name.starts_with("310") {
                2 * GIB
            } else {
                (9 * GIB / 2).max(card.memory_bytes / 20)
            }
        }
        // Nobody measures what is only declared; a figure that a provider gives is taken as it is.
        Vendor::Other => u64::MAX,
    }
}

/// `910A`, `910B` without a digit, `910ProA` and the like: `910B3` is another generation.
pub(super) fn is_first_generation(name: &str) -> bool {
    let name = name.trim_start_matches("Ascend").trim();
    matches!(name, "910A" | "910B") || name.starts_with("910Pro") || name.starts_with("910Premium")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_card_of_each_generation_is_not_taken_for_a_busy_one() {
        let usual = |vendor, kind: &str, gib: u64| usual(&Accelerator::new(0, "x", vendor, kind, gib * GIB));
        // Measured idle figures of boards, MiB.
        for (kind, gib, idle) in [
            ("910B4", 32, 3000),
            ("910B3", 64, 3403),
            ("910B3", 64, 4500),
            ("Ascend910", 64, 3150),
            ("910ProB", 32, 18),
            ("310P3", 44, 1894),
            ("310P3", 21, 1832),
        ] {
            assert!(usual(Vendor::Ascend, kind, gib) >= idle << 20, "{kind}");
        }
        assert!(usual(Vendor::Ascend, "910A", 32) < 2 * GIB && usual(Vendor::Ascend, "910B4", 32) < 5 * GIB);
        assert_eq!(usual(Vendor::Nvidia, "NVIDIA H200", 140), GIB);
    }
}
