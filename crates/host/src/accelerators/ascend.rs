//! What npu-smi and DCMI have in common: links, machines and what they allow, the word for a card's health.

use super::{
    card::{Accelerator, Observed},
    health::{Health, HealthMap},
    idle::is_first_generation,
    topology::{Rule, Topology},
};

/// How two chips are connected, from near to far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    /// The two dies of an A3 module.
    Sio,
    /// Huawei's own links.
    Hccs,
    /// One PCIe switch.
    Pix,
    /// Several PCIe switches.
    Pxb,
    /// The host bridge.
    Phb,
    /// From socket to socket.
    Sys,
}

impl Link {
    /// As `npu-smi info -t topo` names it.
    pub(super) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "SIO" => Self::Sio,
            "HCCS" | "HCCS_SW" | "UB" => Self::Hccs,
            "PIX" => Self::Pix,
            "PXB" => Self::Pxb,
            "PHB" => Self::Phb,
            "SYS" => Self::Sys,
            _ => return None,
        })
    }

    /// As `dcmi_get_topo_info_by_device_id` numbers it.
    pub(super) fn numbered(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Sys,
            2 => Self::Phb,
            3 => Self::Hccs,
            4 => Self::Pxb,
            5 => Self::Pix,
            // Newer: the die pair, and links over a switch.
            6 => Self::Sio,
            7 => Self::Hccs,
            _ => return None,
        })
    }

    fn score(self) -> u32 {
        match self {
            Self::Sio => 80,
            Self::Hccs => 70,
            Self::Pix => 50,
            Self::Pxb => 40,
            Self::Phb => 30,
            Self::Sys => 10,
        }
    }
}

/// How near the cards are to each other and what sets the machine allows. `link` knows a pair by card and chip; pairs that it does
/// not know are judged by card and NUMA node.
pub(super) fn topology(cards: &[Observed], mut link: impl FnMut((u32, u32), (u32, u32)) -> Option<Link>) -> Topology {
    let card = |at: usize| &cards[at].card;
    let mut topology = Topology::of(cards.len(), |i, j| {
        let (a, b) = (card(i), card(j));
        if let (Some(a), Some(b)) = (a.chip, b.chip)
            && a.0 == b.0
        {
            // Two chips of one card, whatever the matrix of the cards says.
            return Link::Sio.score();
        }
        if let (Some(a), Some(b)) = (a.chip, b.chip)
            && let Some(link) = link(a, b)
        {
            return link.score();
        }
        if a.numa_node.is_some() && a.numa_node == b.numa_node { 20 } else { 10 }
    });
    topology.rule = rule(cards);
    topology
}

fn rule(cards: &[Observed]) -> Rule {
    let kind = |at: usize| cards[at].card.kind.as_str();
    if cards.len() == 8
        && (0..8).all(|at| is_first_generation(kind(at)) && cards[at].card.logic_id.is_some_and(|logic| logic < 8))
    {
        let ring = |first: bool| -> Vec<usize> {
            (0..8).filter(|at| cards[*at].card.logic_id.is_some_and(|logic| (logic < 4) == first)).collect()
        };
        return Rule::Rings(vec![ring(true), ring(false)]);
    }
    let modules = modules(cards);
    if !cards.is_empty()
        && cards.iter().all(|seen| is_third_generation(&seen.card))
        && modules.iter().any(|m| m.len() == 2)
    {
        return Rule::Modules(modules);
    }
    Rule::Any
}

/// `Ascend910` with two chips a card, or a chip name such as `Ascend910_9391`.
fn is_third_generation(card: &Accelerator) -> bool {
    let name = card.kind.trim_start_matches("Ascend").trim();
    name == "910" || name.starts_with("910_93")
}

fn modules(cards: &[Observed]) -> Vec<Vec<usize>> {
    let mut modules: Vec<(u32, Vec<usize>)> = Vec::new();
    for (at, seen) in cards.iter().enumerate() {
        let Some((npu, _)) = seen.card.chip else { continue };
        match modules.iter_mut().find(|(known, _)| *known == npu) {
            Some((_, chips)) => chips.push(at),
            None => modules.push((npu, vec![at])),
        }
    }
    modules.into_iter().map(|(_, chips)| chips).collect()
}

