//! Every layout that is known, from captures of real boards.

use super::*;

const A910_OLD: &str = include_str!("../samples/910a-21.0.2.txt");
const A910: &str = include_str!("../samples/910a-23.0.5.txt");
const PRO_B: &str = include_str!("../samples/910prob-24.1.0.txt");
const B4: &str = include_str!("../samples/910b4-24.1.rc3.txt");
const B3_WIDE: &str = include_str!("../samples/910b3-26.0.txt");
const A3: &str = include_str!("../samples/a3-24.1.txt");
const P310: &str = include_str!("../samples/310p3-25.2.0.txt");
const P310_CARDS: &str = include_str!("../samples/310p-cards.txt");
const B310: &str = include_str!("../samples/310b.txt");
const V950: &str = include_str!("../samples/950.txt");
const VNPU: &str = include_str!("../samples/vnpu-container.txt");
const ALL: [&str; 11] = [A910_OLD, A910, PRO_B, B4, B3_WIDE, A3, P310, P310_CARDS, B310, V950, VNPU];

fn chips(text: &str) -> Vec<Chip> {
    read(text).expect("a table").chips
}

type Head7 = (u32, u32, String, String, Option<f64>, Option<i32>, Option<String>);
type Figures = (Option<f64>, Option<(u64, u64)>);

/// npu, chip, name, health, power, temperature, bus.
fn heads(text: &str) -> Vec<Head7> {
    let row = |c: Chip| (c.npu, c.chip, c.name, c.health, c.power_w, c.temperature_c, c.bus);
    chips(text).into_iter().map(row).collect()
}

fn head(
    npu: u32,
    chip: u32,
    name: &str,
    health: &str,
    power: Option<f64>,
    temperature: Option<i32>,
    bus: Option<&str>,
) -> Head7 {
    (npu, chip, name.into(), health.into(), power, temperature, bus.map(Into::into))
}

/// Utilisation and memory.
fn figures(text: &str) -> Vec<Figures> {
    chips(text).into_iter().map(|chip| (chip.utilization, chip.memory_mb)).collect()
}

fn pids(text: &str) -> Vec<Option<Vec<u32>>> {
    chips(text).into_iter().map(|chip| Some(chip.processes?.iter().map(|process| process.pid).collect())).collect()
}

#[test]
fn first_generation_server_boards_are_read() {
    assert_eq!(read(A910).expect("a table").version.as_deref(), Some("23.0.5"));
    assert_eq!(
        heads(A910),
        [
            head(0, 0, "910A", "OK", Some(73.1), Some(37), Some("0000:61:00.0")),
            head(7, 0, "910A", "OK", Some(67.0), Some(38), Some("0000:3D:00.0")),
        ]
    );
    assert_eq!(figures(A910), [(Some(0.0), Some((0, 32768))), (Some(0.0), Some((0, 32768)))]);
    assert_eq!(pids(A910), [Some(vec![]), Some(vec![])]);
    assert_eq!(figures(PRO_B), [(Some(0.0), Some((18, 32768))), (Some(0.0), Some((8, 32768)))]);
    assert_eq!(pids(PRO_B), [None, None], "no process table is not: no process");
}

#[test]
fn the_old_layout_without_huge_pages_and_with_slot_numbers_is_read() {
    assert_eq!(
        heads(A910_OLD),
        [
            head(1, 0, "910A", "OK", Some(64.3), Some(56), Some("0000:3B:00.0")),
            head(4, 0, "910A", "OK", Some(65.6), Some(58), Some("0000:86:00.0")),
        ]
    );
    assert_eq!(figures(A910_OLD)[1], (Some(0.0), Some((0, 32768))));
}

#[test]
fn boards_in_use_show_every_process_on_each_card_that_it_touches() {
    assert_eq!(
        figures(B4),
        [
            (Some(67.0), Some((30237, 32768))),
            (Some(67.0), Some((29980, 32768))),
            (Some(67.0), Some((29977, 32768))),
            (Some(68.0), Some((29986, 32768))),
        ],
        "a number that touches the slash is a number"
    );
    assert_eq!(
        pids(B4),
        [
            Some(vec![2_385_579, 2_385_580, 2_385_581, 2_385_578]),
            Some(vec![2_385_579]),
            Some(vec![2_385_580]),
            Some(vec![2_385_581])
        ]
    );
    let last = chips(B4)[0].processes.clone().expect("listed").pop();
    assert_eq!(last, Some(Process { pid: 2_385_578, name: Some("VLLMWorker_TP".into()), memory_mb: Some(27170) }));
}

#[test]
fn the_wide_layout_with_a_fifth_process_column_is_read() {
    assert_eq!(heads(B3_WIDE), [head(7, 0, "910B3", "OK", Some(93.3), Some(51), Some("0000:42:00.0"))]);
    assert_eq!(figures(B3_WIDE), [(Some(0.0), Some((3403, 65536)))]);
    assert_eq!(pids(B3_WIDE), [None], "the table tells of cards 0 and 1, nothing of card 7");
    let with_own = B3_WIDE.replace("| 0       0                 | 485946", "| 7       0                 | 485946");
    let process = Process { pid: 485_946, name: Some("pytest".into()), memory_mb: Some(5175) };
    assert_eq!(chips(&with_own)[0].processes, Some(vec![process]));
}

