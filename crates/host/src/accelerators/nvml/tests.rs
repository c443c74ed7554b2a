//! The provider with a stand-in for the driver's library.

use super::*;
use crate::accelerators::{
    fakes::FakeLibrary,
    ledger::{Availability, Ledger, Policy},
};

const GIB: u64 = 1 << 30;
const TWO: &str = "driver 550.54.14\n\
    gpu GPU-a NVIDIA_H200 143771 512 37 41 120500 1 61 0 0 0\n\
    gpu GPU-b NVIDIA_H200 143771 60000 0 35 0 0 29 0 0 0\n";

fn provider(fake: &FakeLibrary) -> NvidiaNvml {
    NvidiaNvml::new(Some(fake.path()), Sysfs::at(fake.dir()), HealthMap::default())
}

fn availability(seen: &Observed) -> Availability {
    Ledger::default().availability(seen, &Policy::default())
}

#[test]
fn cards_are_seen_with_identity_figures_and_processes() {
    let fake = FakeLibrary::build("nvml", false);
    fake.state(&format!("{TWO}proc 1 4242 18432 4294967295 4294967295 compute\nproc 1 77 0 4294967295 4294967295 mps\nproc 0 9 5 4294967295 4294967295 graphics\n"));
    let provider = provider(&fake);
    let seen = provider.observe().expect("seen");
    assert_eq!(seen.through, "NVML, driver 550.54.14");
    let card = &seen.cards[0].card;
    assert_eq!((card.index, card.uuid.as_str(), card.kind.as_str()), (0, "GPU-a", "NVIDIA H200"));
    assert_eq!((card.memory_bytes >> 20, card.node, card.pci.as_deref()), (143_771, Some(1), Some("0000:3d:00.0")));
    let state = &seen.cards[0].state;
    assert_eq!((state.memory_used_bytes, state.utilization_percent), (Some(512 << 20), Some(37.0)));
    assert_eq!((state.temperature_c, state.power_w), (Some(41), Some(120.5)));
    assert_eq!(seen.cards[1].state.power_w, None, "what is not supported is absent, not 0");
    assert_eq!(availability(&seen.cards[0]), Availability::Free, "drawing is no use");
    let processes = seen.cards[1].state.processes.as_ref().expect("told");
    assert_eq!((processes[0].pid, processes[0].memory_bytes), (4242, Some(18 * GIB)));
    assert_eq!((processes[1].pid, processes[1].memory_bytes), (77, None), "clients of MPS are in a list of their own");
    // The state changes, the session stays.
    fake.state(TWO);
    let seen = provider.observe().expect("seen");
    assert!(
        matches!(availability(&seen.cards[1]), Availability::Busy(why) if why.contains("no process that the driver shows"))
    );
}

#[test]
fn more_processes_than_there_was_room_for_are_all_read() {
    let fake = FakeLibrary::build("nvml", false);
    let many: String = (0..30).map(|pid| format!("proc 0 {} 1 0 0 compute\n", 100 + pid)).collect();
    fake.state(&format!("{TWO}{many}"));
    let seen = provider(&fake).observe().expect("seen");
    assert_eq!(seen.cards[0].state.processes.as_ref().map(Vec::len), Some(30));
}

#[test]
fn an_old_driver_tells_memory_and_processes_by_its_older_calls() {
    let fake = FakeLibrary::build("nvml", true);
    fake.state(&format!("{TWO}proc 1 4242 18432 0 0 compute\n"));
    let seen = provider(&fake).observe().expect("seen");
    assert_eq!(seen.cards[0].state.memory_used_bytes, Some(512 << 20));
    let processes = seen.cards[1].state.processes.as_ref().expect("told");
    assert_eq!((processes[0].pid, processes[0].memory_bytes), (4242, Some(18 * GIB)));
    assert_eq!(seen.cards[0].state.health, Health::default(), "a missing function says nothing of the card");
}

#[test]
fn with_mig_on_the_slices_are_given_away_and_not_the_card() {
    let fake = FakeLibrary::build("nvml", false);
    fake.state(
        "gpu GPU-a NVIDIA_A100 81920 300 0 30 50000 0 61 0 1 0\n\
         gpu GPU-b NVIDIA_A100 81920 300 0 30 50000 1 62 0 0 0\n\
         slice 0 MIG-1 NVIDIA_A100_MIG_3g.40gb 40192 20 1 0\n\
         slice 0 MIG-2 NVIDIA_A100_MIG_3g.40gb 40192 20 2 0\n\
         proc 0 4242 20000 2 0 compute\n",
    );
    let seen = provider(&fake).observe().expect("seen");
    let cards: Vec<(u32, &str)> = seen.cards.iter().map(|seen| (seen.card.index, seen.card.uuid.as_str())).collect();
    assert_eq!(cards, [(0, "GPU-a"), (1, "GPU-b"), (2, "MIG-1"), (3, "MIG-2")]);
    assert!(matches!(availability(&seen.cards[0]), Availability::Unusable(why) if why.contains("MIG is on")));
    assert_eq!(availability(&seen.cards[2]), Availability::Free);
    assert!(matches!(availability(&seen.cards[3]), Availability::Busy(why) if why.contains("pid 4242")));
    let slice = Slice { gpu: "GPU-a".into(), gpu_instance: 2, compute_instance: 0 };
    assert_eq!(seen.cards[3].card.slice_of, Some(slice));
    assert_eq!((seen.cards[3].card.node, seen.cards[3].state.utilization_percent), (Some(0), None));
}