/// npu-smi's word as DCMI's number.
pub(super) fn health_number(word: &str) -> u32 {
    match word.to_ascii_lowercase().as_str() {
        "ok" => 0,
        "warning" => 1,
        "alarm" => 2,
        "critical" => 3,
        _ => u32::MAX,
    }
}

/// The health of a card whose driver says this number.
pub(super) fn health(map: &HealthMap, number: u32, codes: &[u32]) -> Health {
    let word = match number {
        0 => "OK".to_owned(),
        1 => "Warning".to_owned(),
        2 => "Alarm".to_owned(),
        3 => "Critical".to_owned(),
        u32::MAX => "unknown to the driver".to_owned(),
        other => format!("health {other}"),
    };
    let mut health = Health::default().and(map.class("ascend.health", number), word);
    for code in codes {
        let code = format!("{code:08X}");
        health = health.and(map.class("ascend.code", &code), format!("error {code}"));
    }
    health
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerators::{
        card::{CardState, Vendor},
        health::HealthClass,
    };

    fn cards(kind: &str, chips: &[(u32, u32)]) -> Vec<Observed> {
        let card = |(at, chip): (usize, &(u32, u32))| {
            let mut card = Accelerator::new(at as u32, format!("V{at}"), Vendor::Ascend, kind, 1 << 36);
            card.chip = Some(*chip);
            card.logic_id = Some(at as u32);
            Observed { card, state: CardState::default() }
        };
        chips.iter().enumerate().map(card).collect()
    }

    #[test]
    fn machines_are_told_apart_by_name_and_chips() {
        let eight: Vec<(u32, u32)> = (0..8).map(|npu| (npu, 0)).collect();
        let rule = |kind: &str, chips: &[(u32, u32)]| topology(&cards(kind, chips), |_, _| None).rule;
        assert!(matches!(rule("910ProB", &eight), Rule::Rings(rings) if rings == [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]));
        assert_eq!(rule("910B3", &eight), Rule::Any, "910B3 is not first generation");
        assert_eq!(rule("910A", &eight[..4]), Rule::Any, "not the eight of a server");
        let pairs: Vec<(u32, u32)> = (0..4).flat_map(|npu| [(npu, 0), (npu, 1)]).collect();
        assert!(matches!(rule("Ascend910", &pairs), Rule::Modules(modules) if modules[1] == [2, 3]));
        assert_eq!(rule("310P3", &pairs), Rule::Any);
    }

    #[test]
    fn both_chips_of_a_card_and_then_one_switch_are_preferred() {
        let duo: Vec<(u32, u32)> = vec![(1, 0), (2, 0), (2, 1), (5, 0)];
        let near = |a: (u32, u32), b: (u32, u32)| Some(if (a.0, b.0) == (1, 5) { Link::Pix } else { Link::Sys });
        let topology = topology(&cards("310P3", &duo), near);
        assert_eq!(topology.choose(2, &[0, 1, 2, 3]), Some(vec![1, 2]));
        assert_eq!(topology.choose(2, &[0, 1, 3]), Some(vec![0, 3]));
    }

    #[test]
    fn a_code_that_the_map_names_makes_a_well_card_sick() {
        let map = HealthMap::default();
        assert_eq!(health(&map, 0, &[]), Health::default());
        assert_eq!(health(&map, 1, &[]), Health { class: HealthClass::Warning, detail: "Warning".into() });
        assert_eq!(health(&map, health_number("Critical"), &[]).class, HealthClass::Fault);
        assert_eq!(health(&map, health_number("UNKNOWN"), &[]).class, HealthClass::Unknown);
        assert_eq!(health(&map, 0, &[0x80E0_1801]), Health::default(), "the health word decides");
    }
}
