//! The table of `npu-smi info`, in all its layouts.
//!
//! Read by the names in its header rows, never by column widths: five layouts and five widths are known, boards and versions
//! mix them freely. A device is two consecutive rows; a process is one.

use std::collections::{BTreeMap, BTreeSet};

/// One chip as printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chip {
    /// Card ("NPU ID"), a slot number on PCIe hosts.
    pub(super) npu: u32,
    /// Chip in the card.
    pub(super) chip: u32,
    pub(super) name: String,
    pub(super) health: String,
    pub(super) power_w: Option<f64>,
    pub(super) temperature_c: Option<i32>,
    pub(super) bus: Option<String>,
    /// A3: the number of the device node.
    pub(super) phy_id: Option<u32>,
    /// 310x: the logic id.
    pub(super) logic_id: Option<u32>,
    pub(super) utilization: Option<f64>,
    /// Used and all, MB: HBM where there is any, else the board's memory.
    pub(super) memory_mb: Option<(u64, u64)>,
    /// `None` = the table does not say.
    pub(super) processes: Option<Vec<Process>>,
}

/// One process as printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Cut, or with letters missing; absent in containers.
    pub(super) name: Option<String>,
    pub(super) memory_mb: Option<u64>,
}

/// The whole table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) version: Option<String>,
    pub(super) chips: Vec<Chip>,
}

/// What the header rows said last.
#[derive(Clone, Copy, Default)]
struct Head {
    /// The fourth layout: id and name in cells of their own, nothing in the second row's first two.
    split_name: bool,
    has_phy_id: bool,
    has_logic_id: bool,
}

/// Where the process columns are.
#[derive(Clone, Copy)]
struct ProcessHead {
    pid: usize,
    name: usize,
    memory: usize,
    has_chip: bool,
}

/// Reads the table.
///
/// # Errors
/// It holds no device, or ends in the middle of one; the tool's own words if it said why.
pub(super) fn read(text: &str) -> Result<Table, String> {
    let mut table = Table::default();
    let mut head = Head::default();
    let mut process_head: Option<ProcessHead> = None;
    let mut first: Option<Chip> = None;
    let mut listed: BTreeMap<(u32, Option<u32>), Vec<Process>> = BTreeMap::new();
    let mut empty: BTreeSet<u32> = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(version) = version(line) {
            table.version = Some(version);
            continue;
        }
        if line.contains("There is no NPU card") {
            return Ok(table);
        }
        if let Some(npu) = no_processes(line) {
            empty.insert(npu);
            continue;
        }
        if !line.starts_with('|') {
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let Some(columns) = processes_begin(&cells) {
            process_head = Some(columns);
        } else if cells.contains(&"Health") {
            head = Head { split_name: cells.get(1) == Some(&"Name"), ..Head::default() };
        } else if cells.iter().any(|cell| cell.starts_with("Bus-Id")) {
            let cell = cells.first().copied().unwrap_or_default();
            head.has_phy_id = cell.contains("Phy-ID");
            head.has_logic_id = cell.contains("Device");
        } else if let Some(columns) = process_head {
            if let Some((npu, chip, process)) = process(&cells, columns) {
                listed.entry((npu, chip)).or_default().extend(process);
            }
        } else if let Some(chip) = first.take() {
            // An id that is no number (-1) is a slot without a usable card.
            table.chips.extend(second_row(chip, &cells, head).filter(|chip| chip.npu != u32::MAX));
        } else {
            first = first_row(&cells, head);
        }
    }
    if first.is_some() {
        return Err(format!("npu-smi info ended in the middle of a card: {}", tail(text)));
    }
    if table.chips.is_empty() {
        return Err(format!("npu-smi info shows no card: {}", explained(text)));
    }
    assign(&mut table.chips, &listed, &empty);
    Ok(table)
}

fn version(line: &str) -> Option<String> {
    let rest = line.trim_matches('|').trim().strip_prefix("npu-smi ")?;
    rest.split_whitespace().next().filter(|_| rest.contains("Version")).map(str::to_owned)
}

fn no_processes(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("No running processes found in NPU")?;
    rest.split(|c: char| c == '|' || c.is_whitespace()).find(|word| !word.is_empty())?.parse().ok()
}

fn processes_begin(cells: &[&str]) -> Option<ProcessHead> {
    let at = |name: &str| cells.iter().position(|cell| *cell == name);
    let memory = cells.iter().position(|cell| cell.starts_with("Process memory"))?;
    Some(ProcessHead { pid: at("Process id")?, name: at("Process name")?, memory, has_chip: cells[0].contains("Chip") })
}

