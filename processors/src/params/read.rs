//! Merges defaults, template and run.

use serde_json::Value;

use super::{
    flatten::{Flat, flatten},
    kind::accepted,
    problem::Problem,
    source::layers,
    table::{APPENDED, Home, Kind, Table},
    values::{Origin, Params},
};

/// The texts of a dispatch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// `jobParams` as it came.
    pub job_params: Option<&'a str>,
    /// `instanceParams` as it came; in a workflow the text of the context.
    pub instance_params: Option<&'a str>,
    /// Whether the instance is a node of a workflow.
    pub in_workflow: bool,
    /// The tables of the other processors: in a shared context their names are no mistakes.
    pub neighbours: &'a [&'static Table],
}

/// Merges and checks. Problems are inside the result until [`Params::check`] is called.
pub fn read(table: &'static Table, input: &Input<'_>) -> Params {
    let upstream: Vec<&str> = APPENDED.iter().copied().filter(|name| table.takes_from_upstream(name)).collect();
    let sources = layers(input.job_params, input.instance_params, input.in_workflow, APPENDED);
    let unreadable = !sources.problems.is_empty();
    let mut params = Params {
        table,
        values: Default::default(),
        problems: sources.problems,
        unknown: Vec::new(),
        warnings: Vec::new(),
    };
    let elsewhere = |name: &str| input.neighbours.iter().any(|other| other.knows(name));
    let mut wrong = Vec::new();
    let last = sources.layers.len() - 1;
    for (depth, layer) in sources.layers.iter().enumerate() {
        let mut flat = flatten(table, layer, &elsewhere);
        if input.in_workflow && depth == last {
            // What upstream nodes left fills gaps; it can neither be a mistake of this run nor change its identity.
            flat.values.retain(|name, _| upstream.contains(name));
            flat.unknown.clear();
        }
        merge(&mut params, flat, layer.label, &mut wrong);
    }
    fill_defaults(&mut params);
    if !unreadable {
        note_missing(&mut params, &wrong);
    }
    params
}

/// Adds a weaker layer: what is there stays; maps are merged entry by entry.
fn merge(params: &mut Params, flat: Flat, label: &'static str, wrong: &mut Vec<&'static str>) {
    params.problems.extend(flat.problems);
    params.unknown.extend(flat.unknown);
    wrong.extend(flat.wrong);
    for (name, value) in flat.values {
        match params.values.get_mut(name) {
            None => {
                params.values.insert(name, (value, Origin::Given(label)));
            }
            Some((Value::Object(strong), _)) if is_map(params.table, name) => {
                if let Value::Object(weak) = value {
                    for (key, value) in weak {
                        strong.entry(key).or_insert(value);
                    }
                }
            }
            Some(_) => {}
        }
    }
}

fn is_map(table: &Table, name: &str) -> bool {
    table.field(name).is_some_and(|field| matches!(field.kind, Kind::StrMap))
}

fn fill_defaults(params: &mut Params) {
    for field in params.table.all() {
        if let Some(json) = field.default
            && !params.values.contains_key(field.name)
        {
            let value = serde_json::from_str(json).expect("a table's default is JSON");
            params.values.insert(field.name, (value, Origin::Default));
        }
    }
}

fn note_missing(params: &mut Params, wrong: &[&'static str]) {
    if let Some(job_type) = params.table.job_type
        && !params.values.contains_key("jobType")
        && !wrong.contains(&"jobType")
    {
        let text = format!("is missing; accepted: \"{job_type}\"");
        params.problems.push(Problem::says("jobParams.jobType", text));
    }
    for field in params.table.all().filter(|field| field.required && !wrong.contains(&field.name)) {
        let empty = match params.values.get(field.name) {
            None => "is missing",
            Some((Value::String(text), _)) if text.trim().is_empty() => "is empty",
            Some((Value::Array(list), _)) if list.is_empty() => "is empty",
            Some(_) => continue,
        };
        let label = match field.home {
            Home::Job => "jobParams",
            Home::Instance => "instanceParams",
        };
        let text = format!("{empty}; accepted: {} ({})", accepted(&field.kind), field.doc);
        params.problems.push(Problem::says(format!("{label}.{}", field.name), text));
    }
}
