//! `docs/traps.md` names a test for every trap of the protocol, and the tests that it names exist.

use std::path::{Path, PathBuf};

const TRAPS: usize = 26;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of all Rust files below a folder, and the names of its files and folders.
fn sources(dir: &Path, text: &mut String, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        names.push(entry.file_stem().expect("a name").to_string_lossy().into_owned());
        if entry.is_dir() {
            sources(&entry, text, names);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&std::fs::read_to_string(&entry).expect("a source file"));
        }
    }
}

/// The tests that a row names: what stands in backticks and is a path (`a::b`) or the end of one (`..b`).
fn tests_of(row: &str) -> Vec<&str> {
    row.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains("::") || word.starts_with(".."))
        .map(|word| word.rsplit("::").next().unwrap_or(word).trim_start_matches('.'))
        .map(|word| word.split(' ').next_back().unwrap_or(word))
        .collect()
}

#[test]
fn every_trap_has_a_test_and_every_test_that_is_named_exists() {
    let page = std::fs::read_to_string(root().join("docs/traps.md")).expect("the page");
    let (mut text, mut names) = (String::new(), Vec::new());
    for dir in ["crates/powerjob/src", "crates/powerjob/tests", "tests"] {
        sources(&root().join(dir), &mut text, &mut names);
    }
    for trap in 1..=TRAPS {
        let begin = format!("| {trap} |");
        let row =
            page.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("no row for trap {trap}"));
        // The first column is the trap itself.
        let shown = row.splitn(4, '|').nth(3).expect("a third column");
        let tests = tests_of(shown);
        assert!(!tests.is_empty(), "trap {trap} names no test: {row}");
        for test in tests {
            let exists = text.contains(&format!("fn {test}("))
                || text.contains(&format!("::{test}\""))
                || names.iter().any(|name| name == test);
            assert!(exists, "trap {trap} names `{test}`, which is neither a test nor a module of tests");
        }
    }
}
