//! What the words and codes of the drivers mean: a map, built in and overridden by the configuration.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::{Deserialize, Serialize};

/// The map that holds without a configuration.
const BUILT_IN: &str = include_str!("health.toml");

/// What a card's health means for giving it away. The order is from good to bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthClass {
    /// Nothing.
    #[default]
    Ok,
    /// Given away, and told.
    Warning,
    /// Not given away now: it cannot be said.
    Unknown,
    /// Not given away.
    Fault,
}

impl fmt::Display for HealthClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Fault => "fault",
        })
    }
}

/// A card's health, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What it means.
    pub class: HealthClass,
    /// The driver's words; empty when there is nothing to say.
    pub detail: String,
}

impl Health {
    /// The worse of the two stays the class; both are told.
    pub fn and(mut self, class: HealthClass, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        if class > HealthClass::Ok {
            if !self.detail.is_empty() {
                self.detail.push_str(", ");
            }
            self.detail.push_str(&detail);
        }
        self.class = self.class.max(class);
        self
    }
}

type Codes = BTreeMap<String, HealthClass>;

/// Classes by table (`nvidia.xid`) and code.
#[derive(Clone, Debug)]
pub struct HealthMap {
    tables: BTreeMap<String, Codes>,
}

impl Default for HealthMap {
    fn default() -> Self {
        Self { tables: read(BUILT_IN).expect("the built-in map is well formed") }
    }
}

impl HealthMap {
    /// The built-in map with what this file says instead.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else than classes by code, in words.
    pub fn with_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the health map {} cannot be read: {error}", path.display()))?;
        Self::default().with_text(&text).map_err(|error| format!("the health map {}: {error}", path.display()))
    }

    fn with_text(mut self, text: &str) -> Result<Self, String> {
        for (table, codes) in read(text)? {
            let Some(known) = self.tables.get_mut(&table) else {
                let names: Vec<&str> = self.tables.keys().map(String::as_str).collect();
                return Err(format!("unknown table [{table}]; known: {}", names.join(", ")));
            };
            known.extend(codes);
        }
        Ok(self)
    }

    /// The class of a code in a table; the table's `default` for one that it does not name.
    pub fn class(&self, table: &str, code: impl fmt::Display) -> HealthClass {
        let codes = &self.tables[table];
        let code = code.to_string().to_ascii_uppercase();
        codes.get(&code).or_else(|| codes.get("DEFAULT")).copied().unwrap_or(HealthClass::Unknown)
    }
}

fn read(text: &str) -> Result<BTreeMap<String, Codes>, String> {
    let vendors: BTreeMap<String, BTreeMap<String, Codes>> =
        toml::from_str(text).map_err(|error| error.to_string().trim().replace('\n', " "))?;
    let mut tables = BTreeMap::new();
    for (vendor, parts) in vendors {
        for (part, codes) in parts {
            let codes = codes.into_iter().map(|(code, class)| (code.to_ascii_uppercase(), class)).collect();
            tables.insert(format!("{vendor}.{part}"), codes);
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_a_program_leaves_the_card_well_and_an_unnamed_one_does_not() {
        let map = HealthMap::default();
        assert_eq!(map.class("nvidia.xid", 31), HealthClass::Ok);
        assert_eq!(map.class("nvidia.xid", 79), HealthClass::Fault);
        assert_eq!(map.class("ascend.health", 1), HealthClass::Warning);
        assert_eq!(map.class("ascend.health", u32::MAX), HealthClass::Unknown);
        assert_eq!(map.class("nvidia.answer", 15), HealthClass::Fault);
    }

    #[test]
    fn a_file_overrides_single_codes_and_its_mistakes_are_named() {
        let map = HealthMap::default()
            .with_text("[nvidia.xid]\n79 = \"warning\"\n[ascend.code]\n80e01801 = \"fault\"\n")
            .expect("well formed");
        assert_eq!(map.class("nvidia.xid", 79), HealthClass::Warning);
        assert_eq!(map.class("nvidia.xid", 48), HealthClass::Fault, "the rest stays");
        assert_eq!(map.class("ascend.code", "80E01801"), HealthClass::Fault);
        let error = HealthMap::default().with_text("[nvidia.xids]\n1 = \"ok\"\n").expect_err("no such table");
        assert!(error.contains("[nvidia.xids]") && error.contains("nvidia.answer, nvidia.xid"), "{error}");
        let error = HealthMap::default().with_text("[nvidia.xid]\n1 = \"bad\"\n").expect_err("no such class");
        assert!(error.contains("ok") && error.contains("fault"), "{error}");
    }

    #[test]
    fn the_worst_of_several_states_counts_and_all_are_told() {
        let health = Health::default()
            .and(HealthClass::Ok, "fine")
            .and(HealthClass::Warning, "XID 63")
            .and(HealthClass::Fault, "XID 79");
        assert_eq!(health, Health { class: HealthClass::Fault, detail: "XID 63, XID 79".into() });
    }
}
