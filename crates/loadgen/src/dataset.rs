//! What is asked: items from a JSONL file or the built-in prompts.

mod builtin;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value, json};

/// What an item may look like, for messages.
const ACCEPTED: &str = "accepted is an object with one of \"prompt\": text, \"messages\": [{\"role\",\"content\"}], \"input\": text, \
    or \"conversations\": [{\"from\",\"value\"}], and optionally \"id\", \"max_tokens\", \"reference\" or \"answer\"";

/// Items that a run asks in order. Clones share them.
#[derive(Debug, Clone)]
pub struct Dataset {
    name: String,
    items: Arc<[Item]>,
}

impl Dataset {
    /// The small built-in set of prompts, English and Chinese, without references.
    #[must_use]
    pub fn builtin() -> Self {
        let items = builtin::PROMPTS.iter().map(|(id, text)| Item {
            id: (*id).to_owned(),
            input: Input::Text((*text).to_owned()),
            max_tokens: None,
            reference: None,
        });
        Self { name: "builtin".to_owned(), items: items.collect() }
    }

    /// A set of given items.
    pub fn from_items(name: impl Into<String>, items: Vec<Item>) -> Self {
        Self { name: name.into(), items: items.into() }
    }

    /// Reads a file with one JSON object a line, or one JSON array of such objects.
    ///
    /// # Errors
    /// When the file cannot be read, is not UTF-8, has no items, or a line is not an item.
    pub fn load(path: &Path) -> Result<Self, DatasetError> {
        let name = path.file_stem().map_or_else(|| "dataset".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let read_error = |source| DatasetError::Read { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(read_error)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            DatasetError::Item { path: path.to_owned(), line, problem: "is not UTF-8".to_owned() }
        })?;
        let items =
            parse(&text).map_err(|(line, problem)| DatasetError::Item { path: path.to_owned(), line, problem })?;
        if items.is_empty() {
            return Err(DatasetError::NoItems { path: path.to_owned() });
        }
        Ok(Self { name, items: items.into() })
    }

    /// Name: `builtin`, or the file's name without its ending.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All items.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The item of request number `n`: in order, again from the start at the end. The set must not be empty.
    #[must_use]
    pub fn item(&self, n: u64) -> &Item {
        let len = u64::try_from(self.items.len()).unwrap_or(u64::MAX);
        &self.items[usize::try_from(n % len).expect("less than the number of items")]
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Id in records: the item's own, or its line number.
    pub id: String,
    /// What is asked.
    pub input: Input,
    /// Output token limit, over the plan's.
    pub max_tokens: Option<u32>,
    /// The right answer.
    pub reference: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A text.
    Text(String),
    /// Chat messages as the API has them.
    Messages(Vec<Value>),
}

impl Input {
    /// As chat messages.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        match self {
            Self::Text(text) => vec![json!({"role": "user", "content": text})],
            Self::Messages(messages) => messages.clone(),
        }
    }

    /// As one text: the contents of messages, a line each.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Messages(messages) => {
                let contents: Vec<&str> =
                    messages.iter().filter_map(|message| message.get("content")?.as_str()).collect();
                contents.join("\n")
            }
        }
    }
}

/// A dataset that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file cannot be read.
    #[error("failed to read dataset `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not an item.
    #[error("dataset `{}` line {line} {problem}", path.display())]
    Item {
        /// The file.
        path: PathBuf,
        /// From 1; in a JSON array the number of the element.
        line: usize,
        /// What was found and what is accepted.
        problem: String,
    },
    /// The file holds no item.
    #[error("dataset `{}` has no items; {ACCEPTED}, one a line", path.display())]
    NoItems {
        /// The file.
        path: PathBuf,
    },
}

type LineProblem = (usize, String);

fn parse(text: &str) -> Result<Vec<Item>, LineProblem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('[') {
        let values: Vec<Value> =
            serde_json::from_str(text).map_err(|error| (error.line(), format!("is no JSON array: {error}")))?;
        return values.iter().enumerate().map(|(at, value)| numbered(at + 1, value)).collect();
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let value =
                serde_json::from_str(line).map_err(|error| (at + 1, format!("is not JSON ({error}); {ACCEPTED}")))?;
            numbered(at + 1, &value)
        })
        .collect()
}

fn numbered(line: usize, value: &Value) -> Result<Item, LineProblem> {
    item(line, value).map_err(|problem| (line, problem))
}

fn item(line: usize, value: &Value) -> Result<Item, String> {
    let Value::Object(fields) = value else {
        return Err(format!("is {}; {ACCEPTED}", kind(value)));
    };
    let id = match fields.get("id") {
        None | Some(Value::Null) => line.to_string(),
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        Some(other) => {
            return Err(format!("has an \"id\" that is {}; accepted is text or a number", kind(other)));
        }
    };
    let (input, sharegpt_answer) = input(fields)?;
    let max_tokens = match fields.get("max_tokens") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let tokens = value.as_u64().and_then(|tokens| u32::try_from(tokens).ok()).filter(|tokens| *tokens > 0);
            Some(tokens.ok_or_else(|| format!("has \"max_tokens\": {value}; accepted is a whole number from 1"))?)
        }
    };
    let reference = match fields.get("reference").or_else(|| fields.get("answer")) {
        None | Some(Value::Null) => sharegpt_answer,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(other) => {
            return Err(format!("has a reference that is {}; accepted is text or a number", kind(other)));
        }
    };
    Ok(Item { id, input, max_tokens, reference })
}

/// The question, and for conversations the answer that stands there.
fn input(fields: &Map<String, Value>) -> Result<(Input, Option<String>), String> {
    for name in ["prompt", "input"] {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if !text.is_empty() => {
                return Ok((Input::Text(text.clone()), None));
            }
            Some(Value::String(_)) => return Err(format!("has an empty \"{name}\"; {ACCEPTED}")),
            Some(other) => {
                return Err(format!("has a \"{name}\" that is {}; {ACCEPTED}", kind(other)));
            }
        }
    }
    if let Some(messages) = fields.get("messages") {
        let messages = messages.as_array().filter(|messages| {
            !messages.is_empty() && messages.iter().all(|message| message.get("role").is_some_and(Value::is_string))
        });
        let messages = messages
            .ok_or_else(|| format!("has \"messages\" that are no list of objects with \"role\"; {ACCEPTED}"))?;
        return Ok((Input::Messages(messages.clone()), None));
    }
    if let Some(turns) = fields.get("conversations") {
        return conversation(turns).ok_or_else(|| {
            format!("has \"conversations\" without a first turn of a human ({{\"from\":\"human\",\"value\":text}}); {ACCEPTED}")
        });
    }
    let found: Vec<&str> = fields.keys().map(String::as_str).collect();
    Err(format!("has only [{}]; {ACCEPTED}", found.join(", ")))
}

/// System turns and the first human turn are the question, the turn behind it is the answer.
fn conversation(turns: &Value) -> Option<(Input, Option<String>)> {
    let mut messages = Vec::new();
    let mut turns = turns.as_array()?.iter();
    for turn in turns.by_ref() {
        let text = turn.get("value")?.as_str()?;
        match turn.get("from")?.as_str()? {
            "system" => messages.push(json!({"role": "system", "content": text})),
            "human" | "user" => {
                messages.push(json!({"role": "user", "content": text}));
                let answer = turns.next().and_then(|turn| turn.get("value")?.as_str()).map(str::to_owned);
                return Some((Input::Messages(messages), answer));
            }
            _ => return None,
        }
    }
    None
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
