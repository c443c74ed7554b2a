//! From nested or dotted objects to the names of a table.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    kind,
    problem::{Problem, nearest},
    source::{Layer, describe},
    table::{Field, Kind, Table, is_prefix},
};

/// What one layer says: checked values by field name; `None` inside a layer never occurs (null = absent).
#[derive(Debug, Default)]
pub(super) struct Flat {
    /// Checked values.
    pub(super) values: BTreeMap<&'static str, Value>,
    /// Fields that were given but wrong: they are not missing.
    pub(super) wrong: Vec<&'static str>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// Names that the table does not know, with their values and what is said about them (nothing in a shared context).
    pub(super) unknown: Vec<Unknown>,
}

/// A name that the table does not know.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) warning: Option<String>,
}

/// Reads a layer with a table. `elsewhere` tells whether another processor knows a name.
pub(super) fn flatten(table: &'static Table, layer: &Layer, elsewhere: &dyn Fn(&str) -> bool) -> Flat {
    let mut walk = Walk { table, layer, elsewhere, out: Flat::default() };
    walk.object("", &layer.object);
    walk.out
}

struct Walk<'a> {
    table: &'static Table,
    layer: &'a Layer,
    elsewhere: &'a dyn Fn(&str) -> bool,
    out: Flat,
}

impl Walk<'_> {
    fn object(&mut self, prefix: &str, object: &Map<String, Value>) {
        for (key, value) in object {
            if value.is_null() {
                continue;
            }
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            self.entry(&name, value);
        }
    }

    fn entry(&mut self, name: &str, value: &Value) {
        if name == "jobType" {
            self.job_type(value);
        } else if let Some(field) = self.table.field(name) {
            // `env` is a name and, as `env.setupScript`, the beginning of others.
            if value.is_object() && self.is_group(name) { self.group(name, value) } else { self.field(field, value) }
        } else if let Some((field, rest)) = self.inside_map(name) {
            let mut entry = Map::new();
            entry.insert(rest.to_owned(), value.clone());
            self.field(field, &Value::Object(entry));
        } else if self.is_group(name) {
            self.group(name, value);
        } else {
            self.unknown(name, value);
        }
    }

    fn is_group(&self, name: &str) -> bool {
        self.table.all().any(|field| is_prefix(name, field.name))
    }

    fn job_type(&mut self, value: &Value) {
        let Some(expected) = self.table.job_type else {
            return self.unknown("jobType", value);
        };
        // The context is shared by nodes of several types; only the node's own parameters say which job this is.
        if self.layer.shared && value.as_str() != Some(expected) {
            return;
        }
        if value.as_str() == Some(expected) {
            self.out.values.insert("jobType", value.clone());
        } else {
            let path = format!("{}.jobType", self.layer.label);
            self.out.problems.push(Problem::found(path, describe(value), format!("\"{expected}\"")));
            self.out.wrong.push("jobType");
        }
    }

    fn inside_map<'n>(&self, name: &'n str) -> Option<(&'static Field, &'n str)> {
        self.table
            .all()
            .filter(|field| matches!(field.kind, Kind::StrMap))
            .find_map(|field| name.strip_prefix(field.name)?.strip_prefix('.').map(|rest| (field, rest)))
    }

    /// An object that holds fields, e.g. `docker`; in a context it may be the text of one.
    fn group(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(object) => self.object(name, object),
            Value::String(text) if self.layer.stringly => match serde_json::from_str(text) {
                Ok(Value::Object(object)) => self.object(name, &object),
                _ => self.group_problem(name, value),
            },
            other => self.group_problem(name, other),
        }
    }

    fn group_problem(&mut self, name: &str, value: &Value) {
        let inside: Vec<_> = self
            .table
            .all()
            .filter(|field| is_prefix(name, field.name))
            .map(|field| &field.name[name.len() + 1..])
            .collect();
        let path = format!("{}.{name}", self.layer.label);
        self.out.problems.push(Problem::found(path, describe(value), format!("an object with {}", inside.join(", "))));
        // What the object should have held is not missing as well.
        self.out.wrong.extend(self.table.all().filter(|field| is_prefix(name, field.name)).map(|field| field.name));
    }

    fn field(&mut self, field: &'static Field, value: &Value) {
        let path = format!("{}.{}", self.layer.label, field.name);
        match kind::check(field, &path, value, self.layer.stringly) {
            Ok(checked) => match self.out.values.get_mut(field.name) {
                None => {
                    self.out.values.insert(field.name, checked);
                }
                Some(Value::Object(map)) if matches!(field.kind, Kind::StrMap) => {
                    if let Value::Object(more) = checked {
                        map.extend(more);
                    }
                }
                Some(first) if *first == checked => {}
                Some(_) => self
                    .out
                    .problems
                    .push(Problem::says(path, "is given twice with different values (dotted and nested)")),
            },
            Err(problems) => {
                self.out.problems.extend(problems);
                self.out.wrong.push(field.name);
            }
        }
    }

    fn unknown(&mut self, name: &str, value: &Value) {
        let top = name.split('.').next().unwrap_or(name);
        let needed_elsewhere = self.layer.shared
            && (super::table::APPENDED.contains(&top) || (self.elsewhere)(name) || (self.elsewhere)(top));
        let known = self.table.all().map(|field| field.name).chain(self.table.job_type.map(|_| "jobType"));
        let hint = match nearest(name, known) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        };
        let warning = (!needed_elsewhere).then(|| {
            format!("{}.{name} is not a parameter of {} and is not used{hint}", self.layer.label, self.table.processor)
        });
        self.out.unknown.push(Unknown { name: name.to_owned(), value: value.clone(), warning });
    }
}
