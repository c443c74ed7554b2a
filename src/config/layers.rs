//! Where values come from: the file, the environment, flags and `--set`, merged in that order.

use std::{collections::BTreeMap, fmt, path::Path};

use serde_json::{Map, Value};

/// Where one value stands, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line of the file.
    File(String, usize),
    /// An environment variable.
    Env(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(file, line) => write!(f, "{file}:{line}"),
            Origin::Env(name) => write!(f, "environment variable {name}"),
            Origin::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// The merged values, and where each of them came from (by dotted path, `lane.0.listen`).
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) values: Map<String, Value>,
    pub(crate) origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// The origin of a path, of something in it (a section that one variable opened), or of the nearest thing above it.
    pub(crate) fn origin(&self, path: &str) -> Option<&Origin> {
        let inside = format!("{path}.");
        let in_it = self.origins.range(inside.clone()..).next().filter(|(key, _)| key.starts_with(&inside));
        if let Some(origin) = self.origins.get(path).or(in_it.map(|(_, origin)| origin)) {
            return Some(origin);
        }
        let mut path = path;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return Some(origin);
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// Adds the file. `Err` is a syntax error, with its line in the text.
    pub(crate) fn add_file(&mut self, file: &Path, text: &str) -> Result<(), String> {
        let name = file.display().to_string();
        let document = text.parse::<toml_edit::Document<String>>().map_err(|e| {
            let line = e.span().map_or(1, |span| line_of(text, span.start));
            format!("{name}:{line}: not valid TOML: {}", e.message())
        })?;
        let mut values = Map::new();
        self.walk_table(&name, text, document.as_table(), "", &mut values);
        self.values = values;
        Ok(())
    }

    fn walk_table(&mut self, name: &str, text: &str, table: &toml_edit::Table, at: &str, out: &mut Map<String, Value>) {
        for (key, item) in table {
            let path = join(at, key);
            let span = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
            if let Some(span) = span {
                self.origins.insert(path.clone(), Origin::File(name.into(), line_of(text, span.start)));
            }
            let value = match item {
                toml_edit::Item::Table(inner) => {
                    let mut map = Map::new();
                    self.walk_table(name, text, inner, &path, &mut map);
                    Value::Object(map)
                }
                toml_edit::Item::ArrayOfTables(tables) => {
                    let mut list = Vec::new();
                    for (i, inner) in tables.iter().enumerate() {
                        let path = join(&path, &i.to_string());
                        if let Some(span) = inner.span() {
                            self.origins.insert(path.clone(), Origin::File(name.into(), line_of(text, span.start)));
                        }
                        let mut map = Map::new();
                        self.walk_table(name, text, inner, &path, &mut map);
                        list.push(Value::Object(map));
                    }
                    Value::Array(list)
                }
                toml_edit::Item::Value(value) => to_json(value),
                toml_edit::Item::None => continue,
            };
            out.insert(key.to_owned(), value);
        }
    }

    /// Adds every `TESTRIG_SECTION__KEY` of the environment. The text is a TOML value, or taken as a string.
    pub(crate) fn add_env(&mut self, vars: impl Iterator<Item = (String, String)>) -> Vec<String> {
        let mut errors = Vec::new();
        for (name, text) in vars {
            let Some(key) = name.strip_prefix("TESTRIG_").filter(|k| k.contains("__")) else { continue };
            let path = key.split("__").map(str::to_lowercase).collect::<Vec<_>>().join(".");
            if let Err(e) = self.set(&path, parse_value(&text), Origin::Env(name.clone())) {
                errors.push(format!("environment variable {name}: {e}"));
            }
        }
        errors
    }

    /// Adds one `--set key=value`.
    pub(crate) fn add_set(&mut self, assignment: &str) -> Result<(), String> {
        let origin = Origin::Flag(format!("--set {assignment}"));
        let Some((path, text)) = assignment.split_once('=') else {
            return Err(format!("--set {assignment}: `key=value` is expected, e.g. --set powerjob.app=llm-tests"));
        };
        self.set(path.trim(), parse_value(text.trim()), origin.clone()).map_err(|e| format!("{origin}: {e}"))
    }

    /// Sets one value by its dotted path; numbers in the path are positions in a list.
    pub(crate) fn set(&mut self, path: &str, value: Value, origin: Origin) -> Result<(), String> {
        let parts: Vec<&str> = path.split('.').collect();
        if parts.iter().any(|p| p.is_empty()) {
            return Err(format!("`{path}` is not a key; keys look like `powerjob.app`"));
        }
        let (last, above) = parts.split_last().expect("split gives at least one part");
        let mut place = &mut self.values;
        let mut rest = above.iter().peekable();
        while let Some(part) = rest.next() {
            let slot = place.entry((*part).to_owned()).or_insert_with(|| {
                if rest.peek().is_some_and(|p| p.parse::<usize>().is_ok()) {
                    Value::Array(Vec::new())
                } else {
                    Value::Object(Map::new())
                }
            });
            let slot = if let Value::Array(list) = slot {
                let index = rest.next().and_then(|p| p.parse::<usize>().ok());
                let Some(index) = index.filter(|i| *i <= list.len()) else {
                    return Err(format!(
                        "`{part}` is a list: `{part}.0`, `{part}.1` .. name its entries, without a gap"
                    ));
                };
                if index == list.len() {
                    list.push(Value::Object(Map::new()));
                }
                &mut list[index]
            } else {
                slot
            };
            let Value::Object(map) = slot else {
                return Err(format!("`{part}` in `{path}` is a plain value, not a section"));
            };
            place = map;
        }
        place.insert((*last).to_owned(), value);
        self.origins.insert(path.to_owned(), origin);
        Ok(())
    }
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

/// A TOML value, or the text itself when it is none (`--set powerjob.app=llm-tests` needs no quotes).
fn parse_value(text: &str) -> Value {
    text.parse::<toml_edit::Value>().map_or_else(|_| Value::String(text.to_owned()), |v| to_json(&v))
}

fn to_json(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(s) => Value::String(s.value().clone()),
        toml_edit::Value::Integer(i) => Value::from(*i.value()),
        toml_edit::Value::Float(f) => Value::from(*f.value()),
        toml_edit::Value::Boolean(b) => Value::Bool(*b.value()),
        toml_edit::Value::Datetime(d) => Value::String(d.value().to_string()),
        toml_edit::Value::Array(list) => Value::Array(list.iter().map(to_json).collect()),
        toml_edit::Value::InlineTable(table) => {
            Value::Object(table.iter().map(|(k, v)| (k.to_owned(), to_json(v))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stronger_layers_replace_weaker_ones_and_keep_their_origin() {
        let mut layers = Layers::default();
        layers.add_file(Path::new("a.toml"), "[powerjob]\napp = \"x\"\n[[lane]]\nname = \"l\"\n").expect("valid");
        layers.add_env([("TESTRIG_POWERJOB__APP".to_owned(), "y".to_owned())].into_iter());
        layers.add_set("lane.0.slots=4").expect("valid");
        layers.add_set("lane.1.name=second").expect("valid");
        assert_eq!(layers.values["powerjob"]["app"], "y");
        assert_eq!(layers.values["lane"][0]["slots"], 4);
        assert_eq!(layers.values["lane"][1]["name"], "second");
        assert_eq!(layers.origin("lane.0.name"), Some(&Origin::File("a.toml".into(), 4)));
        assert_eq!(
            layers.origin("powerjob.app").map(ToString::to_string),
            Some("environment variable TESTRIG_POWERJOB__APP".into())
        );
    }

    #[test]
    fn a_section_that_a_variable_opened_comes_from_that_variable() {
        let mut layers = Layers::default();
        layers.add_file(Path::new("a.toml"), "[powerjob]\napp = \"x\"\n").expect("valid");
        let vars = [("TESTRIG_E2E__X", "1"), ("TESTRIG_POWERJOB__OTHER__Y", "1")];
        layers.add_env(vars.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        for (path, name) in [("e2e", "TESTRIG_E2E__X"), ("powerjob.other", "TESTRIG_POWERJOB__OTHER__Y")] {
            assert_eq!(layers.origin(path), Some(&Origin::Env(name.into())), "{path}");
        }
        assert_eq!(layers.origin("powerjob"), Some(&Origin::File("a.toml".into(), 1)));
    }

    #[test]
    fn syntax_errors_name_the_line() {
        let e = Layers::default().add_file(Path::new("a.toml"), "[powerjob]\napp = \n").expect_err("broken");
        assert!(e.starts_with("a.toml:2: not valid TOML"), "{e}");
    }

    #[test]
    fn a_gap_in_a_list_is_refused() {
        let e = Layers::default().add_set("lane.3.tag=x").expect_err("gap");
        assert!(e.contains("without a gap"), "{e}");
    }
}
