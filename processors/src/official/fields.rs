//! Members of a JSON object as the Java processors' reader finds and converts them.

use serde_json::{Map, Value};

/// An object whose members are found by name, else by the name without case, `_` and `-`.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the object that a text holds; a blank text and `null` are none.
    ///
    /// # Errors
    /// It is no JSON, or no object.
    pub(super) fn read(text: Option<&str>) -> Result<Option<Self>, String> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        match super::json::parse(text)? {
            Value::Null => Ok(None),
            Value::Object(map) => Ok(Some(Self(map))),
            other => Err(format!("a JSON object is expected, found {other}")),
        }
    }

    /// Of a value that is an object already.
    pub(super) fn of(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// All members as they stand.
    pub(super) fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A member that is not null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let exact = self.0.get(name);
        let plain = |name: &str| name.replace(['_', '-'], "").to_lowercase();
        let found = exact.or_else(|| self.0.iter().find(|(key, _)| plain(key) == plain(name)).map(|(_, value)| value));
        found.filter(|value| !value.is_null())
    }

    /// Its text; numbers, objects and lists are taken as their JSON.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// The same, an empty one counting as none.
    pub(super) fn some_text(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// A whole number; one in a text, too.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) if text.trim().is_empty() => return Ok(None),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| format!("`{name}` is {value}; accepted: a whole number"))
    }

    /// Yes or no; also as text or as 1 and 0.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let flag = match value {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => number.as_i64().map(|number| number == 1),
            Value::String(text) => match text.trim().to_lowercase().as_str() {
                "" => return Ok(None),
                "true" | "1" | "y" | "yes" => Some(true),
                "false" | "0" | "n" | "no" => Some(false),
                _ => None,
            },
            _ => None,
        };
        flag.map(Some).ok_or_else(|| format!("`{name}` is {value}; accepted: true or false"))
    }
}

/// A float that stands for a whole number, cut as Java cuts it.
fn whole(number: f64) -> Option<i64> {
    // Within these bounds the cast is exact.
    (number.abs() < 9e15).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_and_converted_as_java_does() {
        let fields = Fields::read(Some(
            "{Data_Source-name: 5, timeout: '30', showResult: 'true', n: null, body: {a: 1}, f: 2.0}",
        ))
        .expect("valid")
        .expect("an object");
        assert_eq!(fields.text("dataSourceName").as_deref(), Some("5"));
        assert_eq!((fields.int("timeout"), fields.int("f")), (Ok(Some(30)), Ok(Some(2))));
        assert_eq!(fields.flag("show_result"), Ok(Some(true)));
        assert_eq!((fields.text("n"), fields.text("missing")), (None, None));
        assert_eq!(fields.text("body").as_deref(), Some(r#"{"a":1}"#));
        assert!(fields.int("body").expect_err("object").contains("`body`"));
        assert!(fields.flag("body").is_err());
        assert!(
            Fields::read(Some("  ")).expect("none").is_none() && Fields::read(Some("null")).expect("none").is_none()
        );
        assert!(Fields::read(Some("[1]")).err().is_some_and(|error| error.contains("JSON object")));
    }
}
