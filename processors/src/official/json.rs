//! JSON as leniently as the Java processors' reader takes it: single quotes, names without quotes, comments, commas too
//! many, line breaks inside of strings, `\x41`, unknown escapes refused. No JSON5 reader takes all of these.

use serde_json::{Map, Number, Value};

/// Deeper nesting is an attack or a mistake.
const DEPTH: usize = 128;

/// Reads one value; nothing but blanks and comments may follow.
///
/// # Errors
/// What was found where, for the writer of the parameters.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), text, depth: 0 };
    let value = reader.value()?;
    reader.skip()?;
    if reader.rest.is_empty() { Ok(value) } else { Err(reader.says("something follows the value")) }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn says(&self, what: &str) -> String {
        let at = self.text.len() - self.rest.len();
        let line = self.text[..at].matches('\n').count() + 1;
        let column = self.text[..at].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("no JSON: {what} at line {line} column {column}")
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Blanks and comments.
    fn skip(&mut self) -> Result<(), String> {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{8}' || c == '\u{feff}');
            if self.rest.starts_with("//") {
                self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(inside) = self.rest.strip_prefix("/*") {
                let Some((_, rest)) = inside.split_once("*/") else {
                    return Err(self.says("a comment has no end"));
                };
                self.rest = rest;
            } else {
                return Ok(());
            }
        }
    }

    /// Blanks, comments and any number of commas.
    fn skip_commas(&mut self) -> Result<(), String> {
        self.skip()?;
        while self.peek() == Some(',') {
            self.take();
            self.skip()?;
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Value, String> {
        self.skip()?;
        match self.peek() {
            Some('{') => self.nested(Self::object),
            Some('[') => self.nested(Self::array),
            Some(quote @ ('"' | '\'')) => self.string(quote).map(Value::String),
            Some(c) if c == '-' || c.is_ascii_digit() => self.number(),
            Some(_) => match self.word() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                "null" | "undefined" | "NaN" => Ok(Value::Null),
                "" => Err(self.says("an unexpected character")),
                _ => Err(self.says("a word without quotes before this point")),
            },
            None => Err(self.says("the end of the text")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, String>) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.says("too deep a nesting"));
        }
        self.take();
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Value, String> {
        let mut map = Map::new();
        loop {
            self.skip_commas()?;
            let name = match self.peek() {
                Some('}') => {
                    self.take();
                    return Ok(Value::Object(map));
                }
                Some(quote @ ('"' | '\'')) => self.string(quote)?,
                Some(_) => match self.word() {
                    "" => return Err(self.says("no name of a member")),
                    word => word.to_owned(),
                },
                None => return Err(self.says("the end of the text inside an object")),
            };
            self.skip()?;
            if self.take() != Some(':') {
                return Err(self.says(&format!("no colon behind the name `{name}`")));
            }
            let value = self.value()?;
            map.insert(name, value);
            self.skip()?;
            if !matches!(self.peek(), Some(',' | '}')) {
                return Err(self.says("neither a comma nor the end of the object"));
            }
        }
    }

    fn array(&mut self) -> Result<Value, String> {
        let mut list = Vec::new();
        loop {
            self.skip_commas()?;
            match self.peek() {
                Some(']') => {
                    self.take();
                    return Ok(Value::Array(list));
                }
                None => return Err(self.says("the end of the text inside a list")),
                Some(_) => list.push(self.value()?),
            }
            self.skip()?;
            if !matches!(self.peek(), Some(',' | ']')) {
                return Err(self.says("neither a comma nor the end of the list"));
            }
        }
    }

    /// A name or a literal without quotes.
    fn word(&mut self) -> &str {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '.')));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn string(&mut self, quote: char) -> Result<String, String> {
        self.take();
        let mut out = String::new();
        // UTF-16 halves that wait for each other.
        let mut half: Option<u16> = None;
        loop {
            let c = self.take().ok_or_else(|| self.says("the end of the text inside a string"))?;
            let mut unit = None;
            match c {
                '\\' => match self.escape()? {
                    Escaped::Char(c) => unit = Some(Ok(c)),
                    Escaped::Unit(u) => unit = Some(Err(u)),
                },
                c if c == quote => {
                    out.extend(half.map(|_| '\u{fffd}'));
                    return Ok(out);
                }
                c => {
                    out.extend(half.take().map(|_| '\u{fffd}'));
                    out.push(c);
                }
            }
            match (unit, half) {
                (None, _) => {}
                (Some(Err(low @ 0xDC00..=0xDFFF)), Some(high)) => {
                    out.extend(char::decode_utf16([high, low]).flatten());
                    half = None;
                }
                (Some(unit), waiting) => {
                    out.extend(waiting.map(|_| '\u{fffd}'));
                    half = None;
                    match unit {
                        Ok(c) => out.push(c),
                        Err(u @ 0xD800..=0xDBFF) => half = Some(u),
                        Err(u) => out.push(char::from_u32(u32::from(u)).unwrap_or('\u{fffd}')),
                    }
                }
            }
        }
    }

    fn escape(&mut self) -> Result<Escaped, String> {
        let c = self.take().ok_or_else(|| self.says("the end of the text inside a string"))?;
        let plain = match c {
            '"' | '\'' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' | 'F' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '0'..='7' => char::from(c as u8 - b'0'),
            'x' => return self.hex(2).map(Escaped::Unit),
            'u' => return self.hex(4).map(Escaped::Unit),
            other => return Err(self.says(&format!("an unknown escape `\\{other}` before this point"))),
        };
        Ok(Escaped::Char(plain))
    }

    fn hex(&mut self, digits: usize) -> Result<u16, String> {
        let found = self.rest.get(..digits).and_then(|text| u16::from_str_radix(text, 16).ok());
        let unit = found.ok_or_else(|| self.says(&format!("an escape without {digits} hexadecimal digits")))?;
        self.rest = &self.rest[digits..];
        Ok(unit)
    }

    fn number(&mut self) -> Result<Value, String> {
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E')));
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok();
        let number = whole.or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64));
        let number = number.ok_or_else(|| self.says(&format!("`{text}` is no number")))?;
        // Java's type letters.
        self.rest = rest.strip_prefix(['L', 'S', 'B', 'F', 'D']).unwrap_or(rest);
        Ok(Value::Number(number))
    }
}

