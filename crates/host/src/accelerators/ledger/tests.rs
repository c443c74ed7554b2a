use super::*;
use crate::accelerators::{
    card::{CardState, Vendor},
    health::Health,
    topology::Topology,
};

const GIB: u64 = 1 << 30;

fn host(cards: usize) -> Observation {
    let card = |at: usize| Observed {
        card: Accelerator::new(at as u32, format!("GPU-{at}"), Vendor::Nvidia, "NVIDIA H200", 140 * GIB),
        state: CardState { memory_used_bytes: Some(GIB / 4), processes: Some(Vec::new()), ..CardState::default() },
    };
    Observation { through: "test".into(), cards: (0..cards).map(card).collect(), ..Observation::default() }
}

fn holder(instance: i64) -> Holder {
    Holder { agent: "a".into(), boundary: BoundaryId::new(instance, 1) }
}

fn ask(instance: i64, count: u32) -> LeaseRequest {
    LeaseRequest {
        holder: BoundaryId::new(instance, 1),
        count,
        kind: None,
        min_memory_bytes: None,
        device_ids: Vec::new(),
        words: format!("instance {instance}"),
        waits: false,
    }
}

fn leased(seen: &Observation, cards: &[usize], instance: i64) -> Ledger {
    let mut ledger = Ledger::default();
    let cards: Vec<Accelerator> = cards.iter().map(|&at| seen.cards[at].card.clone()).collect();
    for change in ledger.grant(&holder(instance), &format!("instance {instance}"), (1, 1), 0, &cards) {
        ledger.apply(&change);
    }
    ledger
}

fn settle(ledger: &Ledger, seen: &Observation) -> Vec<Change> {
    ledger.settle(seen, &ledger.returning())
}

fn process(pid: u32, name: &str) -> CardProcess {
    CardProcess { pid, name: Some(name.into()), memory_bytes: Some(19 * GIB), ..CardProcess::default() }
}

fn busy_text(decision: &Decision) -> &str {
    match decision {
        Decision::Busy(text) => text,
        other => panic!("{other:?}"),
    }
}