#[test]
fn a_lost_card_a_critical_event_and_a_prohibited_mode_keep_a_card_from_being_given_away() {
    let fake = FakeLibrary::build("nvml", false);
    fake.state(
        "gpu GPU-a NVIDIA_H200 143771 0 0 30 50000 0 61 0 0 15\n\
         gpu GPU-b NVIDIA_H200 143771 0 0 30 50000 1 62 0 0 0\n\
         gpu GPU-c NVIDIA_H200 143771 0 0 30 50000 2 63 2 0 0\n\
         gpu GPU-d NVIDIA_H200 143771 0 0 30 50000 3 64 0 0 0\n\
         xid 1 79\nxid 3 31\n",
    );
    let provider = provider(&fake);
    provider.observe().expect("the first look begins to listen");
    let seen = provider.observe().expect("seen");
    let why = |at: usize| match availability(&seen.cards[at]) {
        Availability::Unusable(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(0), "faulty: GPU is lost");
    assert_eq!(why(1), "faulty: XID 79");
    assert_eq!(why(2), "its compute mode is Prohibited");
    assert_eq!(availability(&seen.cards[3]), Availability::Free, "XID 31 is the fault of a program");
    let again = provider.observe().expect("seen");
    assert_eq!(again.cards[1].state.health.class, HealthClass::Fault, "it is told once and remembered");
}

#[test]
fn nvlinks_and_sockets_decide_which_cards_belong_together() {
    let fake = FakeLibrary::build("nvml", false);
    let gpus: String =
        (0..4).map(|at| format!("gpu GPU-{at} NVIDIA_A100 81920 0 0 30 50000 {at} {} 0 0 0\n", 10 + at)).collect();
    // Bridges 0-2 and 1-3; 0, 1 on one socket, 2, 3 on the other.
    let links = "nvlink 0 12\nnvlink 0 12\nnvlink 2 10\nnvlink 2 10\nnvlink 1 13\nnvlink 3 11\n";
    let levels = "level 0 1 40\nlevel 2 3 40\nlevel 0 2 50\nlevel 0 3 50\nlevel 1 2 50\nlevel 1 3 50\n";
    fake.state(&format!("{gpus}{links}{levels}"));
    let topology = provider(&fake).observe().expect("seen").topology;
    assert_eq!(topology.choose(2, &[0, 1, 2, 3]), Some(vec![0, 2]), "two links before one");
    assert_eq!(topology.choose(2, &[0, 1, 3]), Some(vec![1, 3]), "a link before the socket");
    assert_eq!(topology.choose(2, &[0, 1]), Some(vec![0, 1]));
    // A switch joins all of them: then the socket decides.
    let switch: String = (0..4).map(|at| format!("nvlink {at} 99\n")).collect();
    fake.state(&format!("{gpus}{switch}{levels}"));
    let topology = provider(&fake).observe().expect("seen").topology;
    assert_eq!(topology.choose(2, &[0, 2, 3]), Some(vec![2, 3]));
}

#[test]
fn what_keeps_the_library_from_working_is_said_with_what_to_do() {
    let fake = FakeLibrary::build("nvml", false);
    for (code, words) in [
        (9, "modprobe nvidia"),
        (18, "reboot the host"),
        (4, "as root"),
        (999, "lost its devices"),
        (42, "NVML error 42"),
    ] {
        fake.state(&format!("init {code}\n"));
        let error = provider(&fake).observe().expect_err("refused");
        assert!(error.contains(words), "{code}: {error}");
    }
    let absent = NvidiaNvml::new(Some("/no/such/libnvidia-ml.so.1".into()), Sysfs::default(), HealthMap::default());
    assert!(absent.observe().expect_err("absent").contains("/no/such/libnvidia-ml.so.1 cannot be loaded"));
    assert!(!NvidiaNvml::is_there(Some(Path::new("/no/such/lib.so"))) && NvidiaNvml::is_there(Some(&fake.path())));
    let other = FakeLibrary::build("dcmi", false);
    assert!(provider(&other).observe().expect_err("no NVML").contains("this is no NVML"));
}

#[test]
fn a_driver_that_comes_back_is_found_again() {
    let fake = FakeLibrary::build("nvml", false);
    fake.state("init 9\n");
    let provider = provider(&fake);
    assert!(provider.observe().is_err());
    fake.state(TWO);
    assert_eq!(provider.observe().expect("loaded meanwhile").cards.len(), 2);
    fake.state("init 18\n");
    assert!(provider.observe().expect_err("upgraded under our feet").contains("version mismatch"));
    fake.state(TWO);
    assert_eq!(provider.observe().expect("reloaded").cards.len(), 2);
}

/// On a host with a real card: whatever is told of it must make sense.
#[test]
fn gpu_a_real_driver_tells_cards_that_make_sense() {
    if !NvidiaNvml::is_there(None) {
        return crate::accelerators::fakes::skipped(
            "accelerators::nvml::tests::gpu_a_real_driver_tells_cards_that_make_sense",
            "no NVIDIA driver on this host",
        );
    }
    let provider = NvidiaNvml::new(None, Sysfs::default(), HealthMap::default());
    let seen = provider.observe().expect("the driver answers");
    println!("{seen:#?}");
    assert!(!seen.cards.is_empty());
    for seen in &seen.cards {
        assert!(seen.card.uuid.starts_with("GPU-") || seen.card.uuid.starts_with("MIG-"), "{seen:?}");
        assert!(seen.card.memory_bytes > GIB && seen.card.kind.contains("NVIDIA"), "{seen:?}");
        assert!(seen.state.memory_used_bytes.is_some_and(|used| used <= seen.card.memory_bytes), "{seen:?}");
        assert!(seen.state.processes.is_some() && seen.card.node.is_some() && seen.card.pci.is_some(), "{seen:?}");
    }
}
