//! Reading JSON objects the way the Java side writes and reads them.
//!
//! Fields tolerate absence and `null` alike, numeric strings for numbers, numbers for strings, `"false"` for booleans and
//! `12.7` for an integer; an object where a string belongs is an error that names the field. Integers
//! stay integers: an id never passes through a float.

use serde_json::{Map, Number, Value};

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub(crate) String);

impl WireError {
    fn field(name: &str, found: &Value, accepted: &str) -> Self {
        let mut text = found.to_string();
        if text.chars().count() > 60 {
            text = text.chars().take(60).chain("...".chars()).collect();
        }
        Self(format!("field `{name}` is {text}; {accepted} is accepted"))
    }
}

/// A message's fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object(Map<String, Value>);

impl From<Map<String, Value>> for Object {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

impl Object {
    /// Reads exactly one JSON object; nesting is limited to 128 levels.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(WireError("the body is empty; one JSON object is accepted".to_owned()));
        }
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(other) => Err(WireError(format!("the body is {}; one JSON object is accepted", kind(&other)))),
            Err(why) => Err(WireError(format!("the body is not valid JSON: {why}; one JSON object is accepted"))),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn opt_i64(&self, name: &str) -> Result<Option<i64>, WireError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = match value {
            Value::Number(number) => integer(number),
            Value::String(text) if text.trim().is_empty() => return Ok(None),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| WireError::field(name, value, "an integer of 64 bits"))
    }

    /// `null` and absence are 0, as for a Java primitive.
    pub(crate) fn i64(&self, name: &str) -> Result<i64, WireError> {
        Ok(self.opt_i64(name)?.unwrap_or(0))
    }

    pub(crate) fn required_i64(&self, name: &str) -> Result<i64, WireError> {
        self.opt_i64(name)?
            .ok_or_else(|| WireError(format!("field `{name}` is missing; an integer of 64 bits is needed")))
    }

    pub(crate) fn i32(&self, name: &str) -> Result<i32, WireError> {
        Ok(self.opt_i32(name)?.unwrap_or(0))
    }

    pub(crate) fn opt_i32(&self, name: &str) -> Result<Option<i32>, WireError> {
        let Some(number) = self.opt_i64(name)? else {
            return Ok(None);
        };
        i32::try_from(number)
            .map(Some)
            .map_err(|_| WireError(format!("field `{name}` is {number}; an integer of 32 bits is accepted")))
    }

    pub(crate) fn f64(&self, name: &str) -> Result<f64, WireError> {
        let Some(value) = self.get(name) else {
            return Ok(0.0);
        };
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| WireError::field(name, value, "a number"))
    }

    pub(crate) fn bool(&self, name: &str) -> Result<bool, WireError> {
        let Some(value) = self.get(name) else {
            return Ok(false);
        };
        match value {
            Value::Bool(flag) => Ok(*flag),
            Value::Number(number) => Ok(integer(number) != Some(0)),
            Value::String(text) if text.trim().is_empty() => Ok(false),
            Value::String(text) if text.trim().eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.trim().eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(WireError::field(name, value, "true or false")),
        }
    }

    pub(crate) fn opt_str(&self, name: &str) -> Result<Option<String>, WireError> {
        self.get(name).map(|value| scalar_text(name, value)).transpose()
    }

    pub(crate) fn required_str(&self, name: &str) -> Result<String, WireError> {
        self.opt_str(name)?.ok_or_else(|| WireError(format!("field `{name}` is missing; a string is needed")))
    }

    pub(crate) fn str(&self, name: &str) -> Result<String, WireError> {
        Ok(self.opt_str(name)?.unwrap_or_default())
    }

    pub(crate) fn list(&self, name: &str) -> Result<Vec<&Value>, WireError> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items.iter().filter(|item| !item.is_null()).collect()),
            Some(other) => Err(WireError::field(name, other, "a list")),
        }
    }

    pub(crate) fn strings(&self, name: &str) -> Result<Vec<String>, WireError> {
        self.list(name)?.into_iter().map(|item| scalar_text(name, item)).collect()
    }

    pub(crate) fn objects(&self, name: &str) -> Result<Vec<Self>, WireError> {
        self.list(name)?
            .into_iter()
            .map(|item| match item {
                Value::Object(map) => Ok(Self(map.clone())),
                other => Err(WireError::field(name, other, "a list of objects")),
            })
            .collect()
    }

    pub(crate) fn opt_object(&self, name: &str) -> Result<Option<Self>, WireError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self(map.clone()))),
            Some(other) => Err(WireError::field(name, other, "an object")),
        }
    }

    /// A flat map of strings; `null` values are left out.
    pub(crate) fn opt_string_map(
        &self,
        name: &str,
    ) -> Result<Option<std::collections::BTreeMap<String, String>>, WireError> {
        let Some(Self(map)) = self.opt_object(name)? else {
            return Ok(None);
        };
        map.iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| Ok((key.clone(), scalar_text(&format!("{name}.{key}"), value)?)))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