fn impossible_text(decision: &Decision) -> &str {
    match decision {
        Decision::Impossible(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn free_cards_are_granted_and_leased_ones_are_not() {
    let (seen, policy) = (host(4), Policy::default());
    assert_eq!(Ledger::default().decide(&ask(1, 2), &seen, &policy), Decision::Grant(vec![0, 1]));
    let ledger = leased(&seen, &[0, 1], 9);
    assert_eq!(ledger.decide(&ask(1, 2), &seen, &policy), Decision::Grant(vec![2, 3]));
    let busy = ledger.decide(&ask(1, 3), &seen, &policy);
    let text = busy_text(&busy);
    assert_eq!(text, "0 (NVIDIA H200): leased to instance 9; 1 (NVIDIA H200): leased to instance 9");
    assert_eq!(ledger.free_of_all(&seen, &policy), (2, 4));
}

#[test]
fn what_the_host_does_not_have_is_impossible_with_what_is_there() {
    let (mut seen, policy) = (host(2), Policy::default());
    seen.cards[1].state.health = Health { class: HealthClass::Fault, detail: "GPU is lost".into() };
    let none = Ledger::default();
    let text = none.decide(&ask(1, 2), &seen, &policy);
    assert_eq!(impossible_text(&text), "2 NVIDIA H200 with 140.0 GiB, 1 of them not usable (1: faulty: GPU is lost)");
    assert_eq!(none.decide(&ask(1, 1), &seen, &policy), Decision::Grant(vec![0]));
    let other_kind = LeaseRequest { kind: Some("910B".into()), ..ask(1, 1) };
    assert!(impossible_text(&none.decide(&other_kind, &seen, &policy)).starts_with("2 NVIDIA H200"));
    let more_memory = LeaseRequest { min_memory_bytes: Some(141 * GIB), ..ask(1, 1) };
    assert!(matches!(none.decide(&more_memory, &seen, &policy), Decision::Impossible(_)));
    let empty = Observation { through: "declared".into(), ..Observation::default() };
    assert_eq!(impossible_text(&none.decide(&ask(1, 1), &empty, &policy)), "none (declared)");
}

#[test]
fn cards_are_named_by_index_or_uuid_and_a_wrong_name_is_told() {
    let (seen, policy) = (host(4), Policy::default());
    let named =
        |ids: &[&str]| LeaseRequest { device_ids: ids.iter().map(|id| (*id).to_owned()).collect(), ..ask(1, 0) };
    let none = Ledger::default();
    assert_eq!(none.decide(&named(&["3", "GPU-1"]), &seen, &policy), Decision::Grant(vec![3, 1]));
    assert!(
        impossible_text(&none.decide(&named(&["7"]), &seen, &policy)).contains("no card has the index or UUID `7`")
    );
    assert!(impossible_text(&none.decide(&named(&["1", "GPU-1"]), &seen, &policy)).contains("a second time"));
    let ledger = leased(&seen, &[3], 9);
    let busy = ledger.decide(&named(&["3", "1"]), &seen, &policy);
    assert_eq!(busy_text(&busy), "3 (NVIDIA H200): leased to instance 9");
    let other = LeaseRequest { kind: Some("A100".into()), ..named(&["1"]) };
    assert!(
        impossible_text(&none.decide(&other, &seen, &policy)).contains("card 1 (NVIDIA H200) with 140.0 GiB is not")
    );
}

#[test]
fn a_foreign_process_makes_a_card_busy_and_is_named_with_container_and_run() {
    let (mut seen, policy) = (host(1), Policy::default());
    seen.cards[0].state.processes = Some(vec![CardProcess {
        container: Some("notebook".into()),
        run: Some("testrig-5-1".into()),
        ..process(4711, "python")
    }]);
    let busy = Ledger::default().decide(&ask(1, 1), &seen, &policy);
    assert_eq!(
        busy_text(&busy),
        "0 (NVIDIA H200): in use by python (pid 4711) in container notebook of run testrig-5-1, 19.0 GiB"
    );
    seen.cards[0].state.processes = Some((0..5).map(|pid| process(pid, "w")).collect());
    assert!(busy_text(&Ledger::default().decide(&ask(1, 1), &seen, &policy)).contains("and 2 more"));
    seen.cards[0].state.processes = Some(vec![CardProcess { graphics: true, ..process(9, "Xorg") }]);
    assert_eq!(Ledger::default().decide(&ask(1, 1), &seen, &policy), Decision::Grant(vec![0]), "drawing is no use");
}

#[test]
fn memory_without_a_process_makes_a_card_busy() {
    let (mut seen, mut policy) = (host(1), Policy::default());
    seen.cards[0].state.memory_used_bytes = Some(22 * GIB);
    let busy = Ledger::default().decide(&ask(1, 1), &seen, &policy);
    assert!(busy_text(&busy).contains("22.0 GiB are in use by no process that the driver shows"), "{busy:?}");
    policy.idle_memory_bytes = Some(30 * GIB);
    assert_eq!(Ledger::default().decide(&ask(1, 1), &seen, &policy), Decision::Grant(vec![0]));
    seen.cards[0].state = CardState { memory_used_bytes: None, processes: None, ..CardState::default() };
    assert!(busy_text(&Ledger::default().decide(&ask(1, 1), &seen, &policy)).contains("neither its processes"));
}

#[test]
fn excluded_cards_and_cards_in_mig_mode_are_not_there() {
    let (mut seen, mut policy) = (host(3), Policy::default());
    policy.excluded = vec!["0".into(), "GPU-2".into()];
    assert_eq!(Ledger::default().decide(&ask(1, 1), &seen, &policy), Decision::Grant(vec![1]));
    seen.cards[1].state.unusable = Some("MIG is on, its slices are given away".into());
    let text = Ledger::default().decide(&ask(1, 1), &seen, &policy);
    for part in ["3 of them not usable", "0: excluded by the configuration", "1: MIG is on"] {
        assert!(impossible_text(&text).contains(part), "{text:?}");
    }
}

#[test]
fn an_unknown_health_is_waited_for_and_a_warning_is_no_obstacle() {
    let (mut seen, policy) = (host(1), Policy::default());
    seen.cards[0].state.health = Health { class: HealthClass::Unknown, detail: "resetting".into() };
    assert!(busy_text(&Ledger::default().decide(&ask(1, 1), &seen, &policy)).contains("health unknown: resetting"));
    seen.cards[0].state.health = Health { class: HealthClass::Warning, detail: "XID 63".into() };
    assert_eq!(Ledger::default().decide(&ask(1, 1), &seen, &policy), Decision::Grant(vec![0]));
}

#[test]
fn a_card_is_given_back_only_when_no_process_of_the_run_is_on_it() {
    let (mut seen, policy) = (host(2), Policy::default());
    let mut ledger = leased(&seen, &[0, 1], 9);
    assert_eq!(settle(&ledger, &seen), [], "a lease that is held is not settled");
    for change in ledger.give_back(&holder(9)) {
        ledger.apply(&change);
    }
    assert_eq!(ledger.give_back(&holder(9)), [], "it is on its way already");
    seen.cards[1].state.processes =
        Some(vec![CardProcess { run: Some("testrig-9-1-setup".into()), ..process(1, "w") }]);
    assert_eq!(settle(&ledger, &seen), [Change::Free("GPU-0".into())]);
    let busy = ledger.decide(&ask(1, 2), &seen, &policy);
    assert!(
        busy_text(&busy).contains("1 (NVIDIA H200): instance 9 has ended, but w (pid 1) of run testrig-9-1-setup"),
        "{busy:?}"
    );
    seen.cards[1].state.processes =
        Some(vec![process(2, "somebody"), CardProcess { run: Some("testrig-9-11".into()), ..process(3, "x") }]);
    assert_eq!(settle(&ledger, &seen).len(), 2, "processes of others are no reason to keep the lease");
    seen.cards.remove(1);
    assert_eq!(settle(&ledger, &seen).len(), 2, "a card that is gone shows no process");
    assert_eq!(ledger.settle(&seen, &BTreeSet::new()), [], "what was seen before it came back says nothing");
}

#[test]
fn a_whole_card_in_a_lease_holds_its_slices() {
    let mut seen = host(1);
    let ledger = leased(&seen, &[0], 9);
    let mut slice = seen.cards[0].clone();
    slice.card.uuid = "MIG-1".into();
    slice.card.slice_of = Some(super::super::card::Slice { gpu: "GPU-0".into(), gpu_instance: 1, compute_instance: 0 });
    seen.cards.push(slice);
    assert!(matches!(ledger.availability(&seen.cards[1], &Policy::default()), Availability::Leased(_)));
}

#[test]
fn what_a_machine_cannot_group_is_impossible_with_the_sizes_that_it_can() {
    let mut seen = host(8);
    seen.topology = Topology {
        rule: super::super::topology::Rule::Rings(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]]),
        ..Topology::default()
    };
    let text = Ledger::default().decide(&ask(1, 3), &seen, &Policy::default());
    assert!(impossible_text(&text).ends_with("this machine gives 1, 2 or 4 cards in one ring, or all"), "{text:?}");
    let ledger = leased(&seen, &[0, 4], 9);
    let busy = ledger.decide(&ask(1, 4), &seen, &Policy::default());
    assert!(busy_text(&busy).contains("leased to instance 9"));
}
