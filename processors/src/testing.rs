//! What the tests of this crate share.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    Environment, Root,
    params::{Home, Table, schema},
    wrong,
};

/// An environment whose only allowed root is this directory.
pub(crate) fn environment(dir: &Path) -> Environment {
    let root = Root { path: dir.to_owned(), read_only: false };
    Environment::new(dir.join("state"), dir.join("no-shim"), vec![root], client())
}

fn client() -> reqwest::Client {
    static TLS: std::sync::Once = std::sync::Once::new();
    TLS.call_once(|| {
        // An error means that another test was faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("client")
}

/// What a form, a script or an attacker may put where something else belongs.
fn nonsense() -> Vec<Value> {
    vec![
        json!(true),
        json!(-1),
        json!(0),
        json!(1e300),
        json!(1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("  "),
        json!("../x"),
        json!("/../../etc/shadow"),
        json!("a/b\\c"),
        json!("模型 🚀\u{202e}"),
        json!("nul\0byte"),
        json!("line\nbreak"),
        json!("x".repeat(5000)),
        json!([]),
        json!([[1], {}]),
        json!({}),
        json!({"a": {"b": [null]}}),
        json!({"": "x"}),
        json!({"a=b": "x"}),
        json!({"a": "nul\0byte"}),
    ]
}

/// Puts nonsense into every parameter of a good pair of job and run parameters. What is not a good plan must be a message
/// with the parameter's name, of readable length.
pub(crate) fn try_nonsense(
    table: &'static Table,
    job: &Value,
    run: &Value,
    plan: impl Fn(&Value, &Value) -> Result<(), String>,
) {
    plan(job, run).expect("without nonsense it is good");
    for field in table.all() {
        for value in nonsense() {
            let (mut job, mut run) = (job.clone(), run.clone());
            let target = if field.home == Home::Job { &mut job } else { &mut run };
            target[field.name] = value.clone();
            let shown: String = value.to_string().chars().take(60).collect();
            if let Err(text) = plan(&job, &run) {
                assert!(text.contains(field.name), "{} = {shown}: the path is missing in {text}", field.name);
                assert!(text.len() < 3000, "{} = {shown}: {} bytes of message", field.name, text.len());
                assert!(!text.contains('\0'), "{} = {shown}: {text:?}", field.name);
            }
        }
    }
}

/// Puts everything that the generated schema says no to into every parameter of a good pair of job and run parameters. Each must
/// be one problem that names the parameter, what was found and what is accepted.
pub(crate) fn try_wrong_values(
    table: &'static Table,
    job: &Value,
    run: &Value,
    plan: impl Fn(&Value, &Value) -> Result<(), String>,
) {
    plan(job, run).expect("as it is it is good");
    let all = wrong::values(&schema(table));
    assert!(all.len() >= 3 * table.fields.len(), "{} wrong values are too few", all.len());
    for wrong::Wrong { name, value } in all {
        let home = table.field(&name).map_or(Home::Job, |field| field.home);
        let (mut job, mut run) = (job.clone(), run.clone());
        let (label, target) = if home == Home::Job { ("jobParams", &mut job) } else { ("instanceParams", &mut run) };
        target[&name] = value.clone();
        let text = plan(&job, &run).err().unwrap_or_else(|| panic!("{name} = {value} was accepted"));
        let path = format!("{label}.{name}: found ");
        assert!(text.contains(&path), "{name} = {value}: `{path}` is not in {text}");
        assert!(text.contains("; accepted: "), "{name} = {value}: what is accepted is not in {text}");
        assert!(!text.contains(" problems:"), "{name} = {value}: one problem, not several:\n{text}");
    }
}
