//! `docs/parameters.md`: every property of the generated schemas with tests that are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;
use testrig_processors::{schema, service_control};

use super::{names_of, root, text, ticked};

const PAGE: &str = "docs/parameters.md";

/// Every test function of the source, with the text of the files that it stands in.
fn tests() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for dir in ["processors", "crates", "src", "tests"] {
        collect(&root().join(dir), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).expect("a directory of the source").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).expect("source is text");
            for name in test_functions(&text) {
                found.entry(name).or_default().push_str(&text);
            }
        }
    }
}

/// Functions with an attribute `test`, whoever's it is.
fn test_functions(source: &str) -> Vec<String> {
    let mut marked = false;
    let mut names = Vec::new();
    for line in source.lines().map(str::trim) {
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(rest) = function
            && std::mem::take(&mut marked)
        {
            names.extend(rest.split('(').next().map(str::to_owned));
        }
    }
    names
}

/// Rows of a section: the parameter, what it does, its tests.
fn rows(section: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let page = text(PAGE);
    let lines = page.lines().skip_while(|line| line.strip_prefix("## ") != Some(section)).skip(1);
    let rows = lines.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    let mut found = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [names, meaning, tests] = cells.as_slice() else { panic!("{PAGE}: three cells are needed in {row}") };
        let tests: Vec<String> = ticked(tests).into_iter().map(str::to_owned).collect();
        for name in names_of(names) {
            let twice = found.insert(name.clone(), ((*meaning).to_owned(), tests.clone()));
            assert!(twice.is_none(), "{PAGE}, {section}: `{name}` stands twice");
        }
    }
    found
}

/// The parameters in a schema, dotted, and whether they are refused. A group (`docker`) is none: it has no description.
fn parameters(processor: &str) -> BTreeMap<String, bool> {
    let schema = schema(processor).expect("a schema");
    let properties = schema["$defs"]["parameters"]["properties"].as_object().expect("parameters").clone();
    let of =
        |(name, shape): (String, Value)| shape["description"].is_string().then(|| (name, shape["not"].is_object()));
    properties.into_iter().filter_map(of).collect()
}

#[test]
fn every_property_of_the_schemas_is_in_the_page_with_tests_that_are_there() {
    let tests = tests();
    assert!(tests.len() > 1000, "only {} test functions were found", tests.len());
    for processor in ["RunLLMTest", "ServiceControl"] {
        let rows = rows(processor);
        let parameters = parameters(processor);
        for (name, refused) in &parameters {
            let (meaning, own) = rows.get(name).unwrap_or_else(|| {
                panic!("{PAGE}: `{name}` of {processor} is missing: say what it does and name its test")
            });
            assert_eq!(meaning.starts_with("refused"), *refused, "{PAGE}: {processor}, `{name}`: {meaning}");
            assert!(!own.is_empty(), "{PAGE}: {processor}, `{name}` has no test that fails without it");
            let leaf = name.rsplit('.').next().unwrap_or(name);
            let mut mentioned = false;
            for test in own {
                let source = tests.get(test).unwrap_or_else(|| panic!("{PAGE}: `{name}`: there is no test `{test}`"));
                mentioned |= source.contains(leaf);
            }
            assert!(mentioned, "{PAGE}: {processor}, `{name}`: none of its tests gives it");
        }
        let unknown: BTreeSet<_> = rows.keys().filter(|name| !parameters.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "{PAGE}: {processor} has no such parameters: {unknown:?}");
    }
    for name in [service_control::PYTHON_LAUNCHER, service_control::PYTHON_LAUNCHER_STREAMING] {
        assert_eq!(parameters(name), parameters("ServiceControl"), "{name} takes what ServiceControl takes");
    }
}

#[test]
fn a_test_function_is_told_from_its_helpers_by_its_attribute() {
    let source = "fn helper() {}\n#[test]\n#[cfg(unix)]\nfn one() {\n    fn inner() {}\n}\n#[tokio::test(start_paused = true)]\nasync fn two() {}\nfn after() {}\n";
    assert_eq!(test_functions(source), ["one", "two"]);
}
