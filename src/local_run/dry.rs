//! `testrig run FILE --dry-run`: what would be done, and nothing of it.

use std::{fmt::Write, sync::Arc};

use serde_json::{Value, json};
use testrig_processors::{
    Environment,
    params::Input,
    preview::{Preview, Step, preview},
};
use testrig_store::Store;

use super::{initial_context, served, spec::Spec};
use crate::agent::migrations;

/// Most characters of a value in the table; `--json` has it whole.
const SHOWN: usize = 100;

/// Shows every node; `true` = nothing stands against a start.
pub(super) async fn run(
    file: &str,
    spec: &Spec,
    environment: &Arc<Environment>,
    as_json: bool,
) -> anyhow::Result<bool> {
    // Processors want a place for their runs; here there are none.
    let store = Store::open_in_memory(&migrations())?;
    let processors = testrig_processors::registry(environment, &store);
    for node in &spec.nodes {
        served(file, &node.processor, &processors, environment)?;
    }
    let context = Value::Object(initial_context(spec.init_params.as_deref())).to_string();
    let (mut good, mut shown) = (true, Vec::new());
    for (at, node) in spec.nodes.iter().enumerate() {
        let (job, instance) = (node.job_params(), node.instance_params());
        let input = Input {
            job_params: job.as_deref(),
            instance_params: if spec.workflow { Some(&context) } else { instance.as_deref() },
            in_workflow: spec.workflow,
            neighbours: testrig_processors::tables(),
        };
        let found = preview(environment, &node.processor, &input).await;
        let later = at > 0;
        good &= found.as_ref().is_none_or(|found| {
            found.problems.iter().all(|problem| problem.from_upstream && later)
                && !found.plan.iter().any(|step| step.hindered)
        });
        if !as_json {
            print!("{}{}", if later { "\n" } else { "" }, text(&node.processor, found.as_ref(), later));
        }
        shown.push(json!({ "processor": node.processor, "preview": found }));
    }
    if !as_json {
        println!(
            "\n{}",
            if good {
                "nothing stands against a start"
            } else {
                "it would not start as things are now: see `PROBLEM` and (!)"
            }
        );
    } else {
        println!("{:#}", json!({ "wouldStart": good, "nodes": shown }));
    }
    Ok(good)
}

fn text(processor: &str, found: Option<&Preview>, later: bool) -> String {
    let mut out = format!("{processor}\n");
    let Some(found) = found else {
        out.push_str("  reads its parameters only while it works: nothing can be said before\n");
        return out;
    };
    for problem in &found.problems {
        let note = match problem.from_upstream && later {
            true => "from an earlier node",
            false => "PROBLEM",
        };
        let _ = writeln!(out, "  {note}: {}: {}", problem.path, problem.text);
    }
    for warning in &found.warnings {
        let _ = writeln!(out, "  warning: {warning}");
    }
    let label = |step: &Step| if step.hindered { format!("{} (!)", step.about) } else { step.about.to_owned() };
    let steps: Vec<_> = found.plan.iter().map(|step| [label(step), step.text.clone(), String::new()]).collect();
    rows(&mut out, "plan", &steps);
    let values =
        found.parameters.iter().map(|value| [value.name.to_owned(), short(&value.value), value.from.to_owned()]);
    rows(&mut out, "parameters", &values.collect::<Vec<_>>());
    out
}

/// Lines of three columns, of which the last one may be empty.
fn rows(out: &mut String, head: &str, rows: &[[String; 3]]) {
    if rows.is_empty() {
        return;
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let _ = writeln!(out, "  {head}:");
    for [a, b, c] in rows {
        let line = format!("    {a:<first$}  {b:<second$}  {c}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use testrig_processors::{params::Resolved, preview::Trouble};

    use super::*;

    #[test]
    fn the_table_names_problems_first_and_where_every_value_came_from() {
        let found = Preview {
            parameters: vec![
                Resolved { name: "qps", value: json!(5), from: "instanceParams" },
                Resolved { name: "scenario", value: json!("x".repeat(200)), from: "default" },
            ],
            plan: vec![
                Step { about: "image", text: "a:1".to_owned(), hindered: false },
                Step { about: "accelerators", text: "all busy".to_owned(), hindered: true },
            ],
            warnings: vec!["odd".to_owned()],
            problems: vec![Trouble {
                path: "jobParams.a".to_owned(),
                text: "is missing".to_owned(),
                from_upstream: true,
            }],
        };
        let said = text("RunLLMTest", Some(&found), false);
        assert!(
            said.starts_with("RunLLMTest\n  PROBLEM: jobParams.a: is missing\n  warning: odd\n  plan:\n"),
            "{said}"
        );
        assert!(said.contains("\n    accelerators (!)  all busy\n"), "{said}");
        assert!(said.contains("    qps       5 ") && said.contains("instanceParams\n"), "{said}");
        assert!(said.contains(&format!("{} …  default\n", "x".repeat(SHOWN))), "{said}");
        assert!(text("RunLLMTest", Some(&found), true).contains("from an earlier node: jobParams.a"));
        assert!(text("x.Y", None, false).contains("only while it works"));
    }
}