#[test]
fn both_dies_of_a_module_are_cards_of_their_own_with_their_node_numbers() {
    assert_eq!(
        heads(A3)[..2],
        [
            head(3, 0, "Ascend910", "OK", Some(198.4), Some(37), Some("0000:91:00.0")),
            head(3, 1, "Ascend910", "OK", None, Some(40), Some("0000:93:00.0")),
        ],
        "power is told by the first die only"
    );
    let nodes: Vec<Option<u32>> = chips(A3).into_iter().map(|chip| chip.phy_id).collect();
    assert_eq!(nodes, [Some(6), Some(7), Some(14), Some(15)]);
    assert_eq!(
        figures(A3).into_iter().map(|(_, memory)| memory).collect::<Vec<_>>(),
        [Some((46223, 65536)), Some((45938, 65536)), Some((3150, 65536)), Some((60504, 65536))]
    );
    assert_eq!(pids(A3), [Some(vec![3_238_313]), Some(vec![3_238_314]), Some(vec![]), Some(vec![2_718_348])]);
    assert_eq!(chips(A3)[0].processes.as_ref().expect("listed")[0].name, None, "blank names of a container");
}

#[test]
fn inference_cards_have_one_memory_and_no_power() {
    assert_eq!(
        heads(P310),
        [
            head(2, 0, "310P3", "OK", None, Some(45), Some("0000:01:00.0")),
            head(2, 1, "310P3", "OK", None, Some(43), Some("0000:01:00.0")),
        ]
    );
    assert_eq!(figures(P310), [(Some(0.0), Some((1529, 44280))), (Some(0.0), Some((1412, 43693)))]);
    assert_eq!(chips(P310).into_iter().map(|chip| chip.logic_id).collect::<Vec<_>>(), [Some(0), Some(1)]);
    assert_eq!(pids(P310), [Some(vec![]), Some(vec![])]);
}

#[test]
fn sparse_card_numbers_missing_figures_and_lines_around_the_table_are_read() {
    assert_eq!(
        heads(P310_CARDS),
        [
            head(24, 0, "310P3", "OK", None, Some(51), Some("0000:01:00.0")),
            head(2944, 0, "310P3", "Alarm", None, None, Some("0000:02:00.0")),
        ]
    );
    assert_eq!(figures(P310_CARDS), [(Some(0.0), Some((1832, 21527))), (None, None)]);
}

#[test]
fn an_edge_board_has_no_bus_address_and_does_not_tell_its_processes() {
    assert_eq!(heads(B310), [head(0, 0, "310B4", "OK", Some(10.4), Some(48), None)]);
    assert_eq!(figures(B310), [(Some(0.0), Some((957, 10810)))]);
    assert_eq!(pids(B310), [None]);
}

#[test]
fn the_four_column_layout_is_read() {
    assert_eq!(
        heads(V950),
        [
            head(0, 0, "Ascend950PR", "OK", Some(215.3), Some(45), Some("0000:01:00.0")),
            head(2, 0, "Ascend950PR", "Warning", Some(198.0), Some(43), Some("0000:81:00.0")),
        ]
    );
    assert_eq!(figures(V950), [(Some(12.0), Some((42864, 86016))), (Some(0.0), Some((3012, 86016)))]);
    assert_eq!(pids(V950), [Some(vec![107_303]), Some(vec![])], "a row of NA is a card without a process");
}

#[test]
fn a_slice_in_a_container_is_read() {
    assert_eq!(heads(VNPU), [head(0, 0, "910B3vir05_1c_16g", "OK", None, None, Some("0000:42:00.5"))]);
    assert_eq!(figures(VNPU), [(Some(0.0), Some((4713, 16384)))]);
}

#[test]
fn what_is_no_table_is_an_error_with_the_tool_s_words() {
    for (text, words) in [
        ("", "it printed nothing"),
        ("dcmi module initialize failed. ret is -8005\n", "the driver does not answer"),
        (
            "dcmi model initialized failed, because the device is used. ret is -8020\n",
            "another container or process owns",
        ),
        ("bash: npu-smi: command not found\n", "command not found"),
    ] {
        let error = read(text).expect_err("no table");
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(read("There is no NPU card on this server.\n").expect("an answer").chips, []);
    let half = &B4[..B4.find("| 0                         | 0000:01").expect("the second card")];
    assert!(read(half).expect_err("half a card").contains("in the middle of a card"));
}

#[test]
fn a_slot_without_a_usable_card_is_left_out() {
    let text = A910.replace("| 7     910A ", "| -1    910A ");
    assert_eq!(chips(&text).len(), 1);
}

#[test]
fn no_cut_or_garbled_table_is_a_panic_or_a_card_that_is_not_there() {
    for text in ALL {
        let whole = chips(text);
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            if let Ok(table) = read(&text[..end]) {
                assert!(table.chips.len() <= whole.len());
                for (cut, real) in table.chips.iter().zip(&whole) {
                    assert_eq!((cut.npu, cut.chip, &cut.name), (real.npu, real.chip, &real.name));
                }
            }
        }
        // Every byte replaced once by something that means something to the parser.
        for (at, _) in text.char_indices().step_by(7) {
            for with in ["|", "/", " ", "9", "é", "\n"] {
                let mut garbled = text.to_owned();
                garbled.replace_range(at..at + text[at..].chars().next().map_or(1, char::len_utf8), with);
                let _ = read(&garbled);
            }
        }
    }
}
