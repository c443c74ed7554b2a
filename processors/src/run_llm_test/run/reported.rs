//! `metrics.json`: the figures and the verdict that a test script or command leaves.

use std::{io::Read, path::Path};

use serde_json::{Map, Value, json};

/// The largest file that is read.
const LIMIT: u64 = 4 << 20;
/// The longest name of a figure; it is a column of the summary table.
const NAME_BYTES: usize = 63;
/// Names in the file that are no figures.
const WORDS: [&str; 4] = ["success", "message", "failures", "metrics"];

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reported {
    /// `success`: what the test itself thinks of its result.
    pub(super) success: Option<bool>,
    /// `message`: a line for the result.
    pub(super) message: Option<String>,
    /// Figures by name, nested ones joined with `_`.
    pub(super) figures: Map<String, Value>,
    /// `failures`: failed requests or cases by class.
    pub(super) failures: Option<Value>,
    /// What is not used, in words.
    pub(super) ignored: Vec<String>,
}

/// Reads the file; nothing if there is none.
///
/// # Errors
/// It cannot be read or is no JSON object, with what is accepted.
pub(super) fn read(file: &Path) -> Result<Option<Reported>, String> {
    let said = |what: String| {
        format!("{what}; accepted: a JSON object with numbers, e.g. {{\"accuracy\": 0.92, \"qps\": 14.5}}")
    };
    // A pipe or a directory under the name would be waited for.
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(format!("`{}` cannot be read: {error}", file.display()))),
        Ok(meta) if !meta.is_file() => return Err(said(format!("`{}` is no file", file.display()))),
        Ok(meta) if meta.len() > LIMIT => {
            return Err(said(format!("`{}` has {} bytes, {LIMIT} are read at most", file.display(), meta.len())));
        }
        Ok(_) => {}
    }
    let mut text = String::new();
    let opened = std::fs::File::open(file).map(|file| file.take(LIMIT));
    if let Err(error) = opened.and_then(|mut file| file.read_to_string(&mut text)) {
        return Err(said(format!("`{}` cannot be read: {error}", file.display())));
    }
    match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(Value::Object(object)) => Ok(Some(parse(object))),
        Ok(_) => Err(said(format!("`{}` holds no object", file.display()))),
        Err(error) => Err(said(format!("`{}` is not JSON: {error}", file.display()))),
    }
}

fn parse(mut object: Map<String, Value>) -> Reported {
    let mut out = Reported::default();
    match object.remove("success") {
        None => {}
        Some(Value::Bool(success)) => out.success = Some(success),
        Some(other) => out.ignored.push(format!("success (found {other}; accepted: true or false)")),
    }
    match object.remove("message") {
        None => {}
        Some(Value::String(message)) => out.message = Some(message),
        Some(other) => out.ignored.push(format!("message (found {other}; accepted: a text)")),
    }
    match object.remove("failures") {
        None => {}
        Some(failures @ Value::Object(_)) => out.failures = Some(failures),
        Some(other) => out.ignored.push(format!("failures (found {other}; accepted: an object of counts)")),
    }
    match object.remove("metrics") {
        None => {}
        Some(Value::Object(metrics)) => object.extend(metrics),
        Some(other) => out.ignored.push(format!("metrics (found {other}; accepted: an object of numbers)")),
    }
    for (name, value) in &object {
        take(&mut out, &plain(name), value);
    }
    out
}

fn take(out: &mut Reported, name: &str, value: &Value) {
    match value {
        Value::Number(_) if name.is_empty() || name.len() > NAME_BYTES => {
            out.ignored.push(format!("{name} (a figure's name has 1 to {NAME_BYTES} characters)"));
        }
        Value::Number(_) if WORDS.contains(&name) => out.ignored.push(format!("{name} (is no name of a figure)")),
        Value::Number(number) => {
            if out.figures.insert(name.to_owned(), json!(number)).is_some() {
                out.ignored.push(format!("{name} (is there twice, the last one counts)"));
            }
        }
        Value::Object(inner) => {
            for (below, value) in inner {
                take(out, &format!("{name}_{}", plain(below)), value);
            }
        }
        Value::Null => {}
        _ => out.ignored.push(format!("{name} (is no number)")),
    }
}

/// What a column of the summary table can be called.
fn plain(name: &str) -> String {
    name.trim().chars().map(|c| if c.is_ascii_alphanumeric() || "_.".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<Reported>, String> {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("metrics.json");
        std::fs::write(&file, text).expect("written");
        read(&file)
    }

    #[test]
    fn figures_are_flat_and_the_words_are_no_figures() {
        let text = r#"{"success": true, "message": "12 of 12", "accuracy": 0.5, "ttft": {"p50": 10, "p99": 20.5},
            "metrics": {"tokens/s": 3}, "failures": {"timeout": 2}, "note": "x", "nothing": null}"#;
        let found = of(text).expect("JSON").expect("there");
        assert_eq!((found.success, found.message.as_deref()), (Some(true), Some("12 of 12")));
        assert_eq!(
            Value::Object(found.figures),
            json!({"accuracy": 0.5, "ttft_p50": 10, "ttft_p99": 20.5, "tokens_s": 3})
        );
        assert_eq!(found.failures, Some(json!({"timeout": 2})));
        assert_eq!(found.ignored, ["note (is no number)"]);
    }

    #[test]
    fn what_is_no_object_is_an_error_that_says_what_is_accepted() {
        for (text, why) in [
            ("", "is not JSON"),
            ("[1]", "holds no object"),
            ("{\"a\": NaN}", "is not JSON"),
            ("{\"a\": 1", "is not JSON"),
        ] {
            let error = of(text).expect_err(text);
            assert!(error.contains(why) && error.contains("accepted: a JSON object with numbers"), "{error}");
        }
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(read(&dir.path().join("missing")), Ok(None));
        assert!(read(dir.path()).expect_err("a directory").contains("is no file"));
    }

    #[test]
    fn odd_names_and_values_are_told_and_not_used() {
        let found = of(&format!(r#"{{"success": "yes", "metrics": {{"message": 1}}, "{}": 1}}"#, "x".repeat(64)))
            .expect("JSON")
            .expect("there");
        assert_eq!((found.success, found.figures.len(), found.ignored.len()), (None, 0, 3), "{found:?}");
    }
}