fn scalar_text(name: &str, value: &Value) -> Result<String, WireError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        other => Err(WireError::field(name, other, "a string")),
    }
}

/// An integer, or a fraction cut towards zero as Jackson does; a float too large to be exact is refused.
#[expect(clippy::cast_possible_truncation, reason = "the bound above the cast keeps it exact")]
fn integer(number: &Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| number.as_f64().filter(|f| f.abs() < EXACT && number.is_f64()).map(|f| f.trunc() as i64))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Gives a message type its reading from bytes and its serde form, both from its `read(&Object)`.
macro_rules! message {
    ($type:ty) => {
        impl $type {
            /// Reads the message from a request or answer body.
            ///
            /// # Errors
            /// When the body is not exactly one JSON object, or a field has a type that Java's coercions do not cover.
            pub fn parse(body: &[u8]) -> Result<Self, $crate::wire::WireError> {
                Self::read(&$crate::wire::object::Object::parse(body)?)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let map = serde_json::Map::deserialize(deserializer)?;
                Self::read(&map.into()).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use message;

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        Object::parse(text.as_bytes()).expect("an object")
    }

    #[test]
    fn java_coercions_are_understood() {
        let o = object(r#"{"a":"12","b":12.7,"c":3,"d":"false","e":1.5,"f":null,"g":true,"h":""}"#);
        assert_eq!(o.i64("a"), Ok(12));
        assert_eq!(o.i64("b"), Ok(12));
        assert_eq!(o.opt_str("c"), Ok(Some("3".to_owned())));
        assert_eq!(o.bool("d"), Ok(false));
        assert_eq!(o.f64("e"), Ok(1.5));
        assert_eq!(o.i64("f"), Ok(0));
        assert_eq!(o.opt_str("f"), Ok(None));
        assert_eq!(o.opt_str("absent"), Ok(None));
        assert_eq!(o.opt_str("g"), Ok(Some("true".to_owned())));
        assert_eq!(o.opt_i64("h"), Ok(None));
    }

    #[test]
    fn an_object_where_a_string_belongs_is_an_error_that_names_the_field() {
        let why = object(r#"{"jobParams":{"a":1}}"#).opt_str("jobParams").expect_err("an object");
        assert_eq!(why.to_string(), r#"field `jobParams` is {"a":1}; a string is accepted"#);
    }

    #[test]
    fn ids_beyond_2_to_the_53_stay_exact_and_float_ids_are_refused() {
        assert_eq!(object(r#"{"id":1004402621408084033}"#).required_i64("id"), Ok(1_004_402_621_408_084_033));
        assert_eq!(object(r#"{"id":"1004402621408084033"}"#).required_i64("id"), Ok(1_004_402_621_408_084_033));
        assert!(object(r#"{"id":1.004402621408084e18}"#).required_i64("id").is_err());
        assert!(object(r#"{"id":9223372036854775808}"#).required_i64("id").is_err());
    }

    #[test]
    fn trailing_tokens_non_objects_and_deep_nesting_are_errors() {
        for body in ["{} {}", "{}x", "[]", "1", "null", "\"a\"", "", "  ", "{\"a\":", "{'a':1}x"] {
            assert!(Object::parse(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Object::parse(deep.as_bytes()).is_err());
    }
}
