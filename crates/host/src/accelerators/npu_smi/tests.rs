//! The provider with a script in place of the tool.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;
use crate::accelerators::{
    health::HealthClass,
    ledger::{Availability, Ledger, Policy},
    topology::Rule,
};

/// A directory with a fake tool that answers from files: `info -t board -i 3 -c 0` from `info_-t_board_-i_3_-c_0`.
struct Rig {
    dir: tempfile::TempDir,
}

impl Rig {
    fn new(answers: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir_all(dir.path().join("root/dev")).expect("made");
        let rig = Self { dir };
        rig.script("#!/bin/sh\nname=$(echo \"$*\" | tr ' ' '_')\necho \"$*\" >>\"${0%/*}/calls\"\ncat \"${0%/*}/$name\" 2>/dev/null || { echo 'This device does not support.'; exit 1; }\n");
        for (call, text) in answers {
            fs::write(rig.dir.path().join(call.replace(' ', "_")), text).expect("written");
        }
        rig
    }

    fn script(&self, text: &str) {
        let file = self.dir.path().join("npu-smi");
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn nodes(&self, nodes: &[u32]) {
        for node in nodes {
            fs::write(self.dir.path().join(format!("root/dev/davinci{node}")), "").expect("written");
        }
    }

    fn provider(&self) -> NpuSmi {
        let mut provider = NpuSmi::new(
            Some(self.dir.path().join("npu-smi")),
            Sysfs::at(self.dir.path().join("root")),
            HealthMap::default(),
        );
        provider.tool = Tool::new(Some(self.dir.path().join("npu-smi")), Duration::from_secs(20));
        provider
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default().lines().count()
    }
}

#[test]
fn an_a3_host_is_seen_with_the_node_numbers_of_its_dies() {
    let rig = Rig::new(&[
        ("info", include_str!("samples/a3-24.1.txt")),
        ("info -m", include_str!("samples/map-a3.txt")),
        ("info -t board -i 3 -c 1", "        VDie ID                        : 41A9 00B2 1C\n"),
    ]);
    let provider = rig.provider();
    let seen = provider.observe().expect("seen");
    let cards: Vec<(u32, Option<u32>, Option<u32>)> =
        seen.cards.iter().map(|seen| (seen.card.index, seen.card.node, seen.card.logic_id)).collect();
    assert_eq!(cards, [(6, Some(6), Some(0)), (7, Some(7), Some(1)), (14, Some(14), Some(2)), (15, Some(15), Some(3))]);
    assert_eq!(seen.cards[1].card.uuid, "41A9-00B2-1C");
    assert_eq!(seen.cards[0].card.uuid, "npu-3-0-0000:91:00.0", "without an id its place is one");
    assert_eq!(seen.topology.rule, Rule::Modules(vec![vec![0, 1], vec![2, 3]]));
    let free: Vec<bool> = seen
        .cards
        .iter()
        .map(|card| Ledger::default().availability(card, &Policy::default()) == Availability::Free)
        .collect();
    assert_eq!(free, [false, false, true, false], "three dies are in use");
    let calls = rig.calls();
    provider.observe().expect("seen again");
    assert_eq!(rig.calls(), calls + 1, "what does not change is asked once");
}

#[test]
fn device_nodes_are_found_by_the_remap_or_in_order_or_not_at_all() {
    let remap = |npu: u32, logic: u32| {
        format!(
            "        Chip Physical ID : x\n        Chip Logic ID : {logic}\n        NPU ID : {npu}\n        Chip ID : 0\n"
        )
    };
    let table = include_str!("samples/910a-21.0.2.txt");
    let map = "NPU ID  Chip ID  Chip Logic ID  Chip Name\n1  0  0  910A\n4  0  1  910A\n";
    let nodes = |rig: &Rig| -> Vec<(u32, Option<u32>)> {
        let seen = rig.provider().observe().expect("seen");
        seen.cards.iter().map(|seen| (seen.card.chip.expect("known").0, seen.card.node)).collect()
    };
    let by_remap = Rig::new(&[
        ("info", table),
        ("info -m", map),
        ("info -t phyid-remap -p 2", &remap(4, 1)),
        ("info -t phyid-remap -p 7", &remap(1, 0)),
    ]);
    by_remap.nodes(&[2, 7]);
    assert_eq!(nodes(&by_remap), [(4, Some(2)), (1, Some(7))]);
    let in_order = Rig::new(&[("info", table), ("info -m", map)]);
    in_order.nodes(&[2, 7]);
    assert_eq!(nodes(&in_order), [(1, Some(2)), (4, Some(7))]);
    let unknown = Rig::new(&[("info", table), ("info -m", map)]);
    unknown.nodes(&[2, 7, 9]);
    assert_eq!(nodes(&unknown), [(1, None), (4, None)], "three nodes for two cards say nothing");
    let seen = unknown.provider().observe().expect("seen");
    assert!(matches!(
        Ledger::default().availability(&seen.cards[0], &Policy::default()),
        Availability::Unusable(why) if why.contains("device node is not known")
    ));
}

#[test]
fn cards_behind_one_switch_are_chosen_together() {
    let row = |npu: u32| {
        format!("| {npu} 910A | OK | 60.0 40 0 / 0 |\n| 0 | 0000:{npu:02X}:00.0 | 0 900 / 13553 0 / 32768 |\n")
    };
    let numbers = [1, 3, 5, 7, 8, 9, 10, 11];
    let table: String =
        include_str!("samples/910a-21.0.2.txt").lines().take(2).map(|line| format!("{line}\n")).collect();
    let table = table + &numbers.map(row).concat() + "| NPU Chip | Process id | Process name | Process memory(MB) |\n";
    let table = table + &numbers.map(|npu| format!("| No running processes found in NPU {npu} |\n")).concat();
    let rig = Rig::new(&[("info", &table), ("info -t topo", include_str!("samples/topo-pcie.txt"))]);
    let seen = rig.provider().observe().expect("seen");
    assert_eq!(seen.topology.choose(2, &[0, 4, 5]), Some(vec![4, 5]), "8 and 9, not 1 and 8");
}

#[test]
fn health_words_become_classes() {
    let rig = Rig::new(&[("info", include_str!("samples/950.txt")), ("info -m", include_str!("samples/map-950.txt"))]);
    let seen = rig.provider().observe().expect("seen");
    let classes: Vec<HealthClass> = seen.cards.iter().map(|seen| seen.state.health.class).collect();
    assert_eq!(classes, [HealthClass::Ok, HealthClass::Warning]);
    assert_eq!(seen.cards[0].card.node, Some(1), "NPU 0 is /dev/davinci1 here");
}

#[test]
fn a_tool_that_hangs_is_killed_and_one_that_is_missing_is_named() {
    let rig = Rig::new(&[]);
    rig.script("#!/bin/sh\nexec sleep 1000\n");
    let mut provider = rig.provider();
    provider.tool = Tool::new(Some(rig.dir.path().join("npu-smi")), Duration::from_millis(200));
    assert!(provider.observe().expect_err("hangs").contains("did not end within 0.2 s and was killed"));
    let missing = NpuSmi::new(Some("/no/such/npu-smi".into()), Sysfs::default(), HealthMap::default());
    assert!(!missing.is_there());
    assert!(missing.observe().expect_err("missing").contains("failed to start `/no/such/npu-smi info`"));
    let broken = Rig::new(&[("info", "dcmi model initialized failed, because the device is used. ret is -8020\n")]);
    assert!(broken.provider().observe().expect_err("occupied").contains("another container or process owns"));
}
