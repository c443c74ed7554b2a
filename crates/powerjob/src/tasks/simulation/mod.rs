//! Both roles against each other: the production task tracker on one worker, the production processor trackers on all, under a
//! virtual clock, with messages that are lost and late, and workers that are killed.
//!
//! Every history is made from its seed. A failing one is named; `TESTRIG_SIM_SEED=N` runs it alone and tells what happens.

mod checks;
mod owner;
mod rng;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::world::World;

/// Histories of an ordinary run; `TESTRIG_SIM_SEEDS` sets another number.
const SEEDS: u64 = 400;

#[test]
fn both_roles_bring_every_instance_to_its_end_whatever_is_lost_or_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("TESTRIG_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TESTRIG_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
        if let Err(why) = run {
            println!("seed {seed} fails; TESTRIG_SIM_SEED={seed} repeats it");
            std::panic::resume_unwind(why);
        }
    }
}
