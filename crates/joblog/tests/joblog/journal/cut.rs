//! A journal's file cut at every byte, as a kill in the middle of a write leaves it.

use std::{collections::HashSet, fs, os::unix::fs::FileExt};

use proptest::prelude::*;
use testrig_joblog::{Entry, Level, Limits, split_lines};

use crate::{
    common::{self, Place, all},
    journal::at,
};

#[derive(Debug, Clone)]
struct Append {
    source: u8,
    text: String,
    position: bool,
}

fn appends() -> impl Strategy<Value = Vec<Vec<Append>>> {
    let append = (0..3_u8, "[a-c汉🦀\t#\n\r\u{85}\u{2028}]{0,12}", any::<bool>())
        .prop_map(|(source, text, position)| Append { source, text, position });
    proptest::collection::vec(proptest::collection::vec(append, 1..4), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    /// Wherever a kill cuts the file: the lines before are there with their positions, a text with a position is there as
    /// a whole or not at all, and the journal goes on from there with the next index.
    #[test]
    fn a_journal_cut_anywhere_opens_with_what_was_whole(calls in appends(), limit in 4..9_usize) {
        let limits = Limits { max_line_bytes: limit, ..Limits::default() };
        let place = Place::with(limits);
        let journal = place.journal(1);
        let mut offset = 0;
        // The number of lines after each text that may be the last.
        let mut ends = vec![0_u64];
        for call in &calls {
            let mut entries = Vec::new();
            let sources: Vec<_> = call.iter().map(|a| format!("s{}", a.source)).collect();
            for (append, source) in call.iter().zip(&sources) {
                offset += append.text.len() as u64 + 1;
                let position = append.position.then(|| at(offset));
                entries.push(Entry { level: Level::Info, source, text: &append.text, position });
                let pieces: u64 = split_lines(&append.text).map(|l| common::pieces(l, limit)).sum();
                let before = *ends.last().expect("the start");
                if !append.position {
                    ends.extend(before + 1..before + pieces);
                }
                ends.push(before + pieces);
            }
            journal.append_many(&entries);
        }
        let whole = all(&journal);
        prop_assert_eq!(whole.len() as u64, *ends.last().expect("the start"));
        prop_assert!(whole.iter().enumerate().all(|(i, l)| l.index == i as u64));
        prop_assert!(whole.iter().all(|l| split_lines(&l.text).count() == 1 && l.text.len() <= limit));
        drop(journal);
        let path = place.journals.path(1);
        let bytes = fs::read(&path).expect("the file");
        let mut seen = HashSet::new();
        for cut in 0..=bytes.len() {
            // Not truncated first: some file systems wait for the disk then.
            let file = fs::OpenOptions::new().write(true).open(&path).expect("the file");
            file.write_all_at(&bytes[..cut], 0).expect("a write");
            file.set_len(cut as u64).expect("the cut");
            let journal = place.journal(1);
            let lines = all(&journal);
            prop_assert_eq!(&lines[..], &whole[..lines.len()]);
            prop_assert!(ends.contains(&(lines.len() as u64)), "{} lines at byte {}", lines.len(), cut);
            seen.insert(lines.len() as u64);
            for source in ["s0", "s1", "s2"] {
                let last = lines.iter().rev().find(|l| l.source == source && l.position.is_some());
                prop_assert_eq!(journal.last_position(source), last.and_then(|l| l.position));
            }
            if cut % 7 == 0 {
                journal.append(Level::Info, "s0", "on");
                let on = all(&journal).pop().expect("a line");
                prop_assert_eq!(on.index, lines.len() as u64);
                prop_assert!(lines.last().is_none_or(|last| last.log_time_ms < on.log_time_ms));
                drop(journal);
                let again = all(&place.journal(1));
                prop_assert_eq!(&again[..lines.len()], &lines[..]);
                prop_assert_eq!(&again[lines.len()..], &[on], "nothing of what was cut is left behind it");
            }
        }
        let all_ends: HashSet<_> = ends.into_iter().collect();
        prop_assert_eq!(seen, all_ends, "every whole text can be the last");
    }
}