enum Escaped {
    Char(char),
    Unit(u16),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_javas_reader_lets_pass_is_read() {
        for (text, wanted) in [
            (r#"{"a":1,"b":[true,null,-2.5e3]}"#, json!({"a": 1, "b": [true, null, -2500.0]})),
            ("{'a': 'x', b_1: \"y\", $c-d: 'z',}", json!({"a": "x", "b_1": "y", "$c-d": "z"})),
            ("{,,'a':1,,,'b':[,1,,2,],}", json!({"a": 1, "b": [1, 2]})),
            ("// head\n{ /* in */ 'a' /*x*/ : 1 // tail\n}\n/* end */", json!({"a": 1})),
            ("{\"sql\":\"select 1;\nselect 2\"}", json!({"sql": "select 1;\nselect 2"})),
            (r#"['\x41\u4f60\'\"\v\/', "\ud83d\ude80", "\ud83d!"]"#, json!(["A你'\"\u{b}/", "🚀", "\u{fffd}!"])),
            (r#"{"a":1,"a":2}"#, json!({"a": 2})),
            ("[12L, 1.5F, 007]", json!([12, 1.5, 7])),
            ("\u{feff}  'text' ", json!("text")),
            ("[18446744073709551615, NaN, undefined]", json!([u64::MAX, null, null])),
        ] {
            assert_eq!(parse(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for (text, place) in [
            ("", "the end of the text at line 1 column 1"),
            ("{\"a\":\n 1 2}", "neither a comma nor the end of the object at line 2 column 4"),
            ("{a 1}", "no colon behind the name `a`"),
            ("{\"a\":hello}", "a word without quotes"),
            ("[1,2", "neither a comma nor the end of the list"),
            ("'abc", "inside a string"),
            ("{} x", "something follows"),
            ("/* x", "a comment has no end"),
            (r#""\q""#, "unknown escape"),
            (r#""\u12""#, "4 hexadecimal digits"),
            ("1-2", "`1-2` is no number"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(place), "{text}: {error}");
        }
        assert!(parse(&"[".repeat(100_000)).expect_err("deep").contains("too deep"));
    }
}
