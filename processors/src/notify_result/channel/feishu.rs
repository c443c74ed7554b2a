//! `feishu`: Feishu's custom robots (open.feishu.cn, "custom bot usage guide").

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::Delivery;
use crate::outbound::Fault;

/// How the message looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::notify_result) enum Look {
    Card,
    Text,
}

/// Code of an answer that says "too often" and nothing worse.
const TOO_OFTEN: i64 = 11_232;

/// The body, signed where the robot has a secret. `now` is in seconds since 1970.
pub(super) fn body(delivery: &Delivery<'_>, look: Look, secret: Option<&str>, now: i64) -> Value {
    let mut body = match look {
        Look::Text => json!({ "msg_type": "text", "content": { "text": text(delivery) } }),
        Look::Card => json!({ "msg_type": "interactive", "card": card(delivery) }),
    };
    if let Some(secret) = secret {
        body["timestamp"] = json!(now.to_string());
        body["sign"] = json!(sign(now, secret));
    }
    body
}

/// HMAC-SHA256 of nothing, with `timestamp\nsecret` as the key, in base64.
fn sign(now: i64, secret: &str) -> String {
    let key = format!("{now}\n{secret}");
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length will do");
    STANDARD.encode(mac.finalize().into_bytes())
}

fn text(delivery: &Delivery<'_>) -> String {
    // What others wrote must not mention anybody.
    let mut text = delivery.message.text().replace("<at", "< at");
    let mentions: Vec<String> = delivery
        .facts
        .receivers
        .iter()
        .filter(|id| plain_id(id))
        .map(|id| format!("<at user_id=\"{id}\"></at>"))
        .collect();
    if !mentions.is_empty() {
        text = format!("{text}\n{}", mentions.join(" "));
    }
    text
}

fn card(delivery: &Delivery<'_>) -> Value {
    let (facts, message) = (delivery.facts, delivery.message);
    let color = match (facts.level.as_str(), facts.status.as_str()) {
        ("CRITICAL", _) => "red",
        ("WARN", _) => "orange",
        (_, "SUCCEED") => "green",
        _ => "blue",
    };
    // Plain text: nothing in it is markup.
    let mut elements =
        vec![json!({ "tag": "div", "text": { "tag": "plain_text", "content": message.lines.join("\n") } })];
    let mentions: Vec<String> = facts
        .receivers
        .iter()
        .filter(|id| plain_id(id))
        .map(|id| if id.contains('@') { format!("<at email={id}></at>") } else { format!("<at id={id}></at>") })
        .collect();
    if !mentions.is_empty() {
        elements.push(json!({ "tag": "markdown", "content": mentions.join(" ") }));
    }
    if let Some(url) = &facts.summary_url {
        elements.push(json!({ "tag": "action", "actions": [
            { "tag": "button", "type": "primary", "url": url, "text": { "tag": "plain_text", "content": message.link } },
        ] }));
    }
    json!({
        "config": { "wide_screen_mode": true },
        "header": { "template": color, "title": { "tag": "plain_text", "content": message.title } },
        "elements": elements,
    })
}

/// Whether this can be an id or a mail address, and nothing that would be markup.
pub(in crate::notify_result) fn plain_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "_-@.+".contains(c))
}

/// HTTP 200 says little: the code in the body decides.
pub(super) fn check(answer: &str) -> Result<(), Fault> {
    let Ok(Value::Object(body)) = serde_json::from_str(answer) else {
        let begin: String = answer.chars().take(100).collect();
        return Err(Fault::Lasting(format!(
            "the answer is not that of a Feishu robot: {begin:?}; check channelConfig.feishu.webhookUrl"
        )));
    };
    // Older robots say StatusCode.
    let code = body.get("code").or_else(|| body.get("StatusCode")).and_then(Value::as_i64);
    let said = body.get("msg").or_else(|| body.get("StatusMessage")).and_then(Value::as_str).unwrap_or("no message");
    match code {
        Some(0) => Ok(()),
        Some(TOO_OFTEN) => Err(Fault::Passing(format!("Feishu answered code {TOO_OFTEN}: {said}"))),
        Some(code) => Err(Fault::Lasting(format!("Feishu answered code {code}: {said}{}", hint(code)))),
        None => Err(Fault::Lasting("the answer of Feishu has no code; check channelConfig.feishu.webhookUrl".into())),
    }
}

fn hint(code: i64) -> &'static str {
    match code {
        19_001 => "; check the token in channelConfig.feishu.webhookUrl",
        19_021 => "; check channelConfig.feishu.secretRef and this host's clock",
        19_022 => "; the robot does not accept this host's address",
        19_024 => "; the robot wants a keyword that the text does not have",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify_result::{facts::Facts, text::Message};

    fn facts() -> Facts {
        Facts {
            level: "CRITICAL".into(),
            status: "FAILED".into(),
            summary_url: Some("https://platform.local/1".into()),
            receivers: vec!["ou_1".into(), "a@b.c".into(), "x\"></at><at user_id=\"all".into()],
            ..Facts::default()
        }
    }

    fn with(look: Look, secret: Option<&str>) -> Value {
        let message =
            Message { title: "title".into(), lines: vec!["one <at user_id=\"all\"></at>".into()], link: "details" };
        body(&Delivery { instance_id: 7, facts: &facts(), message: &message }, look, secret, 1_599_360_473)
    }

    #[test]
    fn the_signature_is_the_documented_one() {
        // Computed with the documentation's own Python lines: hmac.new(b"1599360473\ndemo", digestmod=sha256).
        assert_eq!(sign(1_599_360_473, "demo"), SIGNED);
        let signed = with(Look::Text, Some("demo"));
        assert_eq!((signed["timestamp"].as_str(), signed["sign"].as_str()), (Some("1599360473"), Some(SIGNED)));
        assert!(with(Look::Text, None).get("sign").is_none());
    }

    const SIGNED: &str = "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=";

    #[test]
    fn a_card_has_color_text_mentions_and_link() {
        let card = with(Look::Card, None);
        assert_eq!(card["msg_type"], "interactive");
        assert_eq!(card["card"]["header"]["template"], "red");
        assert_eq!(card["card"]["elements"][0]["text"]["tag"], "plain_text");
        assert_eq!(card["card"]["elements"][1]["content"], "<at id=ou_1></at> <at email=a@b.c></at>");
        assert_eq!(card["card"]["elements"][2]["actions"][0]["url"], "https://platform.local/1");
    }

    #[test]
    fn a_text_mentions_only_whom_it_should() {
        let text = with(Look::Text, None);
        let text = text["content"]["text"].as_str().expect("text");
        assert!(
            text.contains("<at user_id=\"ou_1\"></at>")
                && !text.contains("\"all\"></at><at")
                && !text.contains("<at user_id=\"all\""),
            "{text}"
        );
    }

    #[test]
    fn the_code_in_the_body_decides() {
        assert_eq!(check(r#"{"code":0,"msg":"success"}"#), Ok(()));
        assert_eq!(check(r#"{"StatusCode":0,"StatusMessage":"success"}"#), Ok(()));
        assert!(matches!(check(r#"{"code":11232,"msg":"frequency limited"}"#), Err(Fault::Passing(_))));
        let error = check(r#"{"code":19021,"msg":"sign match fail"}"#).expect_err("refused");
        assert!(
            matches!(&error, Fault::Lasting(text) if text.contains("sign match fail") && text.contains("secretRef")),
            "{error:?}"
        );
        assert!(check("<html>").is_err() && check("{}").is_err());
    }
}
