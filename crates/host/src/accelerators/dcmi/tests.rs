//! The provider with a stand-in for the driver's library.

use super::*;
use crate::accelerators::{
    fakes::FakeLibrary,
    ledger::{Availability, Ledger, Policy},
    topology::Rule,
};

fn provider(fake: &FakeLibrary) -> AscendDcmi {
    AscendDcmi::new(Some(fake.path()), Sysfs::at(fake.dir()), HealthMap::default())
}

fn availability(seen: &Observed) -> Availability {
    Ledger::default().availability(seen, &Policy::default())
}

#[test]
fn cards_with_sparse_numbers_are_seen_with_node_identity_and_figures() {
    let fake = FakeLibrary::build("dcmi", false);
    fake.state(
        "driver 24.1.0\n\
         chip 4 0 0 910B3 0 2 193 65536 3403 0 0 67 1624 49 0 0\n\
         chip 4 1 1 mcu -1 -1 0 0 0 0 0 0 452 48 0 0\n\
         chip 9 0 0 910B3 1 7 61 65536 30000 0 0 0 -1 37 1 0\n\
         proc 9 0 4242 26000\n",
    );
    let seen = provider(&fake).observe().expect("seen");
    assert_eq!(seen.through, "DCMI, driver 24.1.0");
    assert_eq!(seen.cards.len(), 2, "the controller is no card");
    let card = &seen.cards[0].card;
    assert_eq!((card.index, card.node, card.logic_id, card.chip), (2, Some(2), Some(0), Some((4, 0))));
    assert_eq!(
        (card.uuid.as_str(), card.pci.as_deref()),
        ("41A90400-41A90401-41A90402-41A90403-41A90404", Some("0000:c1:00.0"))
    );
    let state = &seen.cards[0].state;
    assert_eq!(
        (state.memory_used_bytes, state.power_w, state.temperature_c),
        (Some(3403 << 20), Some(162.4), Some(49))
    );
    assert_eq!(availability(&seen.cards[0]), Availability::Free, "3.3 GiB is what an idle board has");
    assert!(matches!(availability(&seen.cards[1]), Availability::Busy(why) if why.contains("pid 4242")));
    assert_eq!(seen.cards[1].state.power_w, None);
    assert_eq!(seen.cards[1].state.health.class, HealthClass::Warning);
}

#[test]
fn a_board_without_hbm_tells_its_other_memory_and_an_old_library_less() {
    for old in [false, true] {
        let fake = FakeLibrary::build("dcmi", old);
        fake.state(
            "chip 2 0 0 310P3 0 0 1 0 0 44280 1529 0 -1 45 0 0\nchip 2 1 0 310P3 1 1 1 0 0 43693 1412 0 -1 43 0 0\n",
        );
        let seen = provider(&fake).observe().expect("seen");
        assert_eq!(seen.cards[0].state.memory_used_bytes, Some(1529 << 20));
        assert_eq!((seen.cards[1].card.kind.as_str(), seen.cards[1].card.memory_bytes >> 20), ("310P3", 43693));
        assert_eq!(availability(&seen.cards[1]), Availability::Free);
        if old {
            assert_eq!(seen.cards[1].card.uuid, "npu-2-1-no-bus", "its place has to do");
        }
    }
}

#[test]
fn links_decide_which_cards_belong_together_and_modules_stay_whole() {
    let fake = FakeLibrary::build("dcmi", false);
    let chips: String = [1, 3, 8, 9]
        .iter()
        .enumerate()
        .map(|(at, card)| format!("chip {card} 0 0 910A {at} {at} {} 32768 0 0 0 0 700 40 0 0\n", 10 + at))
        .collect();
    fake.state(&format!("{chips}link 1 3 5\nlink 8 9 5\nlink 1 8 2\nlink 1 9 2\nlink 3 8 2\nlink 3 9 2\n"));
    let topology = provider(&fake).observe().expect("seen").topology;
    assert_eq!(topology.choose(2, &[1, 2, 3]), Some(vec![2, 3]));
    let dies: String = (0..4)
        .map(|die| {
            format!("chip {} {} 0 Ascend910 {die} {die} {} 65536 3000 0 0 0 1984 37 0 0\n", die / 2, die % 2, 10 + die)
        })
        .collect();
    fake.state(&dies);
    let topology = provider(&fake).observe().expect("seen").topology;
    assert_eq!(topology.rule, Rule::Modules(vec![vec![0, 1], vec![2, 3]]));
}

#[test]
fn a_sick_card_and_one_without_a_node_are_not_given_away() {
    let fake = FakeLibrary::build("dcmi", false);
    fake.state(
        "chip 0 0 0 910B3 0 0 1 65536 3000 0 0 0 900 40 3 0\n\
         chip 1 0 0 910B3 1 1 2 65536 3000 0 0 0 900 40 0 -8015\n\
         chip 2 0 0 910B3 2 -1 3 65536 3000 0 0 0 900 40 0 0\n\
         chip 3 0 0 910B3 3 3 4 65536 3000 0 0 0 900 40 0 0\n\
         code 3 0 80E01801\n",
    );
    let seen = provider(&fake).observe().expect("seen");
    let of = |card: u32| seen.cards.iter().find(|seen| seen.card.chip == Some((card, 0))).expect("there");
    assert!(matches!(availability(of(0)), Availability::Unusable(why) if why == "faulty: Critical"));
    assert!(matches!(availability(of(1)), Availability::Busy(why) if why.contains("being reset")));
    assert!(matches!(availability(of(2)), Availability::Unusable(why) if why.contains("device node is not known")));
    assert_eq!(
        availability(of(3)),
        Availability::Free,
        "the word for its health decides, not a code that no map names"
    );
}

#[test]
fn what_keeps_the_library_from_working_is_said() {
    let fake = FakeLibrary::build("dcmi", false);
    fake.state("init -8005\n");
    assert!(provider(&fake).observe().expect_err("refused").contains("another container owns a card"));
    fake.state("list -8020\n");
    assert!(provider(&fake).observe().expect_err("refused").contains("another container owns a card (-8020)"));
    let absent = AscendDcmi::new(Some("/no/such/libdcmi.so".into()), Sysfs::default(), HealthMap::default());
    assert!(absent.observe().expect_err("absent").contains("/no/such/libdcmi.so"));
    assert!(!AscendDcmi::is_there(Some(Path::new("/no/such/lib.so"))) && AscendDcmi::is_there(Some(&fake.path())));
}
