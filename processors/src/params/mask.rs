//! Hides secrets in what is logged: values under telling names, and what URLs carry.

use serde_json::Value;

/// What stands where a secret was.
pub const HIDDEN: &str = "***";

/// Whether the value under this name is a secret. Names of keys into the configuration (`apiKeyRef`, `smtpKey`) are not.
pub fn is_secret_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let plain: String = last.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    if plain.ends_with("ref") || plain.ends_with("tokens") {
        return false;
    }
    const WORDS: [&str; 10] = [
        "secret",
        "password",
        "passwd",
        "apikey",
        "accesskey",
        "privatekey",
        "credential",
        "authorization",
        "cookie",
        "webhookurl",
    ];
    // A tokenizer is no token.
    plain == "pwd" || plain.ends_with("token") || WORDS.iter().any(|word| plain.contains(word))
}

/// A copy of the value with every secret hidden.
pub fn json(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .iter()
                .map(|(key, value)| {
                    let value = match value {
                        Value::String(url) if is_secret_name(key) && url.contains("://") => {
                            Value::String(host_only(url))
                        }
                        Value::String(_) | Value::Number(_) if is_secret_name(key) => Value::String(HIDDEN.into()),
                        other => json(other),
                    };
                    (key.clone(), value)
                })
                .collect(),
        ),
        Value::Array(list) => {
            let texts: Option<Vec<String>> = list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            match texts {
                Some(texts) => Value::Array(command(&texts).into_iter().map(Value::String).collect()),
                None => Value::Array(list.iter().map(json).collect()),
            }
        }
        Value::String(plain) => Value::String(text(plain)),
        other => other.clone(),
    }
}

/// A command with its secrets hidden: the values of `--api-key x` and `--api-key=x`, and what URLs carry.
pub fn command(words: &[String]) -> Vec<String> {
    let mut hide_next = false;
    let mut masked = Vec::with_capacity(words.len());
    for word in words {
        let flag = word.starts_with('-');
        masked.push(match word.split_once('=') {
            _ if hide_next && !flag => HIDDEN.to_owned(),
            Some((name, _)) if is_secret_name(name) => format!("{name}={HIDDEN}"),
            _ => text(word),
        });
        hide_next = flag && !word.contains('=') && is_secret_name(word);
    }
    masked
}

/// Text with every URL in it masked: user information, query values, and path parts that look like tokens.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let start = rest[..at]
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)))
            .map_or(0, |i| i + rest[i..].chars().next().map_or(1, char::len_utf8));
        let end = rest[at..].find(|c: char| c.is_whitespace() || "\"'<>`".contains(c)).map_or(rest.len(), |i| at + i);
        out.push_str(&rest[..start]);
        out.push_str(&url(&rest[start..end]));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// One URL with its secrets hidden. What does not parse is taken apart by hand and hidden all the same.
pub fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(a, b)| (a, Some(b)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("{HIDDEN}@{host}"));
    let mut after_hook = false;
    let path: Vec<String> = path
        .split('/')
        .map(|part| {
            let hide = after_hook && !part.is_empty() && !is_version(part) || looks_like_token(part);
            if !part.is_empty() {
                after_hook = matches!(part, "hook" | "webhook" | "hooks" | "webhooks" | "services") || after_hook;
            }
            if hide { HIDDEN.to_owned() } else { part.to_owned() }
        })
        .collect();
    let query = query.map(|query| {
        let pairs: Vec<String> = query
            .split('&')
            .map(|pair| pair.split_once('=').map_or_else(|| HIDDEN.to_owned(), |(key, _)| format!("{key}={HIDDEN}")))
            .collect();
        format!("?{}", pairs.join("&"))
    });
    let fragment = fragment.map(|_| format!("#{HIDDEN}"));
    format!("{scheme}://{host}{}{}{}", path.join("/"), query.unwrap_or_default(), fragment.unwrap_or_default())
}

/// Scheme and host alone, for addresses that are secrets as a whole.
fn host_only(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(url) if url.has_host() => format!("{}://{}/{HIDDEN}", url.scheme(), url.host_str().unwrap_or_default()),
        _ => HIDDEN.into(),
    }
}

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn looks_like_token(part: &str) -> bool {
    let token_like = |c: char| c.is_ascii_hexdigit() || c == '-';
    part.len() >= 24 && part.chars().all(token_like) && part.chars().any(|c| c.is_ascii_digit())
}
