//! Both roles against each other: the production task tracker on one worker, the production processor trackers on all, under a
//! virtual clock, with messages that are lost and late, and workers that are killed.
//!
//! Every history is made from its seed. A failing one is named; `TESTRIG_SIM_SEED=N` runs it alone and tells what happens.

mod checks;
mod owner;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::world::World;
use super::processor::Bug;

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
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, None).run()));
        if let Err(why) = run {
            println!("seed {seed} fails; TESTRIG_SIM_SEED={seed} repeats it");
            std::panic::resume_unwind(why);
        }
    }
}

/// Each mistake is found within so many histories.
const FOUND_WITHIN: u64 = 600;

#[test]
fn mistakes_of_processor_trackers_are_found() {
    let bugs =
        [Bug::OutcomeOnce, Bug::NoReceipts, Bug::RunsTwice, Bug::SilentStop, Bug::SlotsIgnored, Bug::WaitingForgotten];
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let finds = |seed: u64, bug| catch_unwind(AssertUnwindSafe(|| World::new(seed, Some(bug)).run())).is_err();
    let found = bugs.map(|bug| (bug, (0..FOUND_WITHIN).find(|seed| finds(*seed, bug))));
    std::panic::set_hook(hook);
    println!("{found:?}");
    assert!(found.iter().all(|(_, seed)| seed.is_some()), "not all are found: {found:?}");
}
