//! What the stand-in says: words that are counted like tokens, in the shapes of the API.

use serde_json::{Value, json};

/// Which API was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completion,
    Embedding,
}

/// A request as far as the answer depends on it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) max_tokens: Option<u32>,
    pub(super) inputs: Vec<String>,
}

impl Request {
    /// Reads a request body.
    pub(super) fn parse(api: Api, body: &[u8]) -> Result<Self, String> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| format!("the request body is not JSON: {error}"))?;
        let model = body.get("model").and_then(Value::as_str).ok_or("`model` is missing or no text")?.to_owned();
        let flag = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
        let limit = ["max_tokens", "max_completion_tokens"].into_iter().find_map(|name| body.get(name)?.as_u64());
        let max_tokens = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        if max_tokens == Some(0) {
            return Err("`max_tokens` is 0; accepted is 1 or more".to_owned());
        }
        let inputs = match api {
            Api::Chat => {
                let messages = body.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
                messages
                    .ok_or("`messages` is missing or no list with messages")?
                    .iter()
                    .map(|message| text_of(message.get("content")))
                    .collect()
            }
            Api::Completion => texts(body.get("prompt")).ok_or("`prompt` is missing or no text")?,
            Api::Embedding => texts(body.get("input")).ok_or("`input` is missing or no text or list of texts")?,
        };
        Ok(Self {
            api,
            model,
            stream: api != Api::Embedding && flag(body.get("stream")),
            include_usage: flag(body.pointer("/stream_options/include_usage")),
            max_tokens,
            inputs,
        })
    }

    /// Input tokens: words, and every character beyond Latin scripts.
    pub(super) fn prompt_tokens(&self) -> u64 {
        let count = |text: &String| {
            let wide = text.chars().filter(|c| *c >= '\u{2e80}').count();
            let words =
                text.split(|c: char| c.is_whitespace() || c >= '\u{2e80}').filter(|word| !word.is_empty()).count();
            (wide + words) as u64
        };
        self.inputs.iter().map(count).sum::<u64>().max(1)
    }
}

fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(texts) if !texts.is_empty() => texts.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Content of a message: a text, or parts with texts.
fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// Words that answers are made of. Some need several bytes a character, so that a reader that splits them is found out.
const WORDS: [&str; 8] = ["one", "二", "three", "quatre", "пять", "六", "🦀", "acht"];

/// Token number `n` of every answer.
pub(super) fn token(n: u32) -> String {
    let word = WORDS[n as usize % WORDS.len()];
    if n == 0 { word.to_owned() } else { format!(" {word}") }
}

/// The whole text of an answer with `tokens` tokens.
#[must_use]
pub fn text(tokens: u32) -> String {
    (0..tokens).map(token).collect()
}

/// One chunk of a stream.
pub(super) fn chunk(id: &str, request: &Request, text: &str, first: bool, finish: Option<&str>) -> Value {
    let (object, choice) = match request.api {
        Api::Chat => {
            let mut delta = json!({});
            if first {
                delta["role"] = json!("assistant");
                delta["content"] = json!("");
            }
            if !text.is_empty() {
                delta["content"] = json!(text);
            }
            ("chat.completion.chunk", json!({"index": 0, "delta": delta, "finish_reason": finish}))
        }
        Api::Completion | Api::Embedding => {
            ("text_completion", json!({"index": 0, "text": text, "finish_reason": finish}))
        }
    };
    json!({"id": id, "object": object, "created": 0, "model": request.model, "choices": [choice]})
}

/// The chunk with the counts, which has no choices.
pub(super) fn usage_chunk(id: &str, request: &Request, tokens: u32) -> Value {
    let object = if request.api == Api::Chat { "chat.completion.chunk" } else { "text_completion" };
    json!({"id": id, "object": object, "created": 0, "model": request.model, "choices": [], "usage": usage(request, tokens)})
}

/// A whole answer.
pub(super) fn whole(id: &str, request: &Request, tokens: u32, finish: &str) -> Value {
    let usage = usage(request, tokens);
    match request.api {
        Api::Chat => {
            let message = json!({"role": "assistant", "content": text(tokens)});
            let choice = json!({"index": 0, "message": message, "finish_reason": finish});
            json!({"id": id, "object": "chat.completion", "created": 0, "model": request.model, "choices": [choice], "usage": usage})
        }
        Api::Completion => {
            let choice = json!({"index": 0, "text": text(tokens), "finish_reason": finish});
            json!({"id": id, "object": "text_completion", "created": 0, "model": request.model, "choices": [choice], "usage": usage})
        }
        Api::Embedding => {
            let vector = |text: &String| -> Vec<f64> {
                if tokens == 0 {
                    return Vec::new();
                }
                let sum: u32 = text.bytes().map(u32::from).sum();
                (0..8).map(|n| f64::from((sum >> n) & 0xff) / 255.0 - 0.5).collect()
            };
            let data: Vec<Value> = request
                .inputs
                .iter()
                .enumerate()
                .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)}))
                .collect();
            let count = request.prompt_tokens();
            let usage = json!({"prompt_tokens": count, "total_tokens": count});
            json!({"object": "list", "data": data, "model": request.model, "usage": usage})
        }
    }
}

fn usage(request: &Request, tokens: u32) -> Value {
    let prompt = request.prompt_tokens();
    json!({"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + u64::from(tokens)})
}
