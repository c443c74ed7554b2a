//! The smaller tables of npu-smi: which number means which card, and how near cards are.

use super::super::ascend::Link;

/// One line of `npu-smi info -m`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) npu: u32,
    pub(super) chip: u32,
    pub(super) logic_id: Option<u32>,
    pub(super) phy_id: Option<u32>,
}

/// Reads `npu-smi info -m`: columns by their names, which are apart by at least two blanks. Rows of the management controller
/// and of helper CPUs are left out.
pub(super) fn numbers(text: &str) -> Vec<Numbers> {
    let mut columns: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let cells = cells(line);
        if cells.first().is_some_and(|cell| cell.starts_with("NPU ID")) {
            columns = cells;
            continue;
        }
        let cell = |name: &str| {
            let at = columns.iter().position(|column| column.starts_with(name))?;
            cells.get(at).map(String::as_str)
        };
        let number = |name: &str| cell(name).and_then(|text| text.parse::<u32>().ok());
        let name = cell("Chip Name").unwrap_or_default().to_ascii_lowercase();
        if name == "mcu" || name == "3559" {
            continue;
        }
        if let (Some(npu), Some(chip)) = (number("NPU ID"), number("Chip ID")) {
            rows.push(Numbers { npu, chip, logic_id: number("Chip Logic ID"), phy_id: number("Chip Phy-ID") });
        }
    }
    rows
}

fn cells(line: &str) -> Vec<String> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

/// The value behind `name` in the `key : value` lines of `-t board`, `-t phyid-remap` and the like.
pub(super) fn value(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .filter(|value| !value.is_empty() && value != "NA" && value != "-")
}

/// Reads `npu-smi info -t topo`: the card numbers of the header, and a link for each pair that the matrix names.
pub(super) fn links(text: &str) -> Vec<(u32, u32, Link)> {
    let npu = |word: &str| -> Option<u32> { word.strip_prefix("NPU").and_then(|number| number.parse().ok()) };
    let mut columns: Vec<u32> = Vec::new();
    let mut links = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(row) = words.first().copied().and_then(npu) else { continue };
        if words.get(1).is_none_or(|word| npu(word).is_some()) && columns.is_empty() {
            columns = words.iter().map_while(|word| npu(word)).collect();
            continue;
        }
        for (column, word) in columns.iter().zip(&words[1..]) {
            if let Some(link) = Link::named(word) {
                links.push((row, *column, link));
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_card_are_read_by_their_columns() {
        let row = |npu, chip, logic_id, phy_id| Numbers { npu, chip, logic_id, phy_id };
        assert_eq!(
            numbers(include_str!("samples/map-a2.txt")),
            [row(4, 0, Some(0), None), row(5, 0, Some(1), None)],
            "the controller is no card"
        );
        assert_eq!(
            numbers(include_str!("samples/map-a3.txt")),
            [
                row(3, 0, Some(0), Some(6)),
                row(3, 1, Some(1), Some(7)),
                row(7, 0, Some(2), Some(14)),
                row(7, 1, Some(3), Some(15))
            ]
        );
        assert_eq!(numbers(include_str!("samples/map-950.txt")), [row(0, 0, None, Some(1)), row(2, 0, None, Some(3))]);
        assert_eq!(numbers("dcmi module initialize failed. ret is -8005"), []);
    }

    #[test]
    fn a_single_value_is_found_by_its_name() {
        let text = "        NPU ID                         : 2\n        Chip Logic ID                  : 5\n        VDie ID                        : 41A9 00B2\n        NDie ID                        : NA\n";
        assert_eq!(value(text, "VDie ID").as_deref(), Some("41A9 00B2"));
        assert_eq!(value(text, "chip logic id").as_deref(), Some("5"));
        assert_eq!((value(text, "NDie ID"), value(text, "Chip ID")), (None, None));
    }

    #[test]
    fn the_matrix_of_a_pcie_host_with_sparse_numbers_is_read() {
        let links = links(include_str!("samples/topo-pcie.txt"));
        assert_eq!(links.len(), 56, "eight cards, each to seven others");
        assert!(
            links.contains(&(1, 7, Link::Pix))
                && links.contains(&(8, 1, Link::Phb))
                && links.contains(&(11, 9, Link::Pix))
        );
        assert_eq!(super::links("NPU0  X  HCCS\n"), [], "a row without a header says nothing");
    }
}
