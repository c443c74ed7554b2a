//! Where an official processor's parameters come from, and how they stand in the log.

use powerjob_worker::TaskContext;
use serde_json::Value;
use testrig_sql::Address;

use crate::params::mask;

/// In a workflow always the node's own parameters; else those of this run if there are any.
pub(super) fn of(ctx: &TaskContext) -> Option<&str> {
    let run = ctx.instance_params.as_deref().filter(|text| !text.is_empty() && ctx.wf_instance_id.is_none());
    run.or(ctx.job_params.as_deref())
}

/// Tells the parameters, without the secrets in them.
pub(super) fn tell(ctx: &TaskContext, text: Option<&str>) {
    ctx.log.info(format!("using params: {}", text.map_or_else(|| "none".to_owned(), shown)));
}

/// A text with what looks like a secret hidden: JSON by its keys, everything else line by line.
pub(super) fn shown(text: &str) -> String {
    match super::json::parse(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => json(&value).to_string(),
        _ => text.split('\n').map(line).collect::<Vec<_>>().join("\n"),
    }
}

/// Masks by key; addresses that the general mask does not know for such: those of databases, and URLs without a scheme.
fn json(value: &Value) -> Value {
    let mut masked = mask::json(value);
    if let (Some(object), Some(given)) = (masked.as_object_mut(), value.as_object()) {
        for (name, value) in given {
            let Some(text) = value.as_str() else { continue };
            let shown = match name.to_lowercase().as_str() {
                "jdbcurl" => {
                    Address::parse(text).map_or_else(|_| mask::HIDDEN.to_owned(), |address| address.to_string())
                }
                "url" if !text.contains("://") => mask::url(&format!("http://{text}")).replacen("http://", "", 1),
                _ => continue,
            };
            object.insert(name.clone(), shown.into());
        }
    }
    masked
}

/// Everything behind the first name that promises a secret: `export API_KEY=..`, `--password ..`, `Authorization: ..`.
fn line(text: &str) -> String {
    let text = mask::text(text);
    let mut begin = 0;
    for (at, end) in text.match_indices(['=', ':', ' ']).map(|(at, sign)| (at, at + sign.len())) {
        let word = text[begin..at].trim_matches(['"', '\'', '{', '$', '-', '(', ',']);
        let is_flag = text[begin..at].starts_with('-');
        let names = !text[at..].starts_with(' ') || is_flag;
        if names && !word.is_empty() && mask::is_secret_name(word) && text.len() > end {
            return format!("{}{}", &text[..end], mask::HIDDEN);
        }
        begin = end;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_scripts_and_json_are_not_shown() {
        for (text, wanted) in [
            ("echo hello world", "echo hello world"),
            ("export API_KEY=abc def", "export API_KEY=***"),
            ("mysql -u rig --password s3cret db", "mysql -u rig --password ***"),
            ("curl -H 'Authorization: Bearer abc' x", "curl -H 'Authorization:***"),
            ("curl http://u:pw@h/x?token=abc", "curl http://***@h/x?token=***"),
            ("a\nPASSWORD=\"a b\"\nc", "a\nPASSWORD=***\nc"),
            (r#"{url:'h/x?a=s3cret'}"#, r#"{"url":"h/x?a=***"}"#),
            (r#"{"user":"u","password":"p", url:'http://h/'}"#, r#"{"user":"u","password":"***","url":"http://h/"}"#),
            (r#"{"jdbcUrl":"jdbc:mysql://u:s3cret@h/d?password=x"}"#, r#"{"jdbcUrl":"`mysql://u@h:3306/d`"}"#),
            (r#"{"jdbcUrl":"jdbc:h2:mem:x;PASSWORD=y"}"#, r#"{"jdbcUrl":"***"}"#),
        ] {
            assert_eq!(shown(text), wanted);
        }
    }
}