/// `None` for a row that is none; no process for a card that is listed with `NA`.
fn process(cells: &[&str], columns: ProcessHead) -> Option<(u32, Option<u32>, Option<Process>)> {
    let mut ids = cells.first()?.split_whitespace();
    let npu = ids.next()?.parse().ok()?;
    let chip = if columns.has_chip { ids.next()?.parse().ok() } else { None };
    let process = cells.get(columns.pid)?.parse().ok().map(|pid| Process {
        pid,
        name: cells.get(columns.name).filter(|name| !is_blank(name)).map(|name| (*name).to_owned()),
        memory_mb: cells.get(columns.memory).and_then(|memory| memory.parse().ok()),
    });
    Some((npu, chip, process))
}

fn first_row(cells: &[&str], head: Head) -> Option<Chip> {
    let (id, name, rest) = if head.split_name {
        (cells.first()?.trim(), cells.get(1)?.trim(), cells.get(2..)?)
    } else {
        let (id, name) = cells.first()?.split_once(char::is_whitespace)?;
        (id, name.trim(), cells.get(1..)?)
    };
    let npu: i64 = id.parse().ok()?;
    let mut figures = rest.get(1)?.split_whitespace();
    Some(Chip {
        npu: u32::try_from(npu).unwrap_or(u32::MAX),
        name: name.to_owned(),
        health: (*rest.first()?).to_owned(),
        power_w: figures.next().and_then(number),
        temperature_c: figures.next().and_then(|text| text.parse().ok()),
        ..Chip::default()
    })
}

fn second_row(mut chip: Chip, cells: &[&str], head: Head) -> Option<Chip> {
    let mut ids = cells.first()?.split_whitespace();
    chip.chip = ids.next().and_then(|id| id.parse().ok()).unwrap_or(0);
    let further = ids.next().and_then(|id| id.parse().ok());
    if head.has_phy_id {
        chip.phy_id = further;
    }
    if head.has_logic_id {
        chip.logic_id = further;
    }
    let skip = if head.split_name { 2 } else { 1 };
    chip.bus = cells.get(skip).filter(|bus| !is_blank(bus)).map(|bus| (*bus).to_owned());
    let figures = cells.get(skip + 1)?.replace('/', " / ");
    let words: Vec<&str> = figures.split_whitespace().collect();
    chip.utilization = words.first().copied().and_then(number);
    // The pairs behind it: the board's memory, and HBM on boards that have it.
    let pairs: Vec<Option<(u64, u64)>> = words
        .iter()
        .enumerate()
        .filter(|(_, word)| **word == "/")
        .map(|(at, _)| Some((words.get(at.checked_sub(1)?)?.parse().ok()?, words.get(at + 1)?.parse().ok()?)))
        .collect();
    chip.memory_mb = pairs.iter().rev().flatten().copied().find(|(_, all)| *all > 0);
    Some(chip)
}

/// What the process table says of each chip. A table that does not name a card says nothing of it.
fn assign(chips: &mut [Chip], listed: &BTreeMap<(u32, Option<u32>), Vec<Process>>, empty: &BTreeSet<u32>) {
    for chip in chips {
        let named = listed.keys().any(|(npu, _)| *npu == chip.npu);
        let own = listed
            .iter()
            .filter(|((npu, at), _)| *npu == chip.npu && at.is_none_or(|at| at == chip.chip))
            .flat_map(|(_, processes)| processes.clone());
        chip.processes = (named || empty.contains(&chip.npu)).then(|| own.collect());
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

fn is_blank(text: &str) -> bool {
    matches!(text.trim(), "" | "NA" | "-")
}

/// The tool's words, with what is known of them.
fn explained(text: &str) -> String {
    let said = tail(text);
    let known = [
        ("-8020", "another container or process owns a card, and the driver then shows none of them"),
        ("-8005", "the driver does not answer, or another container owns a card"),
        ("-8013", "this cannot be asked from inside of a container"),
        ("-8015", "the card is being reset"),
        ("-8016", "the card is being reset"),
        ("-8017", "the firmware is being upgraded"),
    ];
    let meaning = known.iter().find(|(code, _)| text.contains(code)).map(|(_, meaning)| *meaning);
    match meaning {
        Some(meaning) => format!("{said} ({meaning})"),
        None => said,
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said: String = lines[lines.len().saturating_sub(3)..].join(" / ").chars().take(300).collect();
    if said.is_empty() { "it printed nothing".to_owned() } else { format!("it printed `{said}`") }
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
