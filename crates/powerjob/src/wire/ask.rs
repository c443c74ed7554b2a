//! `AskResponse`: the answer to every question of the protocol.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};
use serde::Serialize;

use super::object::{Object, WireError, message};

/// Answer with a payload of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AskResponse {
    /// Outcome.
    pub success: bool,
    /// Payload: the JSON text of an object or list, or the raw text of a string; base64url without padding on the wire.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_base64")]
    pub data: Option<Vec<u8>>,
    /// Error text when `success` is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

message!(AskResponse);

impl AskResponse {
    /// A success that carries this value as JSON.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn of<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { success: true, data: Some(serde_json::to_vec(value)?), message: None })
    }

    /// A failure with its text.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { success: false, data: None, message: Some(message.into()) }
    }

    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        let data = match o.opt_str("data")? {
            None => None,
            Some(text) => Some(
                decode_base64(&text)
                    .ok_or_else(|| WireError("field `data` is not base64; base64url is accepted".to_owned()))?,
            ),
        };
        Ok(Self { success: o.bool("success")?, data, message: o.opt_str("message")? })
    }
}

fn write_base64<S: serde::Serializer>(data: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match data {
        Some(bytes) => serializer.serialize_str(&encode_base64(bytes)),
        None => serializer.serialize_none(),
    }
}

/// Base64url without padding, the only form that the Java side accepts for every payload.
pub fn encode_base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url or standard base64, with or without padding.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
    ENGINE.decode(text.trim().replace('+', "-").replace('/', "_")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_02_byte_fields_are_written_as_base64url_without_padding_and_read_in_both_alphabets() {
        let bytes = [0xfb, 0xff, 0xfe, 0x3e];
        assert_eq!(encode_base64(&bytes), "-__-Pg");
        for text in ["-__-Pg", "-__-Pg==", "+//+Pg", "+//+Pg=="] {
            assert_eq!(decode_base64(text).as_deref(), Some(&bytes[..]), "{text}");
        }
        assert_eq!(decode_base64("*"), None);
    }

    #[test]
    fn trap_03_data_is_the_json_text_in_base64url_and_not_nested_json() {
        let text = r#"{"success":true,"data":"WyIxMC4wLjAuNToyNzc3NyIsIjEwLjAuMC42OjI3Nzc3Il0"}"#;
        let answer = AskResponse::parse(text.as_bytes()).expect("the recorded answer");
        assert_eq!(answer.data.as_deref(), Some(&br#"["10.0.0.5:27777","10.0.0.6:27777"]"#[..]));
        let own = AskResponse::of(&["10.0.0.5:27777", "10.0.0.6:27777"]).expect("JSON");
        assert_eq!(serde_json::to_string(&own).expect("JSON"), text);
        assert!(AskResponse::parse(br#"{"success":true,"data":{"a":1}}"#).is_err());
    }

    #[test]
    fn a_failure_has_a_message_and_no_data() {
        let text = r#"{"success":false,"message":"can't find TaskTracker"}"#;
        assert_eq!(serde_json::to_string(&AskResponse::failure("can't find TaskTracker")).expect("JSON"), text);
        let old = AskResponse::parse(br#"{"success":true,"data":null,"message":null}"#).expect("nulls");
        assert_eq!(old, AskResponse { success: true, data: None, message: None });
    }
}
