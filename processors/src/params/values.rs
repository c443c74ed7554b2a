//! The merged parameters and their typed getters.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    flatten::Unknown,
    mask,
    problem::{Problem, Problems},
    table::{Field, Home, Table},
};

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `jobParams`, `instanceParams` or `instanceParams.initParams`.
    Given(&'static str),
    /// The table's default.
    Default,
}

/// A parameter as a run would have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resolved {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
    /// `jobParams`, `instanceParams`, `instanceParams.initParams` or `default`.
    pub from: &'static str,
}

/// Merged, checked values of one table; problems are inside until [`Params::check`].
#[derive(Debug)]
pub struct Params {
    pub(super) table: &'static Table,
    pub(super) values: BTreeMap<&'static str, (Value, Origin)>,
    pub(super) problems: Vec<Problem>,
    /// Strongest layer first.
    pub(super) unknown: Vec<Unknown>,
    pub(super) warnings: Vec<String>,
}

impl Params {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&Value> {
        debug_assert!(self.table.field(name).is_some() || name == "jobType", "`{name}` is not in the table");
        self.values.get(name).map(|(value, _)| value)
    }

    /// The value as any type; `None` also where it is of another shape (then a problem is already noted).
    pub fn parse<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.get(name).and_then(|value| T::deserialize(value).ok())
    }

    /// Text.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Text, empty when missing: for required parameters, whose absence is a noted problem.
    pub fn string(&self, name: &str) -> String {
        self.str(name).unwrap_or_default().to_owned()
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_i64()
    }

    /// A whole number that is not negative (also sizes).
    pub fn u64(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64()
    }

    /// A number.
    pub fn num(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    /// true or false; false when missing.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A list of texts; empty when missing.
    pub fn strings(&self, name: &str) -> Vec<String> {
        self.parse(name).unwrap_or_default()
    }

    /// An object of texts; empty when missing.
    pub fn map(&self, name: &str) -> BTreeMap<String, String> {
        self.parse(name).unwrap_or_default()
    }

    /// The first of these names that somebody gave, else the first with a default: an override and what it overrides.
    pub fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        let origin = |name: &str| self.values.get(name).map(|(_, origin)| *origin);
        names
            .iter()
            .copied()
            .find(|name| matches!(origin(name), Some(Origin::Given(_))))
            .or_else(|| names.iter().copied().find(|name| origin(name).is_some()))
    }

    /// Where the value came from.
    pub fn origin(&self, name: &str) -> Option<Origin> {
        self.values.get(name).map(|(_, origin)| *origin)
    }

    /// Whether somebody gave it (a default does not count).
    pub fn given(&self, name: &str) -> bool {
        matches!(self.origin(name), Some(Origin::Given(_)))
    }

    /// Whether nobody gave it, not even a value that was refused.
    pub fn is_missing(&self, name: &str) -> bool {
        !self.given(name) && !self.problem_with(name)
    }

    /// Whether something is wrong with it already.
    pub fn problem_with(&self, name: &str) -> bool {
        self.problems.iter().any(|problem| {
            let inside = problem.path.split_once('.').map_or("", |(_, rest)| rest);
            inside.strip_prefix("initParams.").unwrap_or(inside) == name
        })
    }

    /// The path of a parameter for messages: where it was given, else where it belongs.
    pub fn path(&self, name: &str) -> String {
        let label = match self.origin(name) {
            Some(Origin::Given(label)) => label,
            _ => match self.field_of(name).map(|field| field.home) {
                Some(Home::Job) => "jobParams",
                _ => "instanceParams",
            },
        };
        format!("{label}.{name}")
    }

    /// The parameter's field, also for a path inside of it such as `volumes[0].hostPath`.
    fn field_of(&self, name: &str) -> Option<&'static Field> {
        let head = name.split('[').next().unwrap_or(name);
        self.table.field(head)
    }

    /// Notes a problem of the processor's own with a parameter.
    pub fn refuse(&mut self, name: &str, text: impl Into<String>) {
        let head = name.split('[').next().unwrap_or(name);
        let path = format!("{}{}", self.path(head), &name[head.len()..]);
        self.problems.push(Problem::says(path, without_its_middle(text.into())));
    }

    /// Notes that this agent's configuration does not allow a value.
    pub fn deny(&mut self, name: &str, denied: &impl std::fmt::Display) {
        self.refuse(name, denied.to_string());
        if let Some(problem) = self.problems.last_mut() {
            problem.denied = true;
        }
    }

    /// Notes a warning.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Unknown names and other things to say, that do not stop a run.
    pub fn warnings(&self) -> Vec<String> {
        self.unknown.iter().filter_map(|unknown| unknown.warning.clone()).chain(self.warnings.iter().cloned()).collect()
    }

    /// The value of a name that is in no table but that another parameter points to (`healthCheck.portKey`). It is used
    /// from here on, so nothing is said about it.
    pub fn take_unknown(&mut self, name: &str) -> Option<Value> {
        let at = self.unknown.iter().position(|unknown| unknown.name == name)?;
        let value = self.unknown[at].value.clone();
        self.unknown.retain(|unknown| unknown.name != name);
        Some(value)
    }

    /// Everything that is wrong so far.
    pub fn check(&self) -> Result<(), Problems> {
        match self.problems.is_empty() {
            true => Ok(()),
            false => Err(Problems { processor: self.table.processor, list: self.problems.clone() }),
        }
    }

    /// Every value with where it came from, secrets masked, in the order of the names.
    pub fn resolved(&self) -> Vec<Resolved> {
        let one = |(name, (value, origin)): (&&'static str, &(Value, Origin))| {
            let masked = mask::json(&Value::Object(Map::from_iter([((*name).to_owned(), value.clone())])));
            let from = match origin {
                Origin::Given(label) => label,
                Origin::Default => "default",
            };
            Resolved { name, value: masked.get(*name).cloned().unwrap_or_default(), from }
        };
        self.values.iter().map(one).collect()
    }

    /// The resolved values as one nested object with every secret masked, for the log.
    pub fn masked(&self) -> Value {
        let mut root = Map::new();
        for (name, (value, _)) in &self.values {
            match name.split_once('.').filter(|(group, _)| self.table.field(group).is_none()) {
                Some((group, rest)) => {
                    let group = root.entry(group).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(group) = group {
                        group.insert(rest.to_owned(), value.clone());
                    }
                }
                None => {
                    root.insert((*name).to_owned(), value.clone());
                }
            }
        }
        mask::json(&Value::Object(root))
    }
}

/// A message that quotes a value of any length stays one that people read: its begin says what was found, its end what is
/// accepted.
fn without_its_middle(text: String) -> String {
    const KEPT: usize = 600;
    let count = text.chars().count();
    if count <= 2 * KEPT {
        return text;
    }
    text.chars().take(KEPT).chain([' ', '…', ' ']).chain(text.chars().skip(count - KEPT)).collect()
}
